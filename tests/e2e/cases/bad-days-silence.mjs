// Transactions that are given up or never answer, and browsers without IndexedDB.
import assert from "node:assert/strict";
import { addHooks, look } from "../lib/storage.mjs";
import { sleep, within } from "../lib/within.mjs";

const create = (page, id) =>
  page.evaluate(
    (key) => window.lab.errorOf(() => window.lab.sites.create({ id: key, name: key })),
    id,
  );
const statusOf = (page) => page.evaluate(() => window.db.status);

function demandError(error, code, retryable) {
  assert.equal(error?.code, code);
  assert.equal(error.retryable, retryable);
  assert.ok(error.proper && error.message && error.hint, "a real error with a hint");
}

/** Waits for `work` on a page whose clock stands still, and winds that on meanwhile. */
function onFastClock(page, work) {
  return within(20_000, "an answer", async () => {
    for (;;) {
      const done = await Promise.race([work.then((answer) => ({ answer })), sleep(150)]);
      if (done) return done.answer;
      await page.clock.runFor(5_000);
    }
  });
}

async function hookedTab(rig) {
  const page = await rig.tab(undefined, [addHooks]);
  await rig.open(page, { autoStart: false });
  assert.equal(await create(page, "a"), null);
  return page;
}

/** Everything works again, and what was told is true, here and in a new page. */
async function demandWhole(rig, page, keys) {
  const all = () => page.evaluate(async () => (await window.lab.sites.all()).map(({ id }) => id));
  assert.deepEqual(await all(), keys);
  const { log } = (await look(page, rig.user)).stores;
  assert.deepEqual(
    log.keys,
    log.keys.map((_, index) => index + 1),
  );
  await rig.goToLab(page);
  await rig.open(page);
  assert.deepEqual(await all(), keys);
  await page.evaluate(() => window.lab.synced());
  const records = await rig.records();
  assert.deepEqual(
    [...records.keys()].sort(),
    keys.map((key) => `sites/${key}`),
  );
  for (const [name, { versionNumber }] of records) assert.equal(versionNumber, 1, name);
}

async function givenUp(rig) {
  const page = await hookedTab(rig);
  const abortNext = (times, reason = null) =>
    page.evaluate(
      ([count, message]) => {
        window.idb.writes = 0;
        window.idb.onWrite = (tx) => {
          if (window.idb.writes > count) return;
          // After what belongs to the same turn: the requests are made, nothing is committed yet.
          tx.commit = () => {};
          queueMicrotask(() => tx.abort());
          if (message === null) return;
          const error = new DOMException(message, "UnknownError");
          Object.defineProperty(tx, "error", { get: () => error });
        };
      },
      [times, reason],
    );
  await abortNext(2);
  assert.equal(await create(page, "b"), null, "tried again, twice");
  assert.equal(await page.evaluate(() => window.idb.writes), 3);
  await abortNext(2, "Connection is closing because of: Unknown 6");
  assert.equal(await create(page, "bb"), null, "so Chromium says where it closes a connection");
  await abortNext(1_000);
  demandError(await create(page, "c"), "database-lost", true);
  assert.equal(await page.evaluate(() => window.idb.writes), 3, "three times, not for ever");
  assert.equal((await statusOf(page)).error?.code, "database-lost");
  await page.evaluate(() => (window.idb.onWrite = null));
  assert.equal(await create(page, "d"), null);
  assert.equal((await statusOf(page)).error, null);
  await demandWhole(rig, page, ["a", "b", "bb", "d"]);
}

/** It is stored, but nobody is told so: the log is asked. */
async function storedInSilence(rig) {
  const page = await hookedTab(rig);
  await page.clock.install();
  await page.evaluate(() => {
    window.idb.onWrite = (tx) => {
      window.idb.onWrite = null;
      Object.defineProperty(tx, "oncomplete", { set() {}, get: () => null });
    };
  });
  assert.equal(await onFastClock(page, create(page, "b")), null);
  await page.clock.resume();
  assert.equal(await create(page, "c"), null);
  await demandWhole(rig, page, ["a", "b", "c"]);
}

/** It hangs for good and is given up; then it is written in another one. */
async function hangs(rig) {
  const page = await hookedTab(rig);
  await page.clock.install();
  await page.evaluate(() => {
    window.idb.onWrite = (tx) => {
      window.idb.onWrite = null;
      tx.commit = () => {};
      const goOn = () => (tx.objectStore("log").count().onsuccess = goOn);
      goOn();
    };
  });
  assert.equal(await onFastClock(page, create(page, "b")), null);
  await page.clock.resume();
  assert.equal(await create(page, "c"), null);
  await demandWhole(rig, page, ["a", "b", "c"]);
}

/** No write ever ends: an error after a while, not a promise that waits for ever. */
async function alwaysHangs(rig) {
  const page = await hookedTab(rig);
  await page.clock.install();
  await page.evaluate(() => {
    window.idb.onWrite = (tx) => {
      tx.commit = () => {};
      const goOn = () => (tx.objectStore("log").count().onsuccess = goOn);
      goOn();
    };
  });
  demandError(await onFastClock(page, create(page, "b")), "storage-failed", true);
  assert.equal((await statusOf(page)).error?.code, "storage-failed");
  await page.evaluate(() => (window.idb.onWrite = null));
  await page.clock.resume();
  assert.equal(await create(page, "c"), null);
  assert.equal((await statusOf(page)).error, null);
  await demandWhole(rig, page, ["a", "c"]);
}

/** Requests that read are made, but never answered. */
function addSilentReads() {
  window.silent = sessionStorage.getItem("mended") === null;
  const { getAll } = IDBObjectStore.prototype;
  IDBObjectStore.prototype.getAll = function (...range) {
    const request = getAll.apply(this, range);
    if (window.silent && this.transaction.db.name.startsWith("landfall:")) {
      Object.defineProperty(request, "onsuccess", { set() {}, get: () => null });
    }
    return request;
  };
}

async function silentReads(rig) {
  const context = await rig.device();
  const first = await rig.tab(context);
  await rig.open(first, { autoStart: false });
  assert.equal(await create(first, "a"), null);
  await first.close();
  const page = await rig.tab(context, [addSilentReads]);
  await page.clock.install();
  const { outbox } = await onFastClock(
    page,
    rig.open(page, { autoStart: false }).then(() => statusOf(page)),
  );
  assert.equal(outbox.pending, 1, "the newest entry is enough for the counts");
  const works = ["lab.sites.all()", "lab.sites.get('a')", "db.outbox.list()"];
  for (const work of [...works, "lab.sites.create({ id: 'b', name: 'b' })"]) {
    const asked = page.evaluate(
      (text) => window.lab.errorOf(() => new Function(`return ${text}`)()),
      work,
    );
    const error = await onFastClock(page, asked);
    demandError(error, "storage-failed", true);
  }
  assert.equal((await statusOf(page)).error?.code, "storage-failed");
  await page.evaluate(() => {
    sessionStorage.setItem("mended", "yes");
    window.silent = false;
  });
  await page.clock.resume();
  assert.equal(await create(page, "b"), null);
  await demandWhole(rig, page, ["a", "b"]);
}

async function refusedToOpen(rig, script) {
  const page = await rig.tab(undefined, [script]);
  const error = await page.evaluate((given) => window.lab.errorOf(() => window.lab.open(given)), {
    user: rig.user,
    token: rig.server.token(rig.user),
  });
  return { page, error };
}

async function noIndexedDb(rig) {
  const missing = [
    () => Object.defineProperty(window, "indexedDB", { value: undefined }),
    () => {
      const refuse = () => {
        throw new DOMException("The operation is insecure.", "SecurityError");
      };
      Object.defineProperty(window, "indexedDB", { get: refuse });
    },
    () => {
      IDBFactory.prototype.open = () => {
        throw new DOMException("The user denied permission.", "SecurityError");
      };
    },
  ];
  for (const script of missing) {
    const { error } = await refusedToOpen(rig, script);
    demandError(error, "unsupported-environment", false);
  }
}

/** What browsers say of a profile that is damaged or on a disk that fails. */
async function failsToOpen(rig) {
  const { page, error } = await refusedToOpen(rig, () => {
    const { open } = IDBFactory.prototype;
    IDBFactory.prototype.open = function (name, ...version) {
      if (window.mended) return open.call(this, name, ...version);
      const request = open.call(this, "nowhere", 1);
      request.addEventListener("upgradeneeded", (event) => {
        event.stopImmediatePropagation();
        request.transaction.abort();
      });
      const told = "Internal error opening backing store for indexedDB.open.";
      Object.defineProperty(request, "error", {
        get: () => new DOMException(told, "UnknownError"),
      });
      return request;
    };
  });
  demandError(error, "storage-failed", true);
  assert.match(error.message, /backing store/);
  await page.evaluate(() => (window.mended = true));
  await rig.open(page);
  assert.equal(await create(page, "a"), null);
}

export const silence = [
  { name: "bad day: transactions given up by the browser: tried again", run: givenUp },
  { name: "bad day: stored, but nobody is told: the log is asked", run: storedInSilence },
  { name: "bad day: a transaction hangs: given up, written again", run: hangs },
  { name: "bad day: every transaction hangs: storage-failed in the end", run: alwaysHangs },
  { name: "bad day: reads are never answered: storage-failed, no empty lists", run: silentReads },
  { name: "bad day: no IndexedDB: unsupported-environment", run: noIndexedDb },
  { name: "bad day: IndexedDB cannot be opened: storage-failed", run: failsToOpen },
];
