// What the tests of the rescue copy do inside a page. `addRescue` travels as text: it must not refer
// to anything outside itself.

/** Where a copy can be. */
export const PLACES = ["bucket", "opfs", "cache"];

export function addRescue() {
  const CLIENT = "client-1";

  function without(object, name) {
    Object.defineProperty(object, name, { value: undefined, configurable: true });
  }

  const openLog = async () => {
    const names = await navigator.storageBuckets.keys();
    const bucket = await navigator.storageBuckets.open(names[0]);
    const request = bucket.indexedDB.open("rescue");
    const db = await new Promise((resolve) => (request.onsuccess = () => resolve(request.result)));
    const tx = db.transaction("log", "readwrite");
    return { db, store: tx.objectStore("log"), done: new Promise((end) => (tx.oncomplete = end)) };
  };
  const openFolder = async () => {
    const root = await navigator.storage.getDirectory();
    for await (const entry of root.values()) return entry;
  };
  const openFile = async () => {
    for await (const entry of (await openFolder()).values()) return entry;
  };
  const get = (request) =>
    new Promise((resolve) => (request.onsuccess = () => resolve(request.result)));
  const entries = async () => {
    const cache = await caches.open((await caches.keys())[0]);
    // One that was replaced has changed its place.
    return [cache, (await cache.keys()).sort((a, b) => (a.url < b.url ? -1 : 1))];
  };

  /** The copy's text as it is stored, and ways to spoil it, behind the module's back. */
  const stored = {
    bucket: {
      names: () => navigator.storageBuckets.keys(),
      async texts() {
        const { db, store } = await openLog();
        const texts = await get(store.getAll());
        db.close();
        return texts;
      },
      async spoil(index, change) {
        const { db, store, done } = await openLog();
        const keys = await get(store.getAllKeys());
        const key = keys.at(index);
        store.put(change(await get(store.get(key))), key);
        await done;
        db.close();
      },
    },
    opfs: {
      names: async () => {
        const found = [];
        const root = await navigator.storage.getDirectory();
        for await (const name of root.keys()) found.push(name);
        return found;
      },
      async texts() {
        const file = await (await openFile()).getFile();
        return (await file.text()).split(/(?=\n)/);
      },
      async spoil(index, change) {
        const texts = await this.texts();
        const at = index < 0 ? texts.length + index : index;
        texts[at] = change(texts[at]);
        const writable = await (await openFile()).createWritable();
        await writable.write(texts.join(""));
        await writable.close();
      },
    },
    cache: {
      names: () => caches.keys(),
      async texts() {
        const [cache, keys] = await entries();
        return Promise.all(keys.map(async (key) => (await cache.match(key)).text()));
      },
      async spoil(index, change) {
        const [cache, keys] = await entries();
        const key = keys.at(index);
        const text = await (await cache.match(key)).text();
        await cache.put(key, new Response(change(text)));
      },
    },
  };

  /** A database of the origin's own, as an app has it. */
  async function openDatabase() {
    const request = indexedDB.open("own");
    request.onupgradeneeded = () => request.result.createObjectStore("records");
    return get(request);
  }

  /** The numbers that live, for each copy that was opened. */
  const living = new WeakMap();
  const count = (rescue, put, gone) => {
    if (!living.has(rescue)) living.set(rescue, new Set());
    const alive = living.get(rescue);
    for (const { number } of put) alive.add(number);
    for (const number of gone) alive.delete(number);
    return alive.size;
  };
  const write = (rescue, next, put, gone) =>
    rescue.write({
      client: CLIENT,
      next,
      stamp: [next, 0],
      put,
      gone,
      left: count(rescue, put, gone),
      alone: () => window.rescueLab.alone,
    });

  window.rescueLab = {
    stored,
    /** What copies are told of other tabs. */
    alone: false,

    async fillDatabase() {
      const db = await openDatabase();
      const tx = db.transaction("records", "readwrite");
      for (let key = 0; key < 100; key += 1) tx.objectStore("records").put("r".repeat(500), key);
      await new Promise((resolve) => (tx.oncomplete = resolve));
    },

    async countDatabase() {
      const db = await openDatabase();
      return get(db.transaction("records").objectStore("records").count());
    },

    /** Opens a copy in this place: better ones are taken from the page. */
    async open(place, name = "landfall:lab:Frau Müller") {
      const kept = { buckets: navigator.storageBuckets, Worker: window.Worker };
      if (place !== "bucket") without(navigator, "storageBuckets");
      if (place === "cache") without(window, "Worker");
      const rescue = await window.openRescue(name);
      Object.defineProperty(navigator, "storageBuckets", {
        value: kept.buckets,
        configurable: true,
      });
      window.Worker = kept.Worker;
      if (rescue?.place !== place) throw new Error(`it is in ${rescue?.place}`);
      return rescue;
    },

    mutations: (from, to, more = {}) =>
      Array.from({ length: to - from + 1 }, (_, i) => ({
        number: from + i,
        id: `m${from + i}`,
        collection: "sites",
        data: { name: `Käse\n„${from + i}“`, note: "n".repeat(200) },
        ...more,
      })),

    /** Puts the mutations of these numbers, of the client of the tests. */
    put: (rescue, from, to, more) =>
      write(rescue, to + 1, window.rescueLab.mutations(from, to, more), []),

    gone: (rescue, from, to, next = 0) =>
      write(
        rescue,
        next,
        [],
        Array.from({ length: to - from + 1 }, (_, i) => from + i),
      ),

    numbers: async (rescue) => (await rescue.load())?.mutations.map(({ number }) => number) ?? null,
  };
}
