// Where a rescue copy can be, best first. Each place is opened by `open(id, durability)`, which throws
// where the platform lacks it, and has:
//
//   add(text)   appends, durably once it resolves; true if what was there when it was opened is gone
//   all()       the whole text
//   last()      the end of it, with the newest entry unless that is very long
//   swap(fn)    replaces all by `fn(all)`: a kill leaves the old text, the new or both, never less
//   clear(fn)   replaces all by `fn(last)` unless that is null; answers whether it did
//   delete()    deletes it, and closes
//   close()
//
// Tabs that use the same place at once lose nothing of each other. Nothing waits for ever: what has not answered in
// time is given up and rejects. It may still be stored then, before anything that comes after it.

import { within } from "./limit.js";

const noAnswer = () => new DOMException("no answer in time", "TimeoutError");

/** A worker that has not answered by then is blocked, or its file is not served. */
const WORKER_START_MS = 5_000;

// --- A storage bucket of our own: a database beside the origin's, in files of its own ---

function settled(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function openBucket(id, durability) {
  const buckets = navigator.storageBuckets;
  let db = null;
  let tx = null;
  let isNew = false;
  /** Raised when something is given up: what comes of it later is not used. */
  let turn = 0;

  async function connect() {
    const mine = turn;
    const bucket = await buckets.open(id);
    bucket.persist().catch(() => {});
    const request = bucket.indexedDB.open("rescue", 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("log", { autoIncrement: true });
      isNew = true;
    };
    const made = await settled(request);
    if (mine !== turn) {
      made.close();
      throw noAnswer();
    }
    db = made;
    db.onclose = () => (db = null);
    db.onversionchange = close;
  }

  function close() {
    db?.close();
    db = null;
  }

  function giveUp() {
    turn += 1;
    try {
      tx?.abort();
    } catch {
      // It is being committed: that cannot be taken back.
    }
    close();
    return noAnswer();
  }

  const inTime = (work) => within(work(), giveUp);

  /** `use` makes its requests at once, and may leave a result; resolves when they are committed. */
  const commit = (mode, use) =>
    inTime(async () => {
      if (db === null) await connect();
      return new Promise((resolve, reject) => {
        const own = (tx = db.transaction("log", mode, { durability }));
        let result;
        own.oncomplete = () => resolve(result);
        own.onabort = () => reject(own.error ?? new DOMException("aborted", "AbortError"));
        use(own.objectStore("log"), (value) => (result = value));
      });
    });

  function read(store, then) {
    store.getAll().onsuccess = ({ target }) => then(target.result.join("\n"));
  }

  function readLast(store, then) {
    store.openCursor(null, "prev").onsuccess = ({ target }) => then(target.result?.value ?? "");
  }

  await inTime(connect);
  isNew = false;
  return {
    // Told to commit at once: a page that goes meanwhile takes with it what was not.
    async add(text) {
      await commit("readwrite", (store) => {
        store.add(text);
        store.transaction.commit();
      });
      const was = isNew;
      isNew = false;
      return was;
    },
    all: () => commit("readonly", read),
    last: () => commit("readonly", readLast),
    swap: (fn) =>
      commit("readwrite", (store) =>
        read(store, (text) => {
          const next = fn(text);
          store.clear();
          store.add(next);
        }),
      ),
    clear: (fn) =>
      commit("readwrite", (store, then) =>
        readLast(store, (text) => {
          const next = fn(text);
          then(next !== null);
          if (next === null) return;
          store.clear();
          store.add(next);
        }),
      ),
    async delete() {
      close();
      await within(buckets.delete(id), noAnswer);
    },
    close,
  };
}

// --- Places without transactions: one tab at a time, and new text is there before old text goes ---

/**
 * Runs `work(turn)` while no other tab does. `drop()` ends what is given up; what cannot be ended sees
 * `turn.over`, and must change nothing more.
 */
function turns(id, drop) {
  return (work) => {
    const turn = { over: false };
    const giveUp = () => {
      turn.over = true;
      drop();
      return noAnswer();
    };
    const waiting = new AbortController();
    let begin;
    const begun = new Promise((resolve) => (begin = resolve));
    const done = navigator.locks.request(id, { signal: waiting.signal }, () => {
      begin();
      return within(work(turn), giveUp);
    });
    within(Promise.race([begun, done]), noAnswer).catch((error) => waiting.abort(error));
    return done;
  };
}

/** Adds the lock, and `swap` made of `all` and `replace`. */
function locked(alone, { add, all, last, replace, remove, close }) {
  return {
    add: (text) => alone((turn) => add(text, turn)),
    all: () => alone(all),
    last: () => alone(last),
    swap: (fn) => alone(async (turn) => replace(fn(await all()), turn)),
    clear: (fn) =>
      alone(async (turn) => {
        const next = fn(await last());
        if (next !== null) await replace(next, turn);
        return next !== null;
      }),
    async delete() {
      await alone(remove);
      close();
    },
    close,
  };
}

// --- A file of the origin's private file system, written by a worker of our own ---

function startWorker() {
  const worker = new Worker(new URL("./rescue-worker.js", import.meta.url), { type: "module" });
  const asked = [];
  let dead = null;
  const call = (...message) =>
    new Promise((resolve, reject) => {
      if (dead !== null) return reject(dead);
      asked.push({ resolve, reject });
      worker.postMessage(message);
    });
  // It answers in the order in which it was asked.
  worker.onmessage = ({ data: { result, error } }) => {
    const { resolve, reject } = asked.shift();
    if (error) reject(error);
    else resolve(result);
  };
  // Whoever waits must hear of it, or would hold the lock for ever.
  const end = () => {
    dead = new DOMException("the worker has ended", "InvalidStateError");
    worker.terminate();
    for (const { reject } of asked.splice(0)) reject(dead);
  };
  worker.onerror = end;
  return { call, end };
}

async function openFile(id) {
  // It is loaded while others have their turn.
  let worker = startWorker();
  let closed = false;
  const drop = () => {
    worker?.end();
    worker = null;
  };
  const begin = async () => {
    if (closed) throw new DOMException("closed", "InvalidStateError");
    worker ??= startWorker();
    const late = setTimeout(drop, WORKER_START_MS);
    await worker.call("open", id).finally(() => clearTimeout(late));
  };
  const call = async (...message) => {
    // One that did not answer has been ended.
    if (worker === null) await begin().catch(failed);
    return worker.call(...message);
  };
  const failed = (error) => {
    drop();
    throw error;
  };
  const alone = turns(id, drop);
  await alone(begin).catch(failed);
  return locked(alone, {
    add: (text) => call("add", text),
    all: () => call("all"),
    last: () => call("last"),
    replace: (text) => call("replace", text),
    remove: () => call("remove"),
    close() {
      closed = true;
      drop();
    },
  });
}

// --- Cache storage: one entry an append ---

async function openCache(id) {
  let newest = 0;
  let isNew = false;

  /** Each time: an app's service worker may delete it together with old caches of its own. */
  async function open() {
    isNew ||= !(await caches.has(id));
    return caches.open(id);
  }

  async function add(text, turn) {
    const cache = await open();
    if (turn.over) throw noAnswer();
    newest = Math.max(newest + 1, Date.now());
    // Another tab may write in the same millisecond.
    const name = `${String(newest).padStart(16, "0")}-${crypto.randomUUID()}`;
    await cache.put(`/${id}/${name}`, new Response(text));
    if (turn.over) throw noAnswer();
    const was = isNew;
    isNew = false;
    return was;
  }

  /** In the order of their names, which is the order in which they were made. */
  async function names(cache) {
    const found = (await cache.keys()).map(({ url }) => url).sort();
    if (found.length > 0) newest = Math.max(newest, parseInt(found.at(-1).split("/").at(-1), 10));
    return found;
  }

  async function texts(from) {
    const cache = await open();
    const found = (await names(cache)).slice(from);
    // One that cannot be read counts as damaged.
    const read = found.map(async (url) => (await cache.match(url)).text().catch(() => "?"));
    return (await Promise.all(read)).join("\n");
  }

  async function replace(text, turn) {
    const cache = await open();
    const old = await names(cache);
    await add(text, turn);
    // The oldest first: a kill leaves a tail, which has the `gone`s that came after its `put`s.
    for (const url of old) await cache.delete(url);
  }

  await open();
  isNew = false;
  const alone = turns(id, () => {});
  return locked(alone, {
    add,
    all: () => texts(0),
    last: () => texts(-1),
    replace,
    remove: () => caches.delete(id),
    close() {},
  });
}

async function removeFile(id) {
  const root = await navigator.storage.getDirectory();
  await root.removeEntry(id, { recursive: true });
}

/** By what docs/RESCUE.md measured: names, how they are opened, and how they go without that. */
export const PLACES = [
  ["bucket", openBucket, (id) => navigator.storageBuckets.delete(id)],
  ["opfs", openFile, removeFile],
  ["cache", openCache, (id) => caches.delete(id)],
];
