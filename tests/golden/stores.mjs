// IndexedDB as JSON and back. These functions travel to the page as text: they must not refer to
// anything outside themselves.

/** Version and stores of a database. Typed arrays are `{ $numbers: [ … ] }`. */
export async function dump(name) {
  const done = (request) =>
    new Promise((resolve, reject) => {
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
  const plain = (value) => {
    if (value instanceof Float64Array) return { $numbers: [...value] };
    if (Array.isArray(value)) return value.map(plain);
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]));
  };
  const db = await done(indexedDB.open(name));
  const stores = {};
  for (const store of db.objectStoreNames) {
    const tx = db.transaction(store).objectStore(store);
    const [keys, all] = await Promise.all([done(tx.getAllKeys()), done(tx.getAll())]);
    stores[store] = keys.map((key, i) => [key, plain(all[i])]);
  }
  const { version } = db;
  db.close();
  return { version, stores };
}

/** Makes the database that `dump` has seen. */
export async function restore([name, version, stores]) {
  const alive = (value) => {
    if (Array.isArray(value)) return value.map(alive);
    if (typeof value !== "object" || value === null) return value;
    if (value.$numbers) return Float64Array.from(value.$numbers);
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, alive(v)]));
  };
  await new Promise((resolve, reject) => {
    const request = indexedDB.open(name, version);
    request.onerror = () => reject(request.error);
    request.onupgradeneeded = () => {
      for (const [store, entries] of Object.entries(stores)) {
        const made = request.result.createObjectStore(store);
        for (const [key, value] of entries) made.put(alive(value), key);
      }
    };
    request.onsuccess = () => {
      request.result.close();
      resolve();
    };
  });
}
