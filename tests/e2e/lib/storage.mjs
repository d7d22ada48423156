// The browser's storage from outside: what is in a database, and what can be done to it.

const raw = {
  /** Name and version of the database of `user`, and everything in it; null where there is none. */
  async look(user) {
    const all = await indexedDB.databases();
    const found = all.find(({ name }) => name.startsWith("landfall:") && name.endsWith(`:${user}`));
    if (!found) return null;
    const done = (request) =>
      new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
      });
    const db = await done(indexedDB.open(found.name));
    const stores = {};
    for (const store of db.objectStoreNames) {
      const content = db.transaction(store).objectStore(store);
      const [keys, values] = await Promise.all([
        done(content.getAllKeys()),
        done(content.getAll()),
      ]);
      stores[store] = { keys, values };
    }
    db.close();
    return { name: found.name, version: found.version, stores };
  },

  async fill() {
    const db = await new Promise((resolve, reject) => {
      const request = indexedDB.open("filler", 1);
      request.onupgradeneeded = () => request.result.createObjectStore("filler");
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
    const fits = (bytes) =>
      new Promise((resolve) => {
        // Random, for the browser compresses what it stores.
        const noise = new Uint8Array(bytes);
        for (let at = 0; at < bytes; at += 50_000) {
          crypto.getRandomValues(noise.subarray(at, at + 50_000));
        }
        const tx = db.transaction("filler", "readwrite");
        tx.objectStore("filler").put(noise, crypto.randomUUID());
        tx.oncomplete = () => resolve(true);
        tx.onabort = () => resolve(false);
      });
    for (const bytes of [100_000, 10_000, 1_000, 100, 1]) {
      for (let n = 0; n < 1_000 && (await fits(bytes)); n += 1);
    }
    db.close();
  },
};

/** What the database of `user` holds: `{ name, version, stores: { log: { keys, values } } }`. */
export const look = (page, user) => page.evaluate(raw.look, user);

const sessions = new WeakMap();

/** One for each page, kept: what a session has overridden ends with it. */
async function sessionOf(page) {
  if (!sessions.has(page)) sessions.set(page, await page.context().newCDPSession(page));
  return sessions.get(page);
}

const originOf = (page) => new URL(page.url()).origin;

/** Limits what the page's origin may store, in bytes; without a number the limit is lifted. */
export async function limitStorage(page, bytes) {
  const limit = bytes === undefined ? {} : { quotaSize: bytes };
  const session = await sessionOf(page);
  await session.send("Storage.overrideQuotaForOrigin", { origin: originOf(page), ...limit });
}

/**
 * Takes all the room that is left below the limit, so that not even a small write fits. Chromium
 * looks at the limit again only once the room that it saw before is used up: set the limit before
 * the first write, then fill.
 */
export const fillUp = (page) => page.evaluate(raw.fill);

/** As if the person had deleted the site's data. */
export async function deleteSiteData(page) {
  const session = await sessionOf(page);
  const what = { origin: originOf(page), storageTypes: "indexeddb" };
  await session.send("Storage.clearDataForOrigin", what);
}

/**
 * Puts hooks under landfall's IndexedDB, before the page's own scripts. `window.idb` then holds
 * `opens` (how often landfall has opened its database), `connections`, `writes` (its transactions
 * that write) and the hooks `onOpen(connection)` and `onWrite(transaction)`. Travels as text.
 */
export function addHooks() {
  const idb = { opens: 0, connections: [], writes: 0, onOpen: null, onWrite: null };
  window.idb = idb;
  const { open } = IDBFactory.prototype;
  IDBFactory.prototype.open = function (name, ...version) {
    const request = open.call(this, name, ...version);
    if (!name.startsWith("landfall:")) return request;
    idb.opens += 1;
    request.addEventListener("success", () => {
      idb.connections.push(request.result);
      idb.onOpen?.(request.result);
    });
    return request;
  };
  const { transaction } = IDBDatabase.prototype;
  IDBDatabase.prototype.transaction = function (stores, mode, options) {
    const tx = transaction.call(this, stores, mode, options);
    if (mode === "readwrite" && this.name.startsWith("landfall:")) {
      idb.writes += 1;
      idb.onWrite?.(tx);
    }
    return tx;
  };
}
