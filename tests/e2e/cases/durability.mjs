// What was acknowledged stays: over reloads, kills, lost answers and a newer database.
import assert from "node:assert/strict";
import { launchKillable, makeProfile, removeProfile } from "../lib/chromium.mjs";
import { byName, differences, living } from "../lib/compare.mjs";
import { BATCH, PULL } from "../lib/fault-proxy.mjs";
import { addLab } from "../lib/lab.mjs";

const KILLED_WRITES = 40;

const site = { id: "s1", name: "Quelle am Hang" };

async function madeOffline(rig) {
  const context = await rig.device();
  const page = await rig.tab(context);
  await rig.open(page);
  await page.evaluate(() => window.lab.synced());
  await rig.proxy.cut();
  await page.evaluate((record) => window.lab.sites.create(record), site);
  await rig.install(context);
  await rig.goToLab(page);
  await rig.open(page);
  const there = await page.evaluate(async () => ({
    record: await window.lab.sites.get("s1"),
    state: window.lab.sites.state("s1"),
    stats: await window.db.outbox.stats(),
  }));
  assert.deepEqual(there.record, site);
  // A try to send it may be under way; it cannot succeed.
  assert.ok(["pending", "syncing"].includes(there.state), `it is ${there.state}`);
  assert.equal(there.stats.total, 1);
  assert.equal((await rig.records()).size, 0);

  await rig.proxy.heal();
  // Nobody says that the network is back: landfall has to find out.
  await page.evaluate(() =>
    window.lab.waitFor("s.outbox.pending + s.outbox.syncing === 0", 30_000),
  );
  const records = await rig.records();
  assert.equal(records.size, 1);
  assert.deepEqual(records.get("sites/s1").data, site);
  assert.equal(records.get("sites/s1").versionNumber, 1);
  assert.equal(await page.evaluate(() => window.lab.sites.state("s1")), "synced");
}

async function answersLost(rig) {
  const page = await rig.tab();
  await rig.open(page);
  await page.evaluate(() => window.lab.synced());
  const rule = rig.faults.on(
    BATCH,
    async ({ forward, drop }) => {
      assert.equal((await forward()).status, 200);
      drop();
    },
    2,
  );
  await page.evaluate((record) => window.lab.sites.create(record), site);
  await page.evaluate(() =>
    window.lab.waitFor("s.outbox.pending + s.outbox.syncing === 0", 30_000),
  );
  assert.equal(rule.used, 2);
  const sent = rig.faults.requests.filter(({ path }) => path.endsWith("/batch"));
  const ids = sent.flatMap(({ body }) => body.changes.map(({ id }) => id));
  assert.ok(sent.length >= 3, `sent ${sent.length} times`);
  assert.equal(new Set(ids).size, 1, "the same mutation, under the same id");
  assert.equal((await rig.records()).get("sites/s1").versionNumber, 1);
  assert.equal((await page.evaluate(() => window.db.conflicts.list())).length, 0);
}

/** Every third request is lost, and every third answer, while someone writes and edits. */
async function badNetwork(rig) {
  const page = await rig.tab();
  await rig.open(page);
  await page.evaluate(() => window.lab.synced());
  let turn = 0;
  for (const match of [BATCH, PULL]) {
    rig.faults.on(match, async ({ forward, answer, drop }) => {
      turn += 1;
      if (turn % 3 === 0) return drop();
      const { status, headers, body } = await forward();
      return turn % 3 === 1 ? drop() : answer(status, headers, body);
    });
  }
  const count = 60;
  await page.evaluate(async (all) => {
    for (let index = 0; index < all; index += 1) {
      await window.lab.sites.create({ id: `s${index}`, name: "new", edits: 0 });
      if (index % 2 === 0) await window.lab.sites.update(`s${index / 2}`, { edits: index + 1 });
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }, count);
  const held = await page.evaluate(() => window.lab.sites.all());
  await page.evaluate(() =>
    window.lab.waitFor("s.outbox.pending + s.outbox.syncing === 0", 45_000),
  );
  const records = await rig.records();
  assert.ok(turn >= 6, `the network was bad ${turn} times`);
  assert.equal(held.length, count);
  assert.deepEqual(differences(byName({ sites: held }), living(records), "server"), []);
  assert.equal((await page.evaluate(() => window.db.conflicts.list())).length, 0);
  for (const [name, { versionNumber }] of records) {
    // A create, and at most one edit that came after it had been sent.
    assert.ok(versionNumber <= 2, `${name} has version ${versionNumber}`);
  }
}

/** SIGKILL right after the last acknowledgement, with more writes on their way. */
async function killed(rig) {
  const profile = await makeProfile();
  rig.undo.push(() => removeProfile(profile));
  const first = await launchKillable(rig.options, profile);
  rig.undo.push(first.kill);
  const page = await first.context.newPage();
  await page.addInitScript(addLab);
  await rig.goToLab(page);
  await rig.open(page, { autoStart: false });
  const acknowledged = [];
  await page.exposeFunction("acknowledge", (id) => acknowledged.push(id));
  const enough = new Promise((resolve) => {
    page.exposeFunction("enough", resolve);
  });
  page
    .evaluate(async (count) => {
      for (let index = 0; ; index += 1) {
        await window.lab.sites.create({ id: `s${index}`, name: `Site ${index}` });
        await window.acknowledge(`s${index}`);
        if (index === count) window.enough();
      }
    }, KILLED_WRITES)
    .catch(() => {});
  await enough;
  await first.kill();
  assert.ok(acknowledged.length >= KILLED_WRITES);

  const second = await launchKillable(rig.options, profile);
  rig.undo.push(second.kill);
  const again = await second.context.newPage();
  await again.addInitScript(addLab);
  await rig.goToLab(again);
  await rig.open(again, { autoStart: false });
  const there = await again.evaluate(async () => ({
    records: await window.lab.sites.all(),
    queued: await window.db.outbox.list(),
    stats: await window.db.outbox.stats(),
  }));
  const queued = new Map(there.queued.map(({ key, action, state }) => [key, { action, state }]));
  const names = new Map(there.records.map(({ id, name }) => [id, name]));
  for (const id of acknowledged) {
    assert.equal(names.get(id), `Site ${id.slice(1)}`, `${id} is lost`);
    assert.deepEqual(queued.get(id), { action: "create", state: "pending" });
  }
  assert.equal(there.stats.total, there.records.length, "records and queue agree");

  await again.evaluate(() => window.db.resume());
  await again.evaluate(() => window.lab.synced());
  const records = await rig.records();
  assert.equal(records.size, there.records.length);
  for (const { versionNumber } of records.values()) assert.equal(versionNumber, 1);
}

async function newerDatabase(rig) {
  const page = await rig.tab();
  await rig.open(page, { autoStart: false });
  await page.evaluate((record) => window.lab.sites.create(record), site);
  await page.evaluate(() => window.db.close());
  const look = () =>
    page.evaluate(async (user) => {
      const all = await indexedDB.databases();
      const { name } = all.find((one) => one.name.includes(user));
      const db = await new Promise((resolve, reject) => {
        const request = indexedDB.open(name);
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
      });
      const counts = {};
      for (const store of db.objectStoreNames) {
        counts[store] = await new Promise((resolve, reject) => {
          const request = db.transaction(store).objectStore(store).count();
          request.onsuccess = () => resolve(request.result);
          request.onerror = () => reject(request.error);
        });
      }
      const { version } = db;
      db.close();
      return { name, version, counts };
    }, rig.user);
  const before = await look();
  await page.evaluate(
    ({ name, version }) =>
      new Promise((resolve, reject) => {
        const request = indexedDB.open(name, version + 1_000);
        request.onupgradeneeded = () => request.result.createObjectStore("from-the-future");
        request.onsuccess = () => resolve(request.result.close());
        request.onerror = () => reject(request.error);
      }),
    before,
  );
  const error = await page.evaluate((given) => window.lab.errorOf(() => window.lab.open(given)), {
    user: rig.user,
    token: rig.server.token(rig.user),
    autoStart: false,
  });
  assert.equal(error?.code, "database-newer");
  assert.ok(error.proper && error.message && error.hint, "a real error with a hint");
  const after = await look();
  assert.equal(after.version, before.version + 1_000);
  assert.deepEqual(after.counts, { ...before.counts, "from-the-future": 0 });
}

export const durability = [
  { name: "a record made offline survives a reload and arrives once", run: madeOffline },
  { name: "answers lost on the way back: applied once", run: answersLost },
  { name: "a bad network: every change applied once, none of them lost", run: badNetwork },
  { name: "the browser killed: all that was acknowledged is there and queued", run: killed },
  { name: "a database of a newer version is refused and left alone", run: newerDatabase },
];
