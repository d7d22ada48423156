// A backend that gives records keys of its own. It lives in the page, and keeps what it has in the
// page's localStorage, so that it is still there after a reload; everything else is the real package.
import assert from "node:assert/strict";
import { eventually } from "../lib/within.mjs";

/** Runs in the page: opens `db` with such a backend. `map`: whether it resolves references itself. */
function openAssigning({ user, map }) {
  const load = () =>
    JSON.parse(localStorage.server ?? '{"seq":0,"rows":{},"keys":{},"answers":{}}');
  const server = { ...load(), offline: false, loseAnswers: 0, received: [] };
  const save = () => {
    const { seq, rows, keys, answers } = server;
    localStorage.server = JSON.stringify({ seq, rows, keys, answers });
  };
  function apply(change) {
    const { id, type, action, offlineId, data = {}, changed, at } = change;
    const created = action === "create";
    const key = created ? `srv-${server.seq + 1}` : offlineId;
    const place = `${type}/${key}`;
    const old = server.rows[place];
    if (!created && !old?.data)
      return { id, offlineId, status: "failed", code: "not-found", message: "no such record" };
    const row = { type, id: key, versionNumber: (old?.versionNumber ?? 0) + 1, at };
    row.seq = ++server.seq;
    if (action === "delete") row.deleted = true;
    else row.data = { ...(changed ? old.data : {}), ...data, id: key };
    const own = map && server.keys[row.data?.siteId];
    if (own) row.data.siteId = own;
    if (created) server.keys[offlineId] = key;
    server.rows[place] = row;
    const { versionNumber } = row;
    const answer = { id, offlineId, serverId: key, status: "success", versionNumber };
    return own ? { ...answer, data: row.data } : answer;
  }
  const backend = {
    push: async (changes) => {
      if (server.offline) throw new Error("offline");
      server.received.push(...changes);
      const results = changes.map((change) => (server.answers[change.id] ??= apply(change)));
      save();
      if (server.loseAnswers-- > 0) throw new Error("the answer is lost");
      return { results };
    },
    pull: async (checkpoint) => {
      if (server.offline) throw new Error("offline");
      const rows = Object.values(server.rows).filter(({ seq }) => seq > Number(checkpoint ?? 0));
      rows.sort((a, b) => a.seq - b.seq);
      const changes = rows.map(({ seq, ...row }) => row);
      return { changes, checkpoint: String(server.seq), hasMore: false };
    },
  };
  const collections = {
    sites: { key: "id", indexes: ["name"] },
    assessments: { key: "id", indexes: ["siteId"], references: { siteId: "sites" } },
  };
  window.server = server;
  return window.landfall
    .open({ name: "lab", user, backend, collections, interval: 0 })
    .then((db) => {
      window.db = db;
      window.lab.sites = db.collection("sites");
      window.lab.assessments = db.collection("assessments");
      window.rekeyed = [];
      db.on("rekeyed", (it) => window.rekeyed.push(it));
    });
}

const begin = async (rig, page, map) => page.evaluate(openAssigning, { user: rig.user, map });
const serverRows = (page) =>
  page.evaluate(() => Object.values(window.server.rows).filter(({ deleted }) => !deleted));

/** What the device has is what the server has. */
async function same(page) {
  const mine = await page.evaluate(async () => [
    ...(await window.lab.sites.all()),
    ...(await window.lab.assessments.all()),
  ]);
  const theirs = (await serverRows(page)).map(({ data }) => data);
  const sorted = (list) => list.toSorted((a, b) => (a.id < b.id ? -1 : 1));
  assert.deepEqual(sorted(mine), sorted(theirs));
}

const moves = (map) => async (rig) => {
  const page = await rig.tab();
  await begin(rig, page, map);
  const seen = await page.evaluate(async () => {
    const { sites, assessments, synced } = window.lab;
    await synced();
    window.server.offline = true;
    const seen = { rows: [], one: [] };
    await sites.create({ id: "local-1", name: "Brunnen" });
    await assessments.create({ id: "a-1", siteId: "local-1", score: 1 });
    sites.record("local-1").subscribe((record) => seen.one.push(record?.id));
    const query = { index: "siteId", equals: "local-1" };
    assessments.subscribe(query, (rows) => seen.rows.push(rows.length));
    const waiting = (await window.db.outbox.list()).map(({ key, waitsFor, blockedBy }) => ({
      key,
      waits: waitsFor !== null,
      blockedBy,
    }));
    window.server.offline = false;
    await window.db.sync();
    await synced();
    // The old key everywhere that an app may still have it.
    await sites.update("local-1", { name: "Quelle" });
    await assessments.create({ id: "a-2", siteId: "local-1", score: 2 });
    await sites.put({ id: "local-1", name: "Quelle", note: "dry" });
    await window.db.transaction(async (tx) => {
      const site = await tx.collection("sites").get("local-1");
      await tx.collection("sites").update("local-1", { visits: 1 });
      const again = await tx.collection("sites").get(site.id);
      if (again.visits !== 1) throw new Error("reads see the transaction's own writes");
    });
    await synced();
    const [site] = await sites.all();
    return {
      ...seen,
      waiting,
      site,
      byOld: await sites.get("local-1"),
      state: sites.state("local-1"),
      refers: (await assessments.all()).map(({ siteId }) => siteId),
      found: await assessments.count(query),
      rekeyed: window.rekeyed,
      received: window.server.received,
    };
  });
  const { site } = seen;
  assert.match(site.id, /^srv-/);
  assert.deepEqual(site, { id: site.id, name: "Quelle", note: "dry", visits: 1 });
  assert.deepEqual(seen.byOld, site);
  assert.equal(seen.state, "synced");
  assert.deepEqual(seen.refers, [site.id, site.id]);
  assert.equal(seen.found, 2);
  assert.deepEqual(seen.waiting, [
    { key: "local-1", waits: false, blockedBy: null },
    { key: "a-1", waits: true, blockedBy: null },
  ]);
  assert.deepEqual(seen.rekeyed[0], { collection: "sites", from: "local-1", to: site.id });
  assert.ok(seen.one.every((id) => id === "local-1" || id === site.id));
  assert.equal(seen.one.at(-1), site.id, "a live record goes on");
  assert.ok(!seen.rows.slice(1).includes(0), `a live query goes on: ${seen.rows}`);
  const later = seen.received.filter(({ type, action }) => type === "sites" && action !== "create");
  assert.ok(later.length > 0);
  for (const { serverId, offlineId } of later)
    assert.deepEqual([serverId, offlineId], [site.id, site.id]);
  for (const { data } of seen.received.filter(({ type }) => type === "assessments"))
    assert.equal(data.siteId, site.id, "never sent with the old key");
  await same(page);
  return { page, site };
};

async function afterReload(rig) {
  const { page, site } = await moves(false)(rig);
  await page.evaluate(() => window.db.compact());
  for (let times = 0; times < 2; times += 1) {
    await page.evaluate(() => window.db.close());
    await rig.goToLab(page);
    await begin(rig, page, false);
    const seen = await page.evaluate(() => window.lab.sites.get("local-1"));
    assert.deepEqual(seen, site, "after a reload, and after a compaction");
  }
  await page.evaluate(async () => {
    await window.lab.sites.delete("local-1");
    await window.lab.synced();
  });
  assert.equal((await serverRows(page)).filter(({ type }) => type === "sites").length, 0);
}

async function lostAnswer(rig) {
  const page = await rig.tab();
  await begin(rig, page, false);
  await page.evaluate(async () => {
    const { sites, synced } = window.lab;
    await synced();
    window.server.loseAnswers = 1;
    await Promise.all([1, 2, 3].map((n) => sites.create({ id: `local-${n}`, name: `Site ${n}` })));
    await synced(20_000);
  });
  await eventually("three records, none of them twice", async () => {
    const all = await page.evaluate(() => window.lab.sites.all());
    return all.length === 3 && all.every(({ id }) => id.startsWith("srv-"));
  });
  for (const n of [1, 2, 3]) {
    const found = await page.evaluate((key) => window.lab.sites.get(key), `local-${n}`);
    assert.equal(found.name, `Site ${n}`);
  }
  const received = await page.evaluate(() => window.server.received.length);
  assert.equal(received, 3, "a pull has told; nothing was sent twice");
  await same(page);
}

/** Another tab on the same database follows, whichever of them syncs. */
async function otherTab(rig) {
  const context = await rig.device();
  const [one, two] = [await rig.tab(context), await rig.tab(context)];
  await begin(rig, one, false);
  await begin(rig, two, false);
  await two.evaluate(() => window.lab.sites.create({ id: "local-9", name: "Nine" }));
  const found = await eventually("the other tab knows both keys", () =>
    two.evaluate(async () => {
      const record = await window.lab.sites.get("local-9");
      return record.id !== "local-9" && record;
    }),
  );
  await two.evaluate(() => window.lab.sites.update("local-9", { name: "Neun" }));
  await eventually("and so does the first", () =>
    one.evaluate(async (key) => {
      const [byOld, byNew] = await window.lab.sites.getMany(["local-9", key]);
      return byOld?.name === "Neun" && byNew?.name === "Neun";
    }, found.id),
  );
}

export const rekey = [
  { name: "keys of the server: a record moves, the old key stands for it", run: moves(false) },
  { name: "keys of the server: one that resolves references itself", run: moves(true) },
  { name: "keys of the server: after a reload and a compaction", run: afterReload },
  { name: "keys of the server: a lost answer makes no second record", run: lostAnswer },
  { name: "keys of the server: another tab follows", run: otherTab },
];
