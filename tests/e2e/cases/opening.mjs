// The database is opened and read while the module is still on its way: what happens to it meanwhile.
import assert from "node:assert/strict";
import { addHooks, look } from "../lib/storage.mjs";
import { eventually, within } from "../lib/within.mjs";

/** The module is not loaded before `window.module.release()`; as `fails` says, not even then. */
function holdModule() {
  const { fetch } = window;
  const module = (window.module = { fails: false });
  const released = new Promise((resolve) => (module.release = resolve));
  window.fetch = async (...what) => {
    if (!String(what[0]?.url ?? what[0]).endsWith(".wasm")) return fetch(...what);
    await released;
    return module.fails ? new Response("", { status: 503 }) : fetch(...what);
  };
}

/** Counts what is read of the log, whole or only its newest key. */
function countReads() {
  window.reads = { entries: 0, newest: 0 };
  const isLog = ({ name, transaction }) =>
    name === "log" && transaction.db.name.startsWith("landfall:");
  const { getAll, openCursor } = IDBObjectStore.prototype;
  IDBObjectStore.prototype.getAll = function (...range) {
    if (isLog(this)) window.reads.entries += 1;
    return getAll.apply(this, range);
  };
  IDBObjectStore.prototype.openCursor = function (...range) {
    if (isLog(this)) window.reads.newest += 1;
    return openCursor.apply(this, range);
  };
}

const create = (page, id) =>
  page.evaluate((key) => window.lab.sites.create({ id: key, name: key }), id);
const ids = (page) =>
  page.evaluate(async () => (await window.lab.sites.all()).map(({ id }) => id).sort());
/** The code of what opening failed with; null if it did not. */
const opened = (page) => within(15_000, "it is open", () => page.evaluate(() => window.opening));
const release = (page) => page.evaluate(() => window.module.release());

/** A tab with a database and records in it, and another that opens it and waits for its module. */
async function openingTab(rig, records = ["a", "b"]) {
  const context = await rig.device();
  const first = await rig.tab(context);
  await rig.open(first, { autoStart: false });
  for (const id of records) await create(first, id);
  return { first, page: await beginToOpen(rig, context) };
}

async function beginToOpen(rig, context) {
  const page = await rig.tab(context, [addHooks, holdModule, countReads]);
  await page.evaluate(
    (given) => {
      window.opening = window.lab.open(given).then(
        () => null,
        ({ code }) => code,
      );
    },
    { user: rig.user, token: rig.server.token(rig.user), autoStart: false },
  );
  const read = () => page.evaluate(() => window.reads.entries === 1);
  await eventually("the log was read", read);
  return page;
}

/** Deletes the database, or opens a newer one, as `what` says; a tab that is in the way is an error. */
const change = (page, name, what) =>
  page.evaluate(
    ([database, kind]) =>
      new Promise((resolve, reject) => {
        const request =
          kind === "delete" ? indexedDB.deleteDatabase(database) : indexedDB.open(database, 99);
        request.onblocked = () => reject(new Error("blocked"));
        request.onerror = () => reject(request.error);
        request.onsuccess = () => {
          request.result?.close();
          resolve();
        };
      }),
    [name, what],
  );

async function readOnce(rig) {
  const { first, page } = await openingTab(rig);
  await first.close();
  await release(page);
  assert.equal(await opened(page), null);
  assert.deepEqual(await ids(page), ["a", "b"]);
  const counts = await page.evaluate(() => [window.idb.opens, window.reads]);
  assert.deepEqual(counts, [1, { entries: 1, newest: 1 }], "nothing is read again");
}

/** Its last word comes between the reading and the opening, and it is not there to tell of it. */
async function writtenMeanwhile(rig) {
  const { first, page } = await openingTab(rig);
  await create(first, "c");
  await first.close();
  await release(page);
  assert.equal(await opened(page), null);
  assert.deepEqual(await ids(page), ["a", "b", "c"]);
  await create(page, "d");
  assert.deepEqual(await ids(page), ["a", "b", "c", "d"]);
  const { log } = (await look(page, rig.user)).stores;
  assert.deepEqual(log.keys, [1, 2, 3, 4], "one after the other, none twice");
}

/** The same where nothing was ever written before. */
async function firstWrittenMeanwhile(rig) {
  const { first, page } = await openingTab(rig, []);
  await create(first, "a");
  await first.close();
  await release(page);
  assert.equal(await opened(page), null);
  assert.deepEqual(await ids(page), ["a"]);
  assert.equal(await page.evaluate(() => window.db.status.outbox.pending), 1);
}

async function deletedMeanwhile(rig) {
  const { first, page } = await openingTab(rig);
  const { name } = await look(first, rig.user);
  await first.evaluate(() => window.db.close());
  await change(first, name, "delete");
  await release(page);
  assert.equal(await opened(page), null, "it makes a new one");
  await page.evaluate(() => window.lab.waitFor("s.recovered !== null"));
  // It was back before `open()` resolved: whoever asks to be told can only do so after that.
  await eventually("it is told", () => page.evaluate(() => window.lab.recovered.length === 1));
  assert.deepEqual(await ids(page), ["a", "b"], "what was not synced is back");
  await create(page, "c");
  assert.deepEqual(await ids(page), ["a", "b", "c"]);
}

async function newerMeanwhile(rig) {
  const { first, page } = await openingTab(rig);
  const { name } = await look(first, rig.user);
  await first.evaluate(() => window.db.close());
  await change(first, name, "upgrade");
  await release(page);
  assert.equal(await opened(page), "database-newer");
  const { log } = (await look(page, rig.user)).stores;
  assert.equal(log.keys.length, 2, "nothing was touched");
}

/** Nothing of it holds the database open, and it can be tried again. */
async function moduleFails(rig) {
  const { first, page } = await openingTab(rig);
  const { name } = await look(first, rig.user);
  await first.evaluate(() => window.db.close());
  await page.evaluate(() => (window.module.fails = true));
  await release(page);
  assert.equal(await opened(page), "wasm-failed");
  await eventually("its connection is closed", () =>
    page.evaluate(() => {
      try {
        window.idb.connections[0].transaction("log");
        return false;
      } catch (error) {
        return error.name === "InvalidStateError";
      }
    }),
  );
  assert.equal(await page.evaluate(async () => (await navigator.locks.query()).held.length), 0);
  await page.evaluate(() => (window.module.fails = false));
  await rig.open(page, { autoStart: false });
  assert.deepEqual(await ids(page), ["a", "b"]);
  await page.evaluate(() => window.db.close());
  await change(page, name, "delete");
}

/** A new database is rehearsed for: nothing of that is in it, nor anywhere else. */
async function rehearsed(rig) {
  const page = await rig.tab(undefined, [addHooks]);
  await rig.open(page);
  await page.evaluate(() => window.lab.synced());
  assert.deepEqual(await ids(page), []);
  const { stores } = await look(page, rig.user);
  assert.deepEqual(stores.quarantine.keys, []);
  for (const { facts } of stores.log.values) {
    assert.deepEqual(
      facts.map(({ kind }) => kind),
      ["checkpoint"],
    );
  }
  const names = await page.evaluate(async () => (await indexedDB.databases()).map((d) => d.name));
  assert.equal(names.filter((name) => !name.endsWith(`:${rig.user}`)).length, 0, `${names}`);
  await create(page, "a");
  await page.evaluate(() => window.lab.synced());
  assert.deepEqual([...(await rig.records()).keys()], ["sites/a"]);
}

export const opening = [
  { name: "opening: what was read meanwhile is not read again", run: readOnce },
  { name: "opening: what a tab wrote before it went is there", run: writtenMeanwhile },
  { name: "opening: the first thing a tab wrote before it went", run: firstWrittenMeanwhile },
  { name: "opening: deleted meanwhile, nobody held it open", run: deletedMeanwhile },
  { name: "opening: upgraded meanwhile, nobody held it open", run: newerMeanwhile },
  { name: "opening: without its module nothing stays open", run: moduleFails },
  { name: "opening: a rehearsal leaves nothing behind", run: rehearsed },
];
