// Records whose stored text is not JSON any more.
import assert from "node:assert/strict";
import { eventually } from "../lib/within.mjs";

const errorOf = (page, work) =>
  page.evaluate(
    async (work) => (await window.lab.errorOf(() => new Function(`return ${work}`)()))?.code,
    work,
  );
const ids = (page) =>
  page.evaluate(async () => (await window.lab.sites.all()).map(({ id }) => id).join(""));

/** Closes the database and breaks what it has stored of the record that is called b. */
async function closeAndBreak(page) {
  const broken = await page.evaluate(async () => {
    await window.db.close();
    const all = await indexedDB.databases();
    const { name } = all.find((database) => database.name.startsWith("landfall:"));
    const done = (request) =>
      new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
      });
    const db = await done(indexedDB.open(name));
    const log = db.transaction("log", "readwrite").objectStore("log");
    let broken = 0;
    for (const key of await done(log.getAllKeys())) {
      const entry = await done(log.get(key));
      for (const fact of entry.facts.filter(({ rows }) => rows?.includes('"name":"b"'))) {
        fact.rows = fact.rows.replace('"name":"b"', '"name":b');
        broken += 1;
      }
      await done(log.put(entry, key));
    }
    db.close();
    return broken;
  });
  assert.equal(broken, 1);
}

async function open(rig, page, more) {
  await rig.open(page, { rescue: false, ...more });
  await page.evaluate(() => {
    window.told = [];
    window.db.on("error", ({ code }) => window.told.push(code));
  });
}

async function queued(rig) {
  const page = await rig.tab();
  await open(rig, page, { autoStart: false });
  await page.evaluate(async () => {
    for (const id of ["a", "b", "c"]) await window.lab.sites.put({ id, name: id });
  });
  await closeAndBreak(page);
  await open(rig, page, { autoStart: false });
  assert.equal(await ids(page), "ac");
  const byName = { index: "name", range: { from: "a" } };
  assert.equal((await page.evaluate((q) => window.lab.sites.find(q), byName)).length, 2);
  assert.equal(await errorOf(page, "lab.sites.get('b')"), "database-damaged");
  assert.equal(await errorOf(page, "lab.sites.update('b', { name: 'bb' })"), "database-damaged");
  assert.equal(await errorOf(page, "lab.sites.put({ id: 'd', name: 'd' })"), undefined);
  const parked = await page.evaluate(() => window.db.outbox.list({ state: "failed" }));
  assert.deepEqual(
    parked.map(({ key, error }) => [key, error.code]),
    [["b", "database-damaged"]],
  );
  assert.deepEqual(await page.evaluate(() => window.told), ["database-damaged"]);
  const backup = await page.evaluate(() => window.db.exportUnsynced());
  assert.equal(backup.mutations.length, 3);
  assert.deepEqual(
    backup.unread.map(({ id, key }) => [id, key]),
    [[parked[0].id, "b"]],
  );
  // It can be folded, and is no more damaged than before.
  assert.equal(await page.evaluate(() => window.db.compact()), true);
  await page.evaluate(() => window.db.close());

  await open(rig, page);
  await page.evaluate(() => window.lab.waitFor("s.outbox.pending + s.outbox.syncing === 0"));
  assert.deepEqual([...(await rig.records()).keys()].sort(), ["sites/a", "sites/c", "sites/d"]);
  assert.equal(await errorOf(page, "lab.sites.put({ id: 'b', name: 'new' })"), undefined);
  await page.evaluate(() => window.lab.waitFor("s.outbox.pending + s.outbox.syncing === 0"));
  assert.equal((await rig.records()).get("sites/b").data.name, "new");
  assert.equal(await ids(page), "abcd");
}

async function pulled(rig) {
  const elsewhere = await rig.tab();
  await rig.open(elsewhere);
  await elsewhere.evaluate(() =>
    window.lab.sites.putMany(["a", "b", "c"].map((id) => ({ id, name: id }))),
  );
  await elsewhere.evaluate(() => window.lab.synced());
  const page = await rig.tab();
  await open(rig, page);
  await page.evaluate(() => window.lab.synced());
  assert.equal(await ids(page), "abc");
  await closeAndBreak(page);
  await open(rig, page);
  assert.equal(await ids(page), "ac");
  await page.evaluate(() => window.lab.sites.all());
  // The page that is under way goes on from where the pull is not any more.
  const told = await page.evaluate(() => window.told.filter((code) => code !== "aborted"));
  assert.deepEqual(told, ["database-damaged"]);
  await page.evaluate(() => window.lab.synced());
  await eventually("it was pulled anew", async () => (await ids(page)) === "abc");
  assert.equal((await page.evaluate(() => window.lab.sites.get("b"))).name, "b");
}

export const damage = [
  { name: "damaged: a queued record is parked, the others go on", run: queued },
  { name: "damaged: a pulled record is pulled anew", run: pulled },
];
