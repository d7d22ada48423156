// A memory budget that is too small for anything: what is needed is fetched again, whole.
import assert from "node:assert/strict";

const RECORDS = 2_000;

/** In the page: a backend with this many records, and ways to begin with them. */
function addPool(records) {
  const id = (n) => `r${String(n).padStart(5, "0")}`;
  const pool = { id, down: false, version: 1 };
  const page = (from, version) =>
    Array.from({ length: 500 }, (_, at) => ({
      type: "sites",
      id: id(from + at),
      versionNumber: version,
      data: { id: id(from + at), name: `of the server, ${version}` },
    })).filter((_, at) => version === 1 || at % 5 < 3);
  pool.backend = {
    async push(changes) {
      if (pool.down) throw new TypeError("offline");
      const result = ({ id, offlineId, versionNumber }) => ({
        id,
        offlineId,
        versionNumber: versionNumber + 1,
        status: "success",
      });
      return { results: changes.map(result) };
    },
    async pull(since) {
      if (pool.down) throw new TypeError("offline");
      const [version, from] = (since ?? "1:0").split(":").map(Number);
      if (from < records) {
        return {
          changes: page(from, version),
          checkpoint: `${version}:${from + 500}`,
          hasMore: true,
        };
      }
      const more = version < pool.version;
      return {
        changes: [],
        checkpoint: more ? `${pool.version}:0` : since,
        hasMore: more,
      };
    },
  };
  pool.open = (name, user, more) =>
    window.landfall.open({
      name,
      user,
      backend: pool.backend,
      collections: { sites: { key: "id" }, others: { key: "id", localOnly: true } },
      memory: 0,
      rescue: false,
      ...more,
    });
  /** Pulled, and in segments. */
  pool.begin = async (...how) => {
    const db = await pool.open(...how);
    await db.waitFor((status) => status.leader);
    await db.whenSynced();
    await db.compact();
    return db;
  };
  /** Writes go on while this is done: after each, all that can go is let go. */
  pool.meanwhile = async (db, work) => {
    const others = db.collection("others");
    let isOver = false;
    const over = work.finally(() => (isOver = true));
    for (let n = 0; !isOver; n += 1) await others.put({ id: `${n % 50}` });
    return over;
  };
  pool.updateAll = (db) => {
    const patch = { name: "mine" };
    const all = Array.from({ length: records }, (_, n) => ({ key: id(n), patch }));
    return db.collection("sites").updateMany(all);
  };
  window.pool = pool;
}

async function start(rig) {
  const page = await rig.tab();
  await page.addInitScript(addPool, RECORDS);
  await page.reload();
  return page;
}

/** Queued updates are folded with what they were made on, also while others write. */
async function foldedWhole(rig) {
  const page = await start(rig);
  await page.evaluate(async (user) => {
    const db = await window.pool.begin("folded", user);
    db.pause();
    await window.pool.updateAll(db);
    await window.pool.meanwhile(db, db.compact());
    await db.close();
  }, rig.user);
  await rig.goToLab(page);
  const seen = await page.evaluate(async (user) => {
    const db = await window.pool.open("folded", user, { autoStart: false });
    const { mutations } = await db.exportUnsynced();
    const whole = mutations.filter(({ base, remote }) => base && remote);
    const [{ id, key }] = await db.outbox.list({ limit: 1 });
    await db.outbox.discard(id);
    const { name } = await db.collection("sites").get(key);
    return [mutations.length, whole.length, name];
  }, rig.user);
  assert.deepEqual(seen, [RECORDS, RECORDS, "of the server, 1"]);
}

/** Records that were let go are folded, also while others write. */
async function foldedAgain(rig) {
  const page = await start(rig);
  const seen = await page.evaluate(async (user) => {
    const db = await window.pool.begin("again", user);
    window.pool.version = 2;
    await db.sync();
    await window.pool.meanwhile(db, db.compact());
    const all = await db.collection("sites").all();
    const count = (version) => all.filter(({ name }) => name.endsWith(version)).length;
    return [all.length, count(1), count(2)];
  }, rig.user);
  assert.deepEqual(seen, [RECORDS, (RECORDS * 2) / 5, (RECORDS * 3) / 5]);
}

/** What queued changes were made on is still there when nothing else needs its segment. */
async function baseSwept(rig) {
  const page = await start(rig);
  const seen = await page.evaluate(async (user) => {
    const db = await window.pool.begin("swept", user);
    const [sites, others] = ["sites", "others"].map((name) => db.collection(name));
    window.pool.down = true;
    await window.pool.updateAll(db);
    await db.compact();
    await sites.all();
    await others.put({ id: "o" });
    await others.put({ id: "p" });
    const [{ id, key }] = await db.outbox.list({ limit: 1 });
    await db.outbox.discard(id);
    const discarded = (await sites.get(key)).name;
    await sites.update(window.pool.id(9), { name: "again" });
    const exported = (await db.exportUnsynced()).mutations.filter(({ base }) => base).length;
    window.pool.down = false;
    await db.sync();
    await db.whenSynced();
    await db.compact();
    const names = (await sites.all()).map(({ name }) => name);
    const count = (name) => names.filter((it) => it === name).length;
    return [discarded, exported, count("mine"), count("again"), db.status.error];
  }, rig.user);
  assert.deepEqual(seen, ["of the server, 1", RECORDS - 1, RECORDS - 2, 1, null]);
}

export const memory = [
  { name: "little memory: queued changes are folded while others write", run: foldedWhole },
  { name: "little memory: records are folded again while others write", run: foldedAgain },
  { name: "little memory: what is queued outlives the segments of its bases", run: baseSwept },
];
