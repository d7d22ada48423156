// What bench/rescue/measure.mjs runs in the page: the module in one place, or IndexedDB for comparison.

const BIG = 1_000;

const mutation = (number) => ({
  number,
  id: crypto.randomUUID(),
  collection: "sites",
  key: crypto.randomUUID(),
  action: "update",
  at: Date.now(),
  data: {
    name: `Site ${number}`,
    lat: 51.1,
    lng: 13.7,
    note: "about as long as notes are".repeat(3),
  },
});
const batch = (from, count) => ({
  client: "client",
  next: from + count,
  put: Array.from({ length: count }, (_, i) => mutation(from + i)),
  gone: [],
});

function median(list) {
  const sorted = list.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1];
}

/** Milliseconds until `write` resolved, and those before it gave the thread back. */
async function time(count, size, write) {
  const [whole, blocked] = [[], []];
  for (let i = 0; i < count; i++) {
    const given = batch(1 + i * size, size);
    const from = performance.now();
    const done = write(given);
    blocked.push(performance.now() - from);
    await done;
    whole.push(performance.now() - from);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return [median(whole), median(blocked)];
}

async function indexedDb() {
  const request = indexedDB.open(`compare-${Math.random()}`);
  request.onupgradeneeded = () => request.result.createObjectStore("log", { autoIncrement: true });
  const db = await new Promise((resolve) => (request.onsuccess = () => resolve(request.result)));
  return (value) =>
    new Promise((resolve, reject) => {
      const tx = db.transaction("log", "readwrite", { durability: "relaxed" });
      tx.objectStore("log").add(value);
      tx.oncomplete = resolve;
      tx.onabort = () => reject(tx.error);
    });
}

/** Takes from the page what is better than `place`, and opens a new copy. */
async function open(place, options) {
  const hide = (object, name) =>
    Object.defineProperty(object, name, { value: undefined, configurable: true });
  if (place !== "bucket") hide(navigator, "storageBuckets");
  if (place === "cache") hide(window, "Worker");
  const { openRescue } = await import("/npm/rescue.js");
  const rescue = await openRescue(`bench ${Math.random()}`, options);
  if (rescue?.place !== place) throw new Error(`it is in ${rescue?.place}`);
  return rescue;
}

window.measure = async (place, options) => {
  const result = {};
  const started = performance.now();
  const rescue = place === "indexedDB" ? null : await open(place, options);
  const write = rescue ? (given) => rescue.write(given) : await indexedDb();
  result.open = performance.now() - started;
  await time(10, 1, write);
  [result.one, result.oneBlocked] = await time(100, 1, write);
  [result.thousand, result.thousandBlocked] = await time(20, BIG, write);
  if (rescue) {
    const clock = async (work) => {
      const from = performance.now();
      await work();
      return performance.now() - from;
    };
    result.peek20000 = await clock(() => rescue.peek());
    result.load20000 = await clock(() => rescue.load());
    const gone = Array.from({ length: BIG }, (_, i) => 1 + i);
    result.goneThousand = await clock(() =>
      rescue.write({ client: "client", next: 1, put: [], gone }),
    );
    await rescue.delete();
  }
  return result;
};
window.ready = true;
