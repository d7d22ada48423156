// The rescue copy, in each place where it can be: what was written is there again, whole.
import assert from "node:assert/strict";
import { readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { launchKillable, launchOnDisk, makeProfile, removeProfile } from "../lib/chromium.mjs";
import { PLACES, addRescue } from "../lib/rescue-page.mjs";
import { eventually, sleep } from "../lib/within.mjs";

/** Mutations that one step of the killed browser puts; all but the first leave again. */
const BLOCK = 20;
/** Behind the head of the log of a database that has been written to. */
const DAMAGE_AT = 1_000;

async function tabs(rig, count = 1) {
  const context = await rig.device();
  const pages = [];
  for (let index = 0; index < count; index += 1) pages.push(await visit(rig, context));
  return pages;
}

async function visit(rig, context) {
  const page = await context.newPage();
  await page.addInitScript(addRescue);
  await open(rig, page);
  return page;
}

async function open(rig, page) {
  await page.goto(`${rig.proxy.origin}/lab.html`);
  await page.waitForFunction(() => window.openRescue);
}

const range = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

async function roundTrip(rig, place) {
  const [page] = await tabs(rig);
  const first = await page.evaluate(async (where) => {
    const { open, put, gone, mutations } = window.rescueLab;
    const rescue = await open(where);
    const before = await rescue.load();
    await Promise.all([put(rescue, 1, 3), put(rescue, 4, 1_003), gone(rescue, 2, 2)]);
    await put(rescue, 3, 3, { data: "replaced" });
    // The tab that syncs may tell of an end before the tab that wrote tells of the beginning.
    await gone(rescue, 1_004, 1_004);
    await put(rescue, 1_004, 1_004);
    const same = JSON.stringify((await rescue.load()).mutations[0]);
    rescue.close();
    const closed = await rescue.load().catch(({ name }) => name);
    const peek = await (await open(where)).peek();
    await put(await open(where), 1_005, 2_004);
    const long = await (await open(where)).peek();
    return {
      before,
      closed,
      peeks: [peek.client, peek.next, long.next],
      same: same === JSON.stringify(mutations(1, 1)[0]),
    };
  }, place);
  assert.deepEqual(first, {
    before: null,
    closed: "InvalidStateError",
    peeks: ["client-1", 1_005, 2_005],
    same: true,
  });
  await open(rig, page);
  const again = await page.evaluate(async (where) => {
    const rescue = await window.rescueLab.open(where);
    const kept = await rescue.load();
    const other = await (await window.rescueLab.open(where, "landfall:lab:other")).load();
    const names = await window.rescueLab.stored[where].names();
    return { ...kept, other, names };
  }, place);
  const { mutations, names, ...rest } = again;
  const stamp = [2_005, 0];
  const none = { others: [], more: false, damaged: 0, other: null };
  assert.deepEqual(rest, { client: "client-1", next: 2_005, stamp, ...none });
  assert.deepEqual(
    mutations.map(({ number }) => number),
    [1, ...range(3, 1_003), ...range(1_005, 2_004)],
  );
  assert.equal(mutations[1].data, "replaced");
  assert.equal(names.length, 2);
  for (const name of names) assert.match(name, /^landfall-[0-9a-f]{32}$/);
}

async function anew(rig, place) {
  const [page] = await tabs(rig);
  const seen = await page.evaluate(async (where) => {
    const { open, put, mutations, numbers, stored } = window.rescueLab;
    const rescue = await open(where);
    await put(rescue, 1, 5);
    await rescue.write({ client: "client-2", next: 8, put: mutations(7, 7), gone: [] });
    const other = await rescue.load();
    await rescue.reset("client-3");
    const reset = await rescue.load();
    await rescue.reset("client-3");
    await rescue.write({ client: "client-3", next: 2, put: mutations(1, 1), gone: [] });
    const after = await numbers(await open(where));
    await rescue.delete();
    const names = await stored[where].names();
    const again = await open(where);
    return { other, reset, after, names, gone: [await again.peek(), await again.load()] };
  }, place);
  // A new client's first batch takes the place of all that the old one kept, in one step.
  assert.equal(seen.other.client, "client-2");
  assert.deepEqual([seen.other.next, seen.other.mutations.length], [8, 1]);
  assert.equal(seen.reset.client, "client-3");
  assert.deepEqual([seen.reset.next, seen.reset.mutations.length], [0, 0]);
  assert.deepEqual(seen.after, [1]);
  assert.deepEqual(seen.names, []);
  assert.deepEqual(seen.gone, [null, null]);
}

async function twoTabs(rig, place) {
  const pages = await tabs(rig, 2);
  for (const page of pages) {
    await page.evaluate(async (where) => {
      window.rescue = await window.rescueLab.open(where);
    }, place);
  }
  const write = (page, from, count, forget) =>
    page.evaluate(
      async ([first, all, drop]) => {
        const { put, gone } = window.rescueLab;
        for (let number = first; number < first + all; number += 1) {
          await put(window.rescue, number, number);
          // Whenever nothing is left of what this tab knows, it replaces the whole log.
          if (drop) await gone(window.rescue, number, number);
          if (drop) await window.rescue.tidy();
        }
      },
      [from, count, forget],
    );
  await Promise.all([write(pages[0], 1, 25, false), write(pages[1], 101, 25, true)]);
  await Promise.all([write(pages[0], 201, 10, true), write(pages[1], 301, 10, false)]);
  for (const page of pages) {
    const numbers = await page.evaluate(() => window.rescueLab.numbers(window.rescue));
    assert.deepEqual(numbers, [...range(1, 25), ...range(301, 310)]);
  }
  // What one tab deletes, the other does not miss: it starts again.
  await pages[0].evaluate(() => window.rescue.delete());
  const left = await pages[1].evaluate(async () => {
    await window.rescueLab.put(window.rescue, 400, 400);
    return window.rescueLab.numbers(window.rescue);
  });
  assert.deepEqual(left, [400]);
}

async function damage(rig, place) {
  const [page] = await tabs(rig);
  const seen = await page.evaluate(async (where) => {
    const { open, put, numbers, stored } = window.rescueLab;
    const rescue = await open(where);
    for (let number = 1; number <= 5; number += 1) await put(rescue, number, number);
    await stored[where].spoil(1, (text) => text.replace("m2", "m3"));
    const changed = await rescue.load();
    await stored[where].spoil(-1, (text) => text.slice(0, -20));
    const torn = await numbers(rescue);
    await put(rescue, 6, 6);
    const { mutations, damaged } = await (await open(where)).load();
    return { changed, torn, then: mutations.map(({ number }) => number), damaged };
  }, place);
  assert.equal(seen.changed.damaged, 1);
  assert.deepEqual(
    seen.changed.mutations.map(({ number }) => number),
    [1, 3, 4, 5],
  );
  assert.deepEqual(seen.torn, [1, 3, 4]);
  // What is appended to a torn end is whole.
  assert.deepEqual(seen.then, [1, 3, 4, 6]);
  assert.equal(seen.damaged, 2);
}

async function compaction(rig, place) {
  const [page] = await tabs(rig);
  const seen = await page.evaluate(async (where) => {
    const { open, put, gone, numbers, stored } = window.rescueLab;
    const rescue = await open(where);
    const size = async () => (await stored[where].texts()).join("").length;
    for (let from = 1; from <= 5_000; from += 1_000) await put(rescue, from, from + 999);
    const full = await size();
    for (let from = 1; from <= 4_900; from += 100) await gone(rescue, from, from + 99);
    const busy = await size();
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    const left = { size: await size(), numbers: await numbers(rescue) };
    // A number that this tab has not heard of: another tab is there, whatever we are told.
    window.rescueLab.alone = true;
    await put(await open(where), 5_001, 5_001);
    await gone(rescue, 4_901, 5_000, 5_001);
    await put(await open(where), 5_002, 5_002);
    await rescue.tidy();
    const others = await numbers(rescue);
    await gone(rescue, 5_001, 5_002, 5_003);
    await rescue.tidy();
    const { client, next, mutations } = await rescue.load();
    const empty = await size();
    // A record that is changed again and again while nothing can be sent.
    for (let round = 1; round <= 5; round += 1) await put(rescue, 1, 300, { round });
    await rescue.tidy();
    const replaced = (await rescue.load()).mutations.filter(({ round }) => round === 5).length;
    const texts = (await stored[where].texts()).join("");
    const old = texts.includes('"round":1');
    const count = mutations.length;
    return { replaced, old, full, busy, left, others, size: empty, client, next, count };
  }, place);
  assert.deepEqual(seen.left.numbers, range(4_901, 5_000));
  assert.ok(seen.busy > seen.full, "not while it is busy");
  assert.deepEqual(seen.others, [5_001, 5_002]);
  assert.ok(seen.left.size < seen.full / 3, `${seen.full} → ${seen.left.size}`);
  assert.ok(seen.size < 200, `${seen.size} with nothing in it`);
  assert.deepEqual([seen.replaced, seen.old], [300, false]);
  assert.deepEqual([seen.client, seen.next, seen.count], ["client-1", 5_003, 0]);
}

/** Chromium holds files and caches to the quota; in a bucket it lets IndexedDB pass. */
async function quota(rig, place) {
  const { context, stop } = await launchOnDisk(rig.options);
  rig.undo.push(stop);
  const page = await visit(rig, context);
  const devtools = await context.newCDPSession(page);
  await page.evaluate(async (where) => {
    window.rescue = await window.rescueLab.open(where);
    await window.rescueLab.put(window.rescue, 1, 10);
  }, place);
  const limit = (quotaSize) =>
    devtools.send("Storage.overrideQuotaForOrigin", { origin: rig.proxy.origin, quotaSize });
  await limit(1_000);
  const refused = await page.evaluate(async () => {
    const { put } = window.rescueLab;
    return put(window.rescue, 11, 5_000).then(
      () => null,
      (error) => [error instanceof DOMException, error.name],
    );
  });
  await limit(undefined);
  const numbers = await page.evaluate(async () => {
    await window.rescueLab.put(window.rescue, 20, 20);
    return window.rescueLab.numbers(window.rescue);
  });
  assert.deepEqual(refused, [true, "QuotaExceededError"]);
  assert.deepEqual(numbers, [...range(1, 10), 20]);
}

/**
 * SIGKILL while every place is being written and its log replaced again and again; then Chromium
 * finds the origin's own IndexedDB damaged and deletes it. The copies are whole.
 */
async function killed(rig) {
  const profile = await makeProfile();
  rig.undo.push(() => removeProfile(profile));
  const first = await launchKillable(rig.options, profile);
  rig.undo.push(first.kill);
  const page = await visit(rig, first.context);
  const told = new Map(PLACES.map((place) => [place, { put: 0, gone: 0 }]));
  await page.exposeFunction("tell", (place, what, number) => {
    told.get(place)[what] = number;
  });
  await page.evaluate(() => window.rescueLab.fillDatabase());
  // Of two tabs of an app, one writes and one syncs; here both are in one page.
  const work = PLACES.map((place) =>
    page.evaluate(
      async ([where, block]) => {
        const { open, put, gone } = window.rescueLab;
        const writer = await open(where);
        const syncer = await open(where);
        for (let from = 1; ; from += block) {
          await put(writer, from, from);
          await put(syncer, from + 1, from + block - 1);
          await window.tell(where, "put", from + block - 1);
          // The syncer knows of nothing else: it sums up the log each time.
          await gone(syncer, from + 1, from + block - 1);
          await syncer.tidy();
          await window.tell(where, "gone", from + block - 1);
        }
      },
      [place, BLOCK],
    ),
  );
  for (const one of work) one.catch(() => {});
  const enough = () => [...told.values()].every(({ gone }) => gone >= 5 * BLOCK);
  await eventually("some writes in each place", enough, 20_000, 5);
  await sleep(Math.random() * 100);
  await first.kill();
  await damageDatabase(profile, new URL(rig.proxy.origin).port);

  const second = await launchKillable(rig.options, profile);
  rig.undo.push(second.kill);
  const again = await visit(rig, second.context);
  assert.equal(await again.evaluate(() => window.rescueLab.countDatabase()), 0, "a wiped database");
  for (const place of PLACES) {
    const kept = await again.evaluate(
      async (where) => (await window.rescueLab.open(where)).load(),
      place,
    );
    const numbers = new Set(kept.mutations.map(({ number }) => number));
    const { put, gone } = told.get(place);
    for (let number = 1; number <= put; number += 1) {
      const isGone = number % BLOCK !== 1;
      // What is not known to be gone may be there or not: its `gone` was on its way.
      if (!isGone || number <= gone)
        assert.equal(numbers.has(number), !isGone, `${place}: ${number} of ${put}, ${gone} gone`);
    }
    assert.ok(kept.next > put, `${place}: next is ${kept.next}`);
  }
}

/** What was deleted right before the page went does not come back, though the copy has not heard of it. */
async function goneUnheard(rig) {
  const page = await rig.tab();
  await page.addInitScript(() => {
    // As if it was killed: it does not learn that it is left.
    const unheard = (event) => event.stopImmediatePropagation();
    for (const kind of ["visibilitychange", "pagehide"]) addEventListener(kind, unheard, true);
  });
  await page.reload();
  await rig.open(page, { autoStart: false });
  await page.evaluate(async () => {
    const { sites } = window.lab;
    await sites.putMany(["kept", "gone"].map((id) => ({ id, name: id })));
  });
  await sleep(500);
  await Promise.all([
    page.waitForEvent("load"),
    page.evaluate(() => {
      window.lab.sites.delete("gone").then(() => location.reload());
    }),
  ]);
  await rig.open(page, { autoStart: false });
  await page.evaluate(async () => {
    await window.lab.sites.all();
    await new Promise((resolve) => setTimeout(resolve, 500));
    await window.db.close();
  });
  await page.evaluate(throwAway);
  await rig.open(page, { autoStart: false });
  const seen = await page.evaluate(async () => {
    await window.db.waitFor((status) => status.recovered);
    return (await window.lab.sites.all()).map(({ id }) => id);
  });
  assert.deepEqual(seen, ["kept"]);
}

/** In the page: deletes the database of landfall that nobody has open. */
async function throwAway() {
  const all = await indexedDB.databases();
  const { name } = all.find((database) => database.name.startsWith("landfall:"));
  await new Promise((resolve, reject) => {
    const request = indexedDB.deleteDatabase(name);
    request.onsuccess = () => resolve();
    request.onerror = request.onblocked = reject;
  });
}

/** When `close` has answered, the copy has all that was acknowledged, however late it was written. */
async function closedAtOnce(rig) {
  const page = await rig.tab();
  await rig.open(page, { autoStart: false });
  const count = 2_500;
  await page.evaluate(async (length) => {
    const records = Array.from({ length }, (_, n) => ({ id: `r${n}`, name: `Site ${n}` }));
    await window.lab.sites.putMany(records);
    await window.db.close();
  }, count);
  await page.evaluate(throwAway);
  await rig.open(page, { autoStart: false });
  const seen = await page.evaluate(async () => {
    const { recovered } = await window.db.waitFor((status) => status.recovered);
    return [recovered.mutations, await window.lab.sites.count(), window.db.status.outbox.pending];
  });
  assert.deepEqual(seen, [count, count, count]);
}

/** What was acknowledged right before the page was left is in the copy. */
async function leftAtOnce(rig) {
  const page = await rig.tab();
  await rig.open(page, { autoStart: false });
  await page.evaluate(() => window.lab.sites.put({ id: "first", name: "first" }));
  await sleep(500);
  await Promise.all([
    page.waitForEvent("load"),
    page.evaluate(() => {
      const records = Array.from({ length: 100 }, (_, n) => ({ id: `r${n}`, name: `Site ${n}` }));
      window.lab.sites.putMany(records).then(() => location.reload());
    }),
  ]);
  await page.evaluate(throwAway);
  await rig.open(page, { autoStart: false });
  const seen = await page.evaluate(async () => {
    await window.db.waitFor((status) => status.recovered);
    return window.lab.sites.count();
  });
  assert.equal(seen, 101);
}

/** In the page, at its start: the copy has no place but this, which `loseCopy` deletes. */
function oneplace(place) {
  const { storageBuckets: buckets, storage } = navigator;
  const without = (object, name) => Object.defineProperty(object, name, { value: undefined });
  if (place !== "bucket") without(navigator, "storageBuckets");
  if (place === "cache") without(window, "Worker");
  window.loseCopy = async () => {
    if (place === "bucket") for (const id of await buckets.keys()) await buckets.delete(id);
    if (place === "cache") for (const id of await caches.keys()) await caches.delete(id);
    const root = place === "opfs" ? await storage.getDirectory() : new Map();
    for (const id of await Array.fromAsync(root.keys())) {
      await root.removeEntry(id, { recursive: true });
    }
  };
}

/** Records in the database that has taken in what was kept of the one that is thrown away. */
async function savedFrom(rig, page) {
  await page.evaluate(() => window.db.close());
  await page.evaluate(throwAway);
  await rig.open(page, { autoStart: false });
  return page.evaluate(async () => {
    await window.db.waitFor((status) => status.recovered);
    return (await window.lab.sites.all()).map(({ id }) => id);
  });
}

/** The copy is thrown away while the database is in use: it is made anew, whole. */
async function lost(rig, place) {
  const page = await rig.tab();
  await page.addInitScript(oneplace, place);
  await page.reload();
  await rig.open(page, { autoStart: false });
  await page.evaluate(async () => {
    const { sites } = window.lab;
    await sites.putMany(["a", "b", "gone"].map((id) => ({ id, name: id })));
    await new Promise((resolve) => setTimeout(resolve, 500));
    await window.loseCopy();
    await sites.delete("gone");
    await sites.put({ id: "c", name: "c" });
    await new Promise((resolve) => setTimeout(resolve, 1_500));
  });
  assert.deepEqual(await savedFrom(rig, page), ["a", "b", "c"]);
}

/** What could not be written to the copy is in it once there is room. */
async function unwritten(rig) {
  const page = await rig.tab();
  await page.addInitScript(() => {
    const { add } = IDBObjectStore.prototype;
    IDBObjectStore.prototype.add = function (...what) {
      const isFull = window.full && this.transaction.db.name === "rescue";
      if (isFull) throw new DOMException("The disk is full.", "QuotaExceededError");
      return add.apply(this, what);
    };
  });
  await page.reload();
  await rig.open(page, { autoStart: false });
  await page.evaluate(async () => {
    const { sites } = window.lab;
    await sites.putMany(["gone", "kept"].map((id) => ({ id, name: id })));
    await new Promise((resolve) => setTimeout(resolve, 500));
    window.full = true;
    const told = new Promise((resolve) => window.db.on("error", resolve));
    await sites.putMany(["a", "b"].map((id) => ({ id, name: id })));
    await sites.delete("gone");
    if ((await told).code !== "rescue-failed") throw new Error("another error");
    window.full = false;
    await sites.put({ id: "c", name: "c" });
    await new Promise((resolve) => setTimeout(resolve, 1_500));
  });
  assert.deepEqual(await savedFrom(rig, page), ["a", "b", "c", "kept"]);
}

/** In the page: `window.silent` makes what is written to a place wait for ever, wherever that is. */
function addSilence() {
  const { add } = IDBObjectStore.prototype;
  IDBObjectStore.prototype.add = function (...what) {
    if (!window.silent || this.transaction.db.name !== "rescue") return add.apply(this, what);
    this.transaction.commit = () => {};
    // Never without a request, it never ends.
    const goOn = () => (this.count().onsuccess = goOn);
    goOn();
    return this.count();
  };
  const { postMessage } = Worker.prototype;
  Worker.prototype.postMessage = function (...what) {
    if (!window.silent) postMessage.apply(this, what);
  };
  const { put } = Cache.prototype;
  Cache.prototype.put = function (...what) {
    return window.silent ? new Promise(() => {}) : put.apply(this, what);
  };
}

/** Waits for `work` on a page whose clock stands still, and winds that on meanwhile. */
async function windOn(page, work) {
  let over = false;
  const end = () => (over = true);
  work.then(end, end);
  await eventually("an answer", async () => {
    if (!over) await page.clock.runFor(5_000);
    return over;
  });
  return work;
}

async function silentPlace(rig, place) {
  const [page] = await tabs(rig);
  await page.addInitScript(addSilence);
  await page.reload();
  await page.waitForFunction(() => window.openRescue);
  await page.evaluate(async (where) => {
    window.rescue = await window.rescueLab.open(where);
    await window.rescueLab.put(window.rescue, 1, 2);
  }, place);
  await page.clock.install();
  const refused = page.evaluate(async () => {
    const { put, gone } = window.rescueLab;
    window.silent = true;
    const name = (promise) => promise.catch((error) => error.name);
    return Promise.all([name(put(window.rescue, 3, 3)), name(gone(window.rescue, 1, 1))]);
  });
  const names = await windOn(page, refused);
  // A new worker has less time to begin.
  const last = place === "opfs" ? "InvalidStateError" : "TimeoutError";
  assert.deepEqual(names, ["TimeoutError", last]);
  const after = await page.evaluate(async (where) => {
    const { open, put, numbers } = window.rescueLab;
    window.silent = false;
    await put(window.rescue, 4, 4);
    await put(await open(where), 5, 5);
    return numbers(window.rescue);
  }, place);
  // What was given up may have been stored all the same.
  const known = after.filter((number) => ![1, 3].includes(number));
  assert.deepEqual(known, [2, 4, 5]);
}

async function silentAndStrict(rig) {
  const page = await rig.tab(undefined, [addSilence]);
  await rig.open(page, { autoStart: false, durability: "strict" });
  await page.evaluate(() => window.lab.sites.put({ id: "a", name: "a" }));
  await page.clock.install();
  const done = page.evaluate(async () => {
    const { db, lab } = window;
    window.silent = true;
    const told = new Promise((resolve) => db.on("error", resolve));
    await lab.sites.put({ id: "b", name: "b" });
    const { code, message } = await told;
    return [code, message, (await lab.sites.all()).map(({ id }) => id)];
  });
  assert.deepEqual(await windOn(page, done), [
    "rescue-failed",
    "the rescue copy could not be written: no answer in time",
    ["a", "b"],
  ]);
  await page.evaluate(() => (window.silent = false));
  await page.clock.runFor(60_000);
  await page.clock.resume();
  await page.evaluate(() => window.lab.sites.put({ id: "c", name: "c" }));
  assert.deepEqual(await savedFrom(rig, page), ["a", "b", "c"]);
}

/** In the page: what `step` finds and does in a database with these collections, which is closed then. */
async function visitOnce([user, names, step, more]) {
  const backend = { push: () => Promise.reject(new TypeError("offline")) };
  backend.pull = backend.push;
  const collections = Object.fromEntries(names.map((name) => [name, { key: "id" }]));
  const options = { name: "copies", user, backend, collections, ...more };
  const db = await window.landfall.open(options);
  const errors = [];
  db.on("error", ({ code }) => code !== "network" && errors.push(code));
  const pause = () => new Promise((resolve) => setTimeout(resolve, 300));
  await pause();
  const found = {};
  for (const name of names) {
    found[name] = (await db.collection(name).all()).map(({ id }) => id).join(" ");
  }
  const { pending } = db.status.outbox;
  for (const [name, id, how] of step) await db.collection(name).put({ id }, how);
  await pause();
  await db.close();
  return { ...found, pending, errors };
}

async function visitor(rig) {
  const page = await rig.tab();
  const at = (names, step = [], more = {}) =>
    page.evaluate(visitOnce, [rig.user, names, step, more]);
  const wipe = async () => {
    await page.evaluate(throwAway);
    await page.reload();
    await page.waitForFunction(() => window.landfall);
  };
  return { at, wipe };
}

/** A version of the app that does not declare a collection any more takes its changes in all the same. */
async function undeclared(rig) {
  const { at, wipe } = await visitor(rig);
  const both = ["sites", "old"];
  await at(both, [
    ["sites", "a"],
    ["old", "o"],
  ]);
  await wipe();
  const second = await at(["sites"], [["sites", "b"]]);
  assert.deepEqual(second, { sites: "a", pending: 2, errors: [] });
  await wipe();
  const third = await at(both);
  assert.deepEqual(third, { sites: "a b", old: "o", pending: 3, errors: [] });
}

/** A change that cannot come back now stays in the copy, and keeps neither the others nor later ones out. */
async function inTheWay(rig) {
  const { at, wipe } = await visitor(rig);
  await at(
    ["sites"],
    [
      ["sites", "a"],
      ["sites", "x"],
    ],
  );
  await wipe();
  // Before the copy is looked at there is a draft under the same key.
  await at(["sites"], [["sites", "x", { localOnly: true }]], { rescue: false });
  const then = await at(["sites"], [["sites", "b"]]);
  assert.deepEqual(then, { sites: "a x", pending: 1, errors: ["rescue-failed"] });
  const again = await at(["sites"], [["sites", "c"]]);
  assert.deepEqual([again.sites, again.pending], ["a b x", 2]);
  await wipe();
  const last = await at(["sites"]);
  assert.deepEqual(last, { sites: "a b c x", pending: 4, errors: [] });
}

/** Changes of an older version of the data are migrated, from the copy and from a backup; newer ones wait. */
async function olderVersion(rig) {
  const page = await rig.tab();
  const at = (version, backup) =>
    page.evaluate(
      async ([user, of, given]) => {
        const collections = { sites: { key: "id" } };
        const sites = ({ name, ...rest }) => ({ ...rest, title: name });
        const options = { name: "versions", user, collections, version: of, migrate: { sites } };
        const db = await window.landfall.open(options);
        const refused = given && (await db.importUnsynced(given).catch(({ code }) => code));
        const all = await db.collection("sites").all();
        const id = given ? "1" : "0";
        if (of === 1) await db.collection("sites").put({ id, name: "one" });
        const out = await db.exportUnsynced();
        await db.close();
        return { all, refused, out };
      },
      [rig.user, version, backup],
    );
  const again = async () => {
    await page.evaluate(throwAway);
    await page.reload();
    await page.waitForFunction(() => window.landfall);
  };
  const first = await at(1);
  await again();
  const second = await at(2);
  assert.deepEqual(second.all, [{ id: "0", title: "one" }]);
  assert.deepEqual([first.out.version, second.out.version], [1, 2]);
  await again();
  // A page of the older app leaves it where it is.
  const older = await at(1, second.out);
  assert.deepEqual([older.all, older.refused], [[], "database-newer"]);
  await again();
  const newer = await at(2);
  const both = ["0", "1"].map((id) => ({ id, title: "one" }));
  assert.deepEqual(newer.all, both);
  await page.evaluate(throwAway);
  // Without its copy.
  rig.user = `${rig.user}-2`;
  await at(2);
  const imported = await at(2, { ...first.out, user: rig.user });
  assert.deepEqual([imported.refused, imported.all], [1, [{ id: "0", title: "one" }]]);
}

/** One byte, in the file in which Chromium has all databases of the origin. */
async function damageDatabase(profile, port) {
  const folder = join(profile, "Default/IndexedDB", `http_127.0.0.1_${port}.indexeddb.leveldb`);
  const name = (await readdir(folder)).find((file) => file.endsWith(".log"));
  const bytes = await readFile(join(folder, name));
  bytes[DAMAGE_AT] ^= 0xff;
  await writeFile(join(folder, name), bytes);
}

const inEach = (name, run) =>
  PLACES.map((place) => ({
    name: `rescue copy (${place}): ${name}`,
    run: (rig) => run(rig, place),
  }));

export const rescue = [
  ...inEach("what is written is there after a reload", roundTrip),
  ...inEach("reset, another client, delete", anew),
  ...inEach("two tabs at once lose nothing of each other", twoTabs),
  ...inEach("damaged and torn entries cost only themselves", damage),
  ...inEach("what is gone makes room", compaction),
  ...inEach("a full disk is told and spoils nothing", quota).slice(1),
  { name: "rescue copy: whole when the database was closed, and thrown away", run: closedAtOnce },
  ...inEach("thrown away while the database is in use, made anew", lost),
  ...inEach("what does not answer is given up, and used anew", silentPlace),
  { name: "rescue copy: strict, and one that does not answer", run: silentAndStrict },
  { name: "rescue copy: what could not be written is written later", run: unwritten },
  { name: "rescue copy: what has gone unheard does not come back", run: goneUnheard },
  {
    name: "rescue copy: whole when the page was left, and the database thrown away",
    run: leftAtOnce,
  },
  { name: "rescue copy: changes of a collection that is not declared any more", run: undeclared },
  { name: "rescue copy: what is in the way of one change keeps no other out", run: inTheWay },
  { name: "rescue copy: changes of an older version of the data are migrated", run: olderVersion },
  { name: "rescue copy: killed, and the database thrown away", run: killed },
];
