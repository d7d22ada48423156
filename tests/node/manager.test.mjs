import assert from "node:assert/strict";
import test from "node:test";
import { SyncManager } from "../../npm/manager.js";

/** A core that stores nothing, and has the phase that it was told. */
class FakeCore {
  static async open(_options, _backend, host) {
    return Object.assign(new FakeCore(), { host });
  }
  phase = "idle";
  syncedThrough = null;
  acted = [];
  status() {
    const outbox = { pending: this.acted.length, syncing: 0, conflict: 0, failed: 0 };
    const { phase, syncedThrough } = this;
    return { phase, leader: true, network: "online", outbox, error: null, syncedThrough };
  }
  signal(what) {
    if (what === "pause") this.phase = "paused";
    if (what === "resume") this.phase = "idle";
    if (what === "sync") this.started = Date.now();
    this.host.status();
  }
  isOpen = () => this.phase !== "closed";
  settled = () => true;
  missed = () => false;
  catchUp() {}
  fresh = () => false;
  client = () => "c";
  startRescue() {}
  write(_name, _kind, _items, _options, done) {
    this.acted.push("write");
    done(null);
  }
  transact(_writes, _reads, _grouped, done) {
    this.acted.push("transact");
    done(null);
  }
  act(kind, _id, done) {
    this.acted.push(kind);
    done(null, 0);
  }
  edit(_id, _patch, _names, _record, done) {
    this.acted.push("edit");
    done(null);
  }
  resolve(_id, _choice, done) {
    this.acted.push("resolve");
    done(null);
  }
  conflicts = () => [];
  outboxEntry = () => undefined;
  present = (_name, key) => key;
  close(done) {
    this.phase = "closed";
    setTimeout(done);
  }
  free() {}
}

async function opened(more = {}) {
  const options = { database: "manager-test", collections: { sites: { key: "id" } } };
  const reach = async () => ({});
  const how = { loaded: null, reach, schemas: new Map(), handlers: new Map(), rescue: false };
  return new SyncManager("app", "user", options.database).start(FakeCore, options, {
    ...how,
    ...more,
  });
}

test("a change is told to all who watch, whoever has looked at the status meanwhile", async () => {
  const db = await opened();
  try {
    const told = [];
    db.subscribe(({ phase }) => told.push(phase));
    const waited = db.waitFor(({ phase }) => phase === "paused");
    db.pause();
    assert.equal(db.status.phase, "paused");
    await null;
    assert.deepEqual(told, ["idle", "paused"]);
    await waited;
    db.resume();
    const late = [];
    db.subscribe(({ phase }) => late.push(phase));
    await null;
    assert.deepEqual([told, late], [["idle", "paused", "idle"], ["idle"]]);
  } finally {
    await db.close();
  }
});

test("what was begun before a sign-out is refused once all is counted", async () => {
  globalThis.indexedDB = {
    deleteDatabase() {
      const request = {};
      setTimeout(() => request.onsuccess());
      return request;
    },
  };
  const db = await opened();
  let core;
  db.now((it) => (core = it));
  const closing = new Promise((resolve) => {
    const close = core.close.bind(core);
    core.close = (done) => {
      resolve();
      setTimeout(close, 10, done);
    };
  });
  let go;
  const gate = new Promise((resolve) => (go = resolve));
  const begun = db.transaction(async (tx) => {
    await gate;
    tx.collection("sites").put({ id: "a" });
  });
  const out = db.signOut();
  await closing;
  go();
  const codeOf = (promise) =>
    promise.then(
      () => "stored",
      ({ code }) => code,
    );
  const late = [
    begun,
    db.outbox.retryAll(),
    db.outbox.edit("m", { n: 1 }),
    db.conflicts.resolve("m", "local"),
  ];
  const codes = await Promise.all(late.map(codeOf));
  await out;
  assert.deepEqual([codes, core.acted], [Array(4).fill("closed"), []]);
});

test("a sign-out counts what a schema still checks when all else is counted", async () => {
  const validate = async (value) => {
    await new Promise((resolve) => setTimeout(resolve, 20));
    return { value };
  };
  const schemas = new Map([["sites", { "~standard": { validate } }]]);
  const db = await opened({ schemas });
  try {
    let core;
    db.now((it) => (core = it));
    let made;
    core.catchUp = () => {
      core.settled = () => false;
      core.settle = (done) => {
        // Handed in while the log is read.
        made ??= db.collection("sites").create({ id: "a" });
        setTimeout(done);
      };
    };
    await assert.rejects(db.signOut(), { code: "unsynced" });
    await made;
    assert.deepEqual([core.acted, db.status.phase], [["write"], "idle"]);
  } finally {
    await db.close();
  }
});

/** Locks as a browser has them, and a cache that takes its time. */
function slowPlatform(t, putMs) {
  const [held, queue] = [[], []];
  const fits = ({ name, mode }) =>
    held.every((it) => it.name !== name || (it.mode === "shared" && mode === "shared"));
  const grant = () => {
    const isFirst = (it, at) => queue.findIndex(({ name }) => name === it.name) === at;
    const next = queue.find((it, at) => isFirst(it, at) && fits(it));
    if (!next) return;
    queue.splice(queue.indexOf(next), 1);
    held.push(next);
    const done = Promise.resolve(next).then(next.work);
    done.catch(() => {}).then(() => (held.splice(held.indexOf(next), 1), grant()));
    next.resolve(done);
    grant();
  };
  const request = (name, options, work) =>
    new Promise((resolve) => {
      queue.push({ name, mode: options.mode ?? "exclusive", work, resolve });
      grant();
    });
  const navigator = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  Object.defineProperty(globalThis, "navigator", {
    value: { locks: { request } },
    configurable: true,
  });
  const stored = new Map();
  const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  globalThis.caches = {
    has: async (id) => stored.has(id),
    delete: async (id) => stored.delete(id),
    async open(id) {
      if (!stored.has(id)) stored.set(id, new Map());
      const entries = stored.get(id);
      return {
        keys: async () => [...entries.keys()].map((url) => ({ url })),
        match: async (url) => entries.get(url)?.clone(),
        delete: async (url) => entries.delete(url),
        async put(url, answer) {
          await sleep(putMs);
          if (!stored.has(id)) stored.set(id, new Map());
          stored.get(id).set(url, answer);
        },
      };
    },
  };
  t.after(() => {
    if (navigator) Object.defineProperty(globalThis, "navigator", navigator);
    else delete globalThis.navigator;
    delete globalThis.caches;
  });
  return { request, stored };
}

test("who waits to be alone waits for what is on its way into the rescue copy", async (t) => {
  const { request } = slowPlatform(t, 20);
  const db = await opened({ rescue: true });
  let host;
  db.now((core) => (host = core.host));
  const put = { number: 1, collection: "sites", key: "a" };
  const batch = { client: "c", next: 2, stamp: [1, 0], seq: 1, put: [put], gone: [], left: 1 };
  let kept = 0;
  // The core does not wait for it for long.
  for (let i = 0; i < 2; i++) host.rescue(batch).then(() => (kept += 1));
  const closed = db.close();
  await request("manager-test:open", {}, () => {
    assert.equal(kept, 2);
  });
  await closed;
});

test("what a sign-out cannot delete of the rescue copy stays with its database", async (t) => {
  slowPlatform(t, 1);
  let deleted = 0;
  const success = (request) => setTimeout(() => request.onsuccess());
  globalThis.indexedDB = {
    deleteDatabase() {
      deleted += 1;
      const request = {};
      success(request);
      return request;
    },
  };
  const remove = globalThis.caches.delete;
  globalThis.caches.delete = async () => {
    throw new DOMException("it is busy", "UnknownError");
  };
  const refused = { code: "rescue-failed", message: /deleted: it is busy/ };
  const first = await opened({ rescue: true });
  await assert.rejects(first.signOut({ discard: true }), refused);
  assert.equal(deleted, 0);
  globalThis.caches.delete = remove;
  const again = await opened({ rescue: true });
  await again.signOut();
  assert.equal(deleted, 1);
});

test("a wait for a sync ends though the device's clock was set back meanwhile", async (t) => {
  t.mock.timers.enable({ apis: ["Date"], now: 7_200_000 });
  const db = await opened({ backend: {} });
  try {
    let core;
    db.now((it) => (core = it));
    const turns = () => new Promise((resolve) => setTimeout(resolve, 5));
    const waits = [db.sync(), db.whenSynced()].map((wait) => wait.then(() => "synced"));
    await turns();
    t.mock.timers.setTime(3_600_000);
    core.phase = "syncing";
    core.host.status();
    await turns();
    // What it was about before is not known to be late enough: another one is asked for.
    assert.equal(core.started, 3_600_000);
    Object.assign(core, { phase: "idle", syncedThrough: core.started });
    core.host.status();
    assert.deepEqual(await Promise.all(waits), ["synced", "synced"]);
  } finally {
    await db.close();
  }
});

test("what was stopped is not called any more, not even for what the others are being told", async () => {
  const db = await opened();
  try {
    const told = [];
    const stops = [];
    const stopAll = () => stops.splice(0).forEach((stop) => stop());
    for (const which of ["first", "second"]) {
      stops.push(
        db.subscribe(({ phase }) => {
          if (phase !== "paused") return;
          told.push(which);
          stopAll();
        }),
      );
    }
    db.pause();
    await null;
    let core;
    db.now((it) => (core = it));
    for (const which of ["first", "second"]) {
      stops.push(
        db.on("error", () => {
          told.push(which);
          stopAll();
        }),
      );
    }
    await new Promise((resolve) => setTimeout(resolve));
    core.host.failed({ code: "storage-failed" });
    assert.deepEqual(told, ["first", "first"]);
  } finally {
    await db.close();
  }
});

test("what is to be called is a function, or is refused at once", async () => {
  const db = await opened();
  const refused = { name: "LandfallError", code: "invalid-options" };
  try {
    assert.throws(() => db.subscribe(), refused);
    assert.throws(() => db.subscribe({ next() {} }), refused);
    assert.throws(() => db.on("parked"), refused);
    await assert.rejects(db.waitFor(), refused);
    await assert.rejects(db.transaction(), refused);
  } finally {
    await db.close();
  }
});
