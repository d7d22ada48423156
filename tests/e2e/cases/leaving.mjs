// Tabs that close, sign out or go through a hard moment, and what the others hear of it.
import assert from "node:assert/strict";
import { json, BATCH } from "../lib/fault-proxy.mjs";
import { eventually, within } from "../lib/within.mjs";

/** Two tabs of one device; the first leads. */
async function twoTabs(rig, more = {}, scripts = []) {
  const context = await rig.device();
  const first = await rig.tab(context, scripts);
  await rig.open(first, more);
  await first.evaluate(() => window.lab.waitFor("s.leader"));
  const second = await rig.tab(context);
  await rig.open(second, more);
  return [first, second];
}

async function waitingWrite(rig) {
  const [first, second] = await twoTabs(rig, { autoStart: false });
  await first.evaluate(() => {
    const channel = new BroadcastChannel("test");
    window.left = new Promise((resolve) => {
      channel.onmessage = () => resolve(window.lab.errorOf(() => window.db.signOut()));
    });
  });
  // The change waits behind drafts that take a while, when the other tab asks this one to close.
  await second.evaluate(() => {
    const { sites } = window.lab;
    const text = "x".repeat(400);
    const drafts = Array.from({ length: 20_000 }, (_, i) => ({ id: `d${i}`, name: text }));
    window.drafts = sites.putMany(drafts, { localOnly: true });
    window.change = sites.create({ id: "mine", name: "mine" }).then(
      () => "stored",
      ({ code }) => code,
    );
    new BroadcastChannel("test").postMessage("go");
  });
  const error = await first.evaluate(() => window.left);
  assert.equal(await second.evaluate(() => window.change), "stored");
  assert.equal(error?.code, "unsynced");
  assert.ok(await first.evaluate(() => window.lab.sites.get("mine")));
}

async function lastWrite(rig) {
  const [first, second] = await twoTabs(rig, { interval: 0 });
  await first.evaluate(() => window.lab.synced());
  await first.evaluate(() => {
    window.rows = "";
    window.lab.sites.subscribe((rows) => (window.rows = rows.map(({ id }) => id).join()));
  });
  await second.evaluate(() => window.lab.sites.create({ id: "a", name: "a" }));
  await eventually("it is sent", async () => (await rig.records()).size === 1);
  await first.evaluate(() => window.lab.waitFor("s.phase === 'idle'"));
  await second.evaluate(async () => {
    const last = window.lab.sites.create({ id: "b", name: "b" });
    await window.db.close();
    await last;
  });
  await eventually("the other tab shows the last write", () =>
    first.evaluate(() => window.rows === "a,b"),
  );
  await eventually("and sends it", async () => (await rig.records()).size === 2);
}

async function writesAfterLeaving(rig) {
  const page = await rig.tab();
  await rig.open(page, { autoStart: false });
  const got = await page.evaluate(async () => {
    const { db, lab } = window;
    const { sites } = lab;
    const ways = {
      create: () => sites.create({ id: "x", name: "x" }),
      putMany: () => sites.putMany([{ id: "x", name: "x" }]),
      update: () => sites.update("x", { name: "y" }, { localOnly: false }),
      delete: () => sites.delete("x"),
      transaction: () => db.transaction((tx) => tx.collection("sites").delete("x")),
      importUnsynced: () => db.importUnsynced({}),
    };
    const before = sites.create({ id: "a", name: "a" });
    const closing = [db.close(), db.close()];
    const codes = {};
    for (const [name, run] of Object.entries(ways)) codes[name] = (await lab.errorOf(run))?.code;
    await Promise.all([before, ...closing]);
    const { phase, outbox } = db.status;
    const late = await lab.errorOf(() => sites.all());
    return { codes, phase, pending: outbox.pending, late: late.code };
  });
  for (const [name, code] of Object.entries(got.codes)) assert.equal(code, "closed", name);
  assert.deepEqual([got.phase, got.pending, got.late], ["closed", 1, "closed"]);
}

async function checkedWrite(rig) {
  const page = await rig.tab();
  const got = await page.evaluate(async (user) => {
    const { open } = window.landfall;
    const validate = async (value) => {
      await new Promise((resolve) => setTimeout(resolve, 50));
      return { value };
    };
    const schema = { "~standard": { version: 1, vendor: "test", validate } };
    const options = { name: "checked", user, collections: { sites: { key: "id", schema } } };
    const db = await open(options);
    const made = db.collection("sites").create({ id: "a", n: 1 });
    const changed = db.collection("sites").update("a", JSON.parse('{ "n": 2, "__proto__": 7 }'));
    const backup = await db.exportUnsynced();
    const another = db.collection("sites").create({ id: "b", n: 3 });
    await db.close();
    await Promise.all([made, changed, another]);
    const again = await open(options);
    const rows = await again.collection("sites").all();
    return [backup.mutations.length, JSON.stringify(rows)];
  }, rig.user);
  assert.deepEqual(got, [1, '[{"id":"a","n":2,"__proto__":7},{"id":"b","n":3}]']);
}

async function unawaited(rig) {
  const page = await rig.tab();
  await rig.open(page, { autoStart: false });
  const got = await page.evaluate(async () => {
    const { db, lab } = window;
    await lab.sites.putMany(["1", "2", "3", "4"].map((id) => ({ id, name: id, n: 0 })));
    await db.transaction((tx) => {
      const t = tx.collection("sites");
      t.update("1", { n: 1 });
      t.get("2").then(({ n }) => t.update("2", { n: n + 1 }));
      for (const id of ["3", "4"]) {
        (async () => {
          const { n } = await t.get(id);
          await t.update(id, { n: n + 1 });
        })();
      }
    });
    return (await lab.sites.all()).map(({ n }) => n);
  });
  assert.deepEqual(got, [1, 1, 1, 1]);
}

function denyLocks() {
  const error = () => Promise.reject(new DOMException("denied", "SecurityError"));
  LockManager.prototype.request = error;
}

async function deniedLocks(rig) {
  const context = await rig.device();
  const [first, second] = [
    await rig.tab(context, [denyLocks]),
    await rig.tab(context, [denyLocks]),
  ];
  for (const page of [first, second]) await within(10_000, "it opens", rig.open(page));
  await first.evaluate(() => {
    window.seen = 0;
    window.lab.sites.subscribe((rows) => (window.seen = rows.length));
  });
  await second.evaluate(() => window.lab.sites.create({ id: "a", name: "a" }));
  await second.evaluate(() => window.lab.synced());
  await eventually("the other tab shows it", () => first.evaluate(() => window.seen === 1));
  assert.equal((await rig.records()).size, 1);
}

/** Answers of an app's own backend that cannot be told from good ones before they are read. */
async function oddAnswers(rig) {
  const page = await rig.tab();
  const got = await page.evaluate(async (user) => {
    const circle = { id: "p" };
    circle.circle = circle;
    const odd = {
      bigint: { id: "p", n: 1n },
      circle,
      getter: {
        id: "p",
        get n() {
          throw new Error("no");
        },
      },
      list: { id: "p", toJSON: () => [1] },
      nothing: { id: "p", toJSON: () => undefined },
    };
    const state = { data: null, result: {} };
    const backend = {
      push: async (changes) => ({
        results: changes.map(({ id, offlineId }) => ({
          ...{ id, offlineId, status: "success", versionNumber: 1 },
          ...state.result,
        })),
      }),
      pull: async () => ({
        changes: state.data ? [{ type: "sites", id: "p", versionNumber: 1, data: state.data }] : [],
        checkpoint: "1",
        hasMore: false,
      }),
    };
    const collections = { sites: { key: "id" } };
    const db = await window.landfall.open({ name: "odd", user, backend, collections, interval: 0 });
    const code = async () => (await window.lab.errorOf(() => db.sync()))?.code ?? "synced";
    const codes = {};
    for (const [name, data] of Object.entries(odd)) {
      state.data = data;
      codes[`pull: ${name}`] = await code();
    }
    state.data = null;
    await db.sync();
    await db.collection("sites").create({ id: "p", n: 0 });
    const otherKey = { status: "conflict", versionNumber: 2, data: { id: "q", n: 1 } };
    const noKey = { status: "success", versionNumber: 1, data: { n: 1 } };
    for (const [name, result] of Object.entries({ otherKey, noKey })) {
      state.result = result;
      codes[`push: ${name}`] = await code();
    }
    for (const [name, data] of Object.entries(odd)) {
      state.result = { data };
      codes[`push: ${name}`] = await code();
    }
    const queued = (await db.outbox.list()).length;
    state.result = {};
    await db.whenSynced();
    return { codes, queued, rows: await db.collection("sites").all() };
  }, rig.user);
  assert.equal(Object.keys(got.codes).length, 12);
  for (const [name, code] of Object.entries(got.codes)) assert.equal(code, "protocol-error", name);
  assert.equal(got.queued, 1, "nothing was taken for done");
  assert.deepEqual(got.rows, [{ id: "p", n: 0 }]);
}

async function everyTabHears(rig) {
  const [first, second] = await twoTabs(rig);
  await first.evaluate(() => window.lab.synced());
  for (const page of [first, second]) {
    await page.evaluate(() => {
      window.heard = [];
      const note = (event) => window.db.on(event, ({ key }) => window.heard.push([event, key]));
      for (const event of ["mutation", "parked"]) note(event);
    });
  }
  rig.faults.on(BATCH, ({ body, answer }) => {
    const results = body.changes.map(({ id, offlineId }) =>
      offlineId === "bad"
        ? { id, offlineId, status: "failed", code: "rejected", message: "no" }
        : { id, offlineId, status: "success", versionNumber: 1 },
    );
    answer(200, json, JSON.stringify({ results }));
  });
  await second.evaluate(() => window.lab.sites.create({ id: "good", name: "good" }));
  await second.evaluate(() => window.lab.sites.create({ id: "bad", name: "bad" }));
  const want = JSON.stringify([
    ["mutation", "good"],
    ["parked", "bad"],
  ]);
  for (const page of [first, second]) {
    await eventually("both tabs hear both, once", async () => {
      const heard = await page.evaluate(() => JSON.stringify(window.heard.sort()));
      return heard === want;
    });
  }
  assert.equal(await second.evaluate(() => window.db.status.leader), false);
}

/** What a tab says reaches the others late, in the order in which it was said. */
function sayLate() {
  const send = BroadcastChannel.prototype.postMessage;
  let last = 0;
  BroadcastChannel.prototype.postMessage = function (data) {
    last = Math.max(last, performance.now() + Math.random() * 30);
    const at = last;
    setTimeout(() => send.call(this, data), at - performance.now());
  };
}

async function followersAsk(rig) {
  const [first, second] = await twoTabs(rig, {}, [sayLate]);
  await second.evaluate(() => window.lab.waitFor("s.phase === 'idle'"));
  await second.evaluate(() => window.db.pause());
  await second.evaluate(() => window.lab.waitFor("s.phase === 'paused'"));
  const refused = await second.evaluate(() => window.lab.errorOf(() => window.db.sync()));
  assert.equal(refused?.code, "aborted", "still paused");
  const error = await second.evaluate(() =>
    window.lab.errorOf(() => {
      window.db.resume();
      return window.db.sync();
    }),
  );
  assert.equal(error, null, "resumed and synced");
  assert.equal(await first.evaluate(() => window.db.status.leader), true);
}

async function leftAlone(rig) {
  const page = await rig.tab();
  await rig.open(page);
  await page.evaluate(() => window.lab.synced());
  const busy = { ...json, "retry-after": "600" };
  const rule = rig.faults.on(BATCH, ({ answer }) => answer(429, busy, "{}"));
  await page.evaluate(() => window.lab.sites.create({ id: "a", name: "a" }));
  await page.evaluate(() => window.lab.waitFor("s.error?.code === 'throttled'"));
  rule.stop();
  const error = await within(
    5_000,
    "it says so",
    page.evaluate(() => window.lab.errorOf(() => window.db.sync())),
  );
  assert.equal(error?.code, "throttled");

  const codes = await page.evaluate(async (user) => {
    const collections = { sites: { key: "id" } };
    const db = await window.landfall.open({ name: "alone", user, collections });
    const code = async (run) => (await window.lab.errorOf(run))?.code;
    return [await code(() => db.sync()), await code(() => db.whenSynced())];
  }, rig.user);
  assert.deepEqual(codes, ["invalid-options", "invalid-options"], "there is nobody to sync with");
}

async function letGo(rig) {
  const page = await rig.tab();
  const cdp = await page.context().newCDPSession(page);
  const cycle = async () => {
    await page.evaluate(async (user) => {
      const collections = { sites: { key: "id" } };
      const db = await window.landfall.open({ name: "again", user, collections });
      const rows = Array.from({ length: 500 }, (_, i) => ({ id: `${i}`, text: "x".repeat(1_000) }));
      await db.collection("sites").putMany(rows);
      await db.collection("sites").all();
      await db.close();
      (window.managers ??= []).push(new WeakRef(db));
    }, rig.user);
  };
  for (let i = 0; i < 4; i += 1) await cycle();
  await eventually("closed managers are garbage", async () => {
    await cdp.send("HeapProfiler.collectGarbage");
    return page.evaluate(() => window.managers.every((it) => it.deref() === undefined));
  });
}

/** All tabs sign out in the same moment, as where a library tells each of them. */
async function allSignOut(rig) {
  const databases = (page) =>
    page.evaluate(async () => (await indexedDB.databases()).map(({ name }) => name));
  const signOut = async (tabs) => {
    for (const page of tabs) {
      await page.evaluate(() => {
        const channel = new BroadcastChannel("test");
        window.left = new Promise((resolve) => {
          channel.onmessage = () => resolve(window.lab.errorOf(() => window.db.signOut()));
        });
      });
    }
    const other = await rig.tab(tabs[0].context());
    await other.evaluate(() => void new BroadcastChannel("test").postMessage("go"));
    const errors = await Promise.all(tabs.map((page) => page.evaluate(() => window.left)));
    return [errors.map((error) => error?.code), await databases(other)];
  };
  const synced = await twoTabs(rig);
  for (const page of synced) await page.evaluate(() => window.lab.synced());
  assert.deepEqual(await signOut(synced), [[undefined, undefined], []]);
  // What is not synced keeps it, whoever counts.
  const unsynced = await twoTabs(rig, { autoStart: false });
  await unsynced[1].evaluate(() => window.lab.sites.create({ id: "a", name: "a" }));
  const [codes, kept] = await signOut(unsynced);
  assert.deepEqual([codes, kept.length], [["unsynced", "unsynced"], 1]);
}

async function leftInRescue(rig) {
  const page = await rig.tab();
  const open = (more) => rig.open(page, { autoStart: false, ...more });
  await open();
  await page.evaluate(async () => {
    await window.lab.sites.create({ id: "a", name: "acknowledged" });
    await window.db.close();
    const [{ name }] = await indexedDB.databases();
    await new Promise((resolve) => (indexedDB.deleteDatabase(name).onsuccess = resolve));
  });
  await open({ rescue: false });
  await page.evaluate(async () => {
    await window.lab.sites.put({ id: "a", name: "draft" }, { localOnly: true });
    await window.db.close();
  });
  await open();
  const signOut = (options) =>
    page.evaluate((options) => window.lab.errorOf(() => window.db.signOut(options)), options);
  assert.equal((await signOut())?.code, "unsynced", "a change waits in the rescue copy");
  const backup = await page.evaluate(() => window.db.exportUnsynced());
  const names = backup.others.map(({ mutations }) =>
    mutations.map(({ record }) => JSON.parse(record).name),
  );
  assert.deepEqual([backup.mutations, names, backup.unread], [[], [["acknowledged"]], undefined]);
  const taken = await page.evaluate(
    async ([backup, user]) => {
      const errorOf = async (backup) =>
        (await window.lab.errorOf(() => window.db.importUnsynced(backup)))?.message;
      const refused = await errorOf(backup);
      const collections = { sites: { key: "id" } };
      const other = await window.landfall.open({ name: "other", user, collections });
      const count = await other.importUnsynced({ ...backup, name: "other" });
      const record = await other.collection("sites").get("a");
      await other.signOut({ discard: true });
      return [refused, count, record.name];
    },
    [backup, rig.user],
  );
  assert.match(taken[0], /local-only here/);
  assert.deepEqual(taken.slice(1), [1, "acknowledged"]);
  await page.evaluate(async () => {
    await window.lab.sites.delete("a");
    await window.db.close();
  });
  await open();
  await eventually("it is taken in", () =>
    page.evaluate(async () => (await window.lab.sites.get("a"))?.name === "acknowledged"),
  );
  assert.equal((await signOut())?.code, "unsynced");
  assert.equal(await signOut({ discard: true }), null);
}

/** The rescue copy goes with a sign-out, also where this page does without it. */
async function copyGoes(rig) {
  const page = await rig.tab();
  await rig.open(page, { autoStart: false });
  await page.evaluate(async () => {
    await window.lab.sites.create({ id: "a", name: "a" });
    await window.db.close();
    // As a browser without buckets had it.
    for (const id of await navigator.storageBuckets.keys()) await caches.open(id);
  });
  await rig.open(page, { autoStart: false, rescue: false });
  await page.evaluate(() => window.db.signOut({ discard: true }));
  const kept = () =>
    page.evaluate(async () => [await navigator.storageBuckets.keys(), await caches.keys()]);
  assert.deepEqual(await kept(), [[], []]);
  await rig.open(page, { autoStart: false });
  const got = await page.evaluate(async () => [window.db.status.recovered, await lab.sites.all()]);
  assert.deepEqual(got, [null, []]);
}

export const leaving = [
  { name: "signing out counts what waits in a tab that closes", run: waitingWrite },
  { name: "the last write of a tab that closes is heard of", run: lastWrite },
  { name: "closing takes nothing new, and stores what was handed in", run: writesAfterLeaving },
  { name: "closing waits for what a schema still checks", run: checkedWrite },
  { name: "a transaction stores what was not waited for", run: unawaited },
  { name: "locks that are denied hold nobody up", run: deniedLocks },
  { name: "answers that fail when they are read", run: oddAnswers },
  { name: "every tab hears what became of a change", run: everyTabHears },
  { name: "a tab that follows is answered for what it asked", run: followersAsk },
  { name: "sync says that the server wants to be left alone", run: leftAlone },
  { name: "a closed manager is let go", run: letGo },
  { name: "leaving: all tabs sign out at once", run: allSignOut },
  { name: "leaving: what the rescue copy alone has refuses a sign-out", run: leftInRescue },
  { name: "leaving: the rescue copy goes with a sign-out", run: copyGoes },
];
