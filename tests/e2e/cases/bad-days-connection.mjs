// The connection to the database is closed, the database deleted, upgraded or held by another tab.
import assert from "node:assert/strict";
import { addHooks, deleteSiteData, look } from "../lib/storage.mjs";
import { eventually, sleep, within } from "../lib/within.mjs";

const create = (page, id) =>
  page.evaluate(
    (key) => window.lab.errorOf(() => window.lab.sites.create({ id: key, name: key })),
    id,
  );
const keys = (page) =>
  page.evaluate(async () => (await window.lab.sites.all()).map(({ id }) => id));
const statusOf = (page) => page.evaluate(() => window.db.status);
const openError = (rig, page, more) =>
  page.evaluate((given) => window.lab.errorOf(() => window.lab.open(given)), {
    user: rig.user,
    token: rig.server.token(rig.user),
    ...more,
  });

/** A tab with hooks under its IndexedDB (`window.idb`). */
const hookedTab = (rig, context) => rig.tab(context, [addHooks]);

function demandError(error, code, retryable) {
  assert.equal(error?.code, code);
  assert.equal(error.retryable, retryable);
  assert.ok(error.proper && error.message && error.hint, "a real error with a hint");
}

/** The manager has stopped for good, says why, and answers everything with that at once. */
async function demandGone(page, code, retryable) {
  await page.evaluate((c) => window.lab.waitFor(`s.error?.code === "${c}"`), code);
  const { phase, leader, error } = await statusOf(page);
  assert.deepEqual([phase, leader], ["closed", false]);
  assert.ok(error.hint && error.message);
  const works = [
    "lab.sites.create({ id: 'late', name: 'late' })",
    "lab.sites.delete('a')",
    "db.sync()",
    "db.whenSynced()",
  ];
  for (const work of works) {
    const asked = page.evaluate(
      (text) => window.lab.errorOf(() => new Function(`return ${text}`)()),
      work,
    );
    demandError(await within(2_000, work, asked), code, retryable);
  }
  assert.deepEqual(await keys(page), ["a"], "what is in memory can be read");
}

/** The connection dies without a word, as Safari's do: the next write opens another. */
async function closedSilently(rig) {
  const page = await hookedTab(rig);
  await rig.open(page, { autoStart: false });
  assert.equal(await create(page, "a"), null);
  await page.evaluate(() => (window.idb.opens = 0));
  for (const id of ["b", "c"]) {
    await page.evaluate(() => window.idb.connections.at(-1).close());
    assert.equal(await create(page, id), null);
  }
  await page.evaluate(() => window.idb.connections.at(-1).close());
  const error = await page.evaluate(() =>
    window.lab.errorOf(() =>
      Promise.all(["d", "e"].map((id) => window.lab.sites.create({ id, name: id }))),
    ),
  );
  assert.equal(error, null);
  assert.equal(await page.evaluate(() => window.idb.opens), 3, "once for each time");
  assert.equal((await statusOf(page)).error, null);
  await page.evaluate(() => window.db.resume());
  await page.evaluate(() => window.lab.synced());
  assert.equal((await rig.records()).size, 5);
}

/** Chromium's own "force close", again and again while a page writes. */
async function forcedClose(rig) {
  const context = await rig.device();
  const page = await hookedTab(rig, context);
  await rig.open(page);
  await page.evaluate(() => window.lab.synced());
  await page.evaluate(() => {
    window.failed = [];
    window.stopped = false;
    window.writing = (async () => {
      let index = 0;
      while (!window.stopped) {
        const id = `s${(index += 1)}`;
        const error = await window.lab.errorOf(() => window.lab.sites.create({ id, name: id }));
        if (error) window.failed.push({ id, error });
      }
      return index;
    })();
  });
  const internals = await context.newPage();
  const seen = () => page.evaluate(() => window.idb.opens);
  for (let round = 0; round < 3; round += 1) {
    const before = await seen();
    await internals.goto("chrome://indexeddb-internals");
    await internals.getByText("Force close").first().click();
    // What was under way may never be answered, which takes a moment to be believed.
    await eventually("it has opened again", async () => (await seen()) > before);
  }
  const count = await page.evaluate(() => {
    window.stopped = true;
    return window.writing;
  });
  assert.deepEqual(await page.evaluate(() => window.failed), []);
  await page.evaluate(() => window.lab.synced(30_000));
  const records = await rig.records();
  assert.equal(records.size, count);
  for (const [name, { versionNumber }] of records) assert.equal(versionNumber, 1, name);
}

/** Every connection dies at once: three tries, then an error that says so; later it works again. */
async function neverStaysOpen(rig) {
  const page = await hookedTab(rig);
  await rig.open(page, { autoStart: false });
  assert.equal(await create(page, "a"), null);
  await page.evaluate(() => {
    window.idb.onOpen = (connection) => connection.close();
    window.idb.connections.at(-1).close();
    window.idb.opens = 0;
  });
  demandError(await create(page, "b"), "database-lost", true);
  const opens = await page.evaluate(() => window.idb.opens);
  assert.ok(opens >= 2 && opens <= 3, `opened ${opens} times`);
  assert.equal((await statusOf(page)).error?.code, "database-lost");
  await page.evaluate(() => (window.idb.onOpen = null));
  assert.equal(await create(page, "b"), null);
  assert.equal((await statusOf(page)).error, null);
  assert.deepEqual(await keys(page), ["a", "b"]);
}

/** The person deletes the site's data while the page is open. */
async function siteDataDeleted(rig) {
  const context = await rig.device();
  const page = await rig.tab(context);
  await rig.open(page);
  assert.equal(await create(page, "a"), null);
  await page.evaluate(() => window.lab.synced());
  await deleteSiteData(page);
  await demandGone(page, "database-lost", true);
  assert.equal(await look(page, rig.user), null, "no database is made in its place");

  // Another tab begins anew, and leads; the first one does not write into what is not its own.
  const other = await rig.tab(context);
  await rig.open(other);
  await other.evaluate(() => window.lab.synced());
  assert.equal((await statusOf(other)).leader, true);
  assert.equal(await create(other, "b"), null);
  const stored = await look(other, rig.user);
  demandError(await create(page, "c"), "database-lost", true);
  assert.deepEqual((await look(other, rig.user)).stores.meta, stored.stores.meta);
  await other.evaluate(() => window.lab.synced());
  assert.deepEqual([...(await rig.records()).keys()].sort(), ["sites/a", "sites/b"]);

  // The page itself can begin anew as well.
  await page.evaluate(() => window.db.close());
  await rig.open(page);
  await page.evaluate(() => window.lab.synced());
  assert.deepEqual(await keys(page), ["a", "b"]);
}

/** Deleted and made anew while a tab had no connection: it must look whose database it is. */
async function anotherIdentity(rig) {
  const context = await rig.device();
  const page = await hookedTab(rig, context);
  await rig.open(page, { autoStart: false });
  assert.equal(await create(page, "a"), null);
  // Without a connection nobody tells it of the deletion.
  await page.evaluate(() => window.idb.connections.at(-1).close());
  const other = await rig.tab(context);
  const { name } = await look(other, rig.user);
  await other.evaluate(
    (database) =>
      new Promise((resolve, reject) => {
        const request = indexedDB.deleteDatabase(database);
        request.onsuccess = () => resolve();
        request.onerror = () => reject(request.error);
        request.onblocked = () => reject(new Error("blocked"));
      }),
    name,
  );
  await rig.open(other, { autoStart: false });
  assert.equal(await create(other, "b"), null);
  const stored = await look(other, rig.user);
  demandError(await create(page, "c"), "database-lost", true);
  await demandGone(page, "database-lost", true);
  assert.deepEqual((await look(other, rig.user)).stores, stored.stores, "nothing was appended");
}

/** A newer tab upgrades: it is not held up, and the older one says that it has to be reloaded. */
async function newerTab(rig) {
  const context = await rig.device();
  const page = await hookedTab(rig, context);
  await rig.open(page);
  assert.equal(await create(page, "a"), null);
  await page.evaluate(() => window.lab.synced());
  const { name, version } = await look(page, rig.user);
  const newer = await rig.tab(context);
  const outcome = await newer.evaluate(
    ([database, next]) =>
      new Promise((resolve, reject) => {
        let blocked = false;
        const request = indexedDB.open(database, next);
        request.onblocked = () => (blocked = true);
        request.onerror = () => reject(request.error);
        request.onsuccess = () => {
          window.newer = request.result;
          resolve({ blocked, version: request.result.version });
        };
      }),
    [name, version + 1],
  );
  assert.deepEqual(outcome, { blocked: false, version: version + 1 });
  const opens = await page.evaluate(() => window.idb.opens);
  const requests = rig.faults.requests.length;
  await demandGone(page, "database-newer", false);
  const locks = await newer.evaluate(async () => (await navigator.locks.query()).held.length);
  assert.equal(locks, 0, "the newer tab may lead");
  await sleep(1_500);
  assert.equal(
    await page.evaluate(() => window.idb.opens),
    opens,
    "it does not try again and again",
  );
  assert.equal(rig.faults.requests.length, requests, "nor does it sync");
}

async function deletedByAnotherTab(rig) {
  const context = await rig.device();
  const page = await rig.tab(context);
  await rig.open(page);
  assert.equal(await create(page, "a"), null);
  const { name } = await look(page, rig.user);
  const other = await rig.tab(context);
  const blocked = await other.evaluate(
    (database) =>
      new Promise((resolve, reject) => {
        let was = false;
        const request = indexedDB.deleteDatabase(database);
        request.onblocked = () => (was = true);
        request.onsuccess = () => resolve(was);
        request.onerror = () => reject(request.error);
      }),
    name,
  );
  assert.equal(blocked, false);
  await demandGone(page, "database-lost", true);
  assert.equal(await look(other, rig.user), null);
}

/** As the next version of landfall will: it asks for a higher version of its database. */
function addNextVersion() {
  const { open } = IDBFactory.prototype;
  IDBFactory.prototype.open = function (name, version) {
    const next = name.startsWith("landfall:") && version !== undefined ? version + 1 : version;
    return next === undefined ? open.call(this, name) : open.call(this, name, next);
  };
}

/** A tab that holds the database, as it is now, and does not let go when told that it should. */
async function holdingTab(rig, context, letsGoAfterMs) {
  const page = await rig.tab(context);
  await rig.open(page, { autoStart: false });
  assert.equal(await create(page, "a"), null);
  await page.evaluate(() => window.db.close());
  const before = await look(page, rig.user);
  await page.evaluate(
    ([name, afterMs]) =>
      new Promise((resolve) => {
        indexedDB.open(name).onsuccess = ({ target }) => {
          window.held = target.result;
          window.held.onversionchange = () => {
            if (afterMs !== null) setTimeout(() => window.held.close(), afterMs);
          };
          resolve();
        };
      }),
    [before.name, letsGoAfterMs],
  );
  return { page, before };
}

async function blockedUpgrade(rig) {
  const context = await rig.device();
  const { page: old, before } = await holdingTab(rig, context, null);
  const page = await rig.tab(context, [addNextVersion]);
  const error = await within(8_000, "open()", openError(rig, page));
  demandError(error, "database-blocked", true);
  // The request that was given up must not upgrade the database behind everybody's back.
  await old.evaluate(() => window.held.close());
  await sleep(500);
  assert.deepEqual(await look(old, rig.user), before);
  await rig.open(page, { autoStart: false });
  assert.deepEqual(await keys(page), ["a"]);
}

async function slowToLetGo(rig) {
  const context = await rig.device();
  await holdingTab(rig, context, 1_500);
  const page = await rig.tab(context, [addNextVersion]);
  assert.equal(await openError(rig, page, { autoStart: false }), null);
  assert.deepEqual(await keys(page), ["a"]);
}

/** Somebody deletes the database, and that waits for a tab: our open waits behind it in silence. */
async function behindADeletion(rig) {
  const context = await rig.device();
  const { page: old, before } = await holdingTab(rig, context, null);
  await old.evaluate((name) => void indexedDB.deleteDatabase(name), before.name);
  const page = await rig.tab(context);
  await page.clock.install();
  const opening = openError(rig, page);
  const error = await within(15_000, "open()", async () => {
    for (;;) {
      const done = await Promise.race([opening.then((e) => ({ e })), sleep(100)]);
      if (done) return done.e;
      await page.clock.runFor(5_000);
    }
  });
  demandError(error, "database-blocked", true);
  await page.clock.resume();
  await old.evaluate(() => window.held.close());
  await eventually("it is deleted", async () => (await look(old, rig.user)) === null);
  // Not from the rescue copy, which may or may not have been in time.
  await rig.open(page, { autoStart: false, rescue: false });
  assert.deepEqual(await keys(page), []);
}

export const connection = [
  { name: "bad day: the connection dies silently: opened again", run: closedSilently },
  { name: "bad day: Chromium forces it closed amid writes: none fails", run: forcedClose },
  { name: "bad day: no connection lasts: three tries, then database-lost", run: neverStaysOpen },
  { name: "bad day: the site's data is deleted: database-lost", run: siteDataDeleted },
  { name: "bad day: deleted and made anew: nothing is appended to it", run: anotherIdentity },
  { name: "bad day: a newer tab upgrades: database-newer", run: newerTab },
  { name: "bad day: another tab deletes the database: database-lost", run: deletedByAnotherTab },
  { name: "bad day: an upgrade is blocked: database-blocked, nothing later", run: blockedUpgrade },
  { name: "bad day: an upgrade waits for a tab that takes its time", run: slowToLetGo },
  { name: "bad day: open() behind a blocked deletion: database-blocked", run: behindADeletion },
];
