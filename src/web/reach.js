// Opens the database, and reads what will be needed first: none of this needs the module.

import { STEPS_MAX, STEP_MS, listen, markLost, soon } from "./glue.js";

/** Version of the schema: every store below. */
const SCHEMA = 2;
const STORES = ["log", "segments", "meta", "quarantine"];
/** How many of them are read at once while opening, as in `limits.rs`. */
const ENTRIES_AT_ONCE = 256;
const SEGMENTS_AT_ONCE = 40;
/** Opening a database that answers in no way is given up after so many steps. A slow disk takes seconds. */
const OPEN_STEPS = 30;
/** Another tab lets go of it when it is told to, but may have a transaction to finish. */
const BLOCKED_STEPS = 3;

export function schema() {
  return SCHEMA;
}

/**
 * Opens a database as it is (none is made), and reads whose it is. Never rejects: `{ db, identity }`, or
 * `{ failed, error }` with what is wrong: "none" (no IndexedDB), "missing", "blocked", "foreign",
 * "silent" or "error". Whoever takes `db` over looks whether it is `lost` already.
 *
 * With `entered`, a promise, it waits for that and reads `newest` and `base` as well, and begins to read
 * what there is to load: `ahead`. All this needs nothing of the module, which may still be on its way.
 */
export async function reach(name, entered) {
  const found = await openAsItIs(name);
  const { db } = found;
  if (db === undefined) return found;
  // Nobody is held up who wants to delete it, or to upgrade it.
  db.onversionchange = () => {
    found.lost = true;
    db.close();
  };
  db.onclose = () => {
    found.lost = true;
    markLost(db);
  };
  const fail = (failed, error) => {
    db.onversionchange = db.onclose = null;
    db.close();
    return { failed, error };
  };
  if (!STORES.every((store) => db.objectStoreNames.contains(store))) return fail("foreign");
  try {
    await entered;
    const tx = db.transaction(["meta", "log", "segments"]);
    const meta = tx.objectStore("meta");
    const asked = [answered(meta.get("identity"))];
    if (entered) {
      const base = answered(meta.get("base"));
      asked.push(base, answered(tx.objectStore("log").openCursor(null, "prev")));
      found.ahead = readAhead(tx, base).catch(() => undefined);
    }
    const [identity, base, cursor] = await Promise.all(asked);
    const newest = cursor && { key: cursor.key, summary: cursor.value?.summary };
    Object.assign(found, { identity, base, newest });
    return found;
  } catch (error) {
    // Lost while it was looked at, it is opened once more.
    return found.lost ? found : fail(error === SILENT ? SILENT : "error", error);
  }
}

const SILENT = "silent";

/** A request's result as a promise; it rejects with `SILENT` where there is no answer. */
function answered(request) {
  return new Promise((resolve, reject) => {
    listen(request, 0, (_, ended, value) => {
      if (ended === 0) resolve(value);
      else reject(ended === 1 ? value : SILENT);
    });
  });
}

function openAsItIs(name) {
  return new Promise((resolve) => {
    let [steps, limit, missing, over] = [0, OPEN_STEPS, false, false];
    let timer;
    let request;
    const end = (answer) => {
      over = true;
      clearTimeout(timer);
      resolve(answer);
    };
    // What was given up cannot be taken back: it must not change the database when its turn comes after
    // all, nor hold it open.
    const giveUp = () => {
      end({ failed: "blocked" });
      abort();
    };
    const abort = () => {
      try {
        request.transaction?.abort();
      } catch {
        // It is over.
      }
    };
    const step = () => {
      if (++steps < limit) timer = setTimeout(step, STEP_MS);
      else giveUp();
    };
    try {
      const factory = globalThis.indexedDB;
      if (!factory) return end({ failed: "none" });
      request = factory.open(name, SCHEMA);
    } catch (error) {
      return end({ failed: "error", error });
    }
    request.onupgradeneeded = ({ oldVersion }) => {
      limit = STEPS_MAX;
      missing = oldVersion === 0;
      if (over || missing) return abort();
      const db = request.result;
      // Schema 1 had no segments; its log is read as it is.
      if (!db.objectStoreNames.contains("segments")) db.createObjectStore("segments");
    };
    request.onblocked = () => {
      limit = BLOCKED_STEPS;
    };
    request.onsuccess = () => {
      if (over) request.result.close();
      else end({ db: request.result });
    };
    request.onerror = (event) => {
      // Firefox reports an error that nobody took to the page.
      event.preventDefault();
      if (!over) end({ failed: missing ? "missing" : "error", error: request.error });
    };
    timer = setTimeout(step, STEP_MS);
  });
}

/** The segments that the base names and the log after it, as many as are loaded first. */
async function readAhead(tx, base) {
  const { through: after = 0, segments = [] } = (await base) ?? {};
  const ids = [...segments.slice(0, SEGMENTS_AT_ONCE)];
  const all = (store, ids) => Promise.all(ids.map((id) => answered(tx.objectStore(store).get(id))));
  const [log, range] = [tx.objectStore("log"), IDBKeyRange.lowerBound(after, true)];
  const asked = [
    all("segments", ids),
    answered(log.getAllKeys(range, ENTRIES_AT_ONCE)),
    answered(log.getAll(range, ENTRIES_AT_ONCE)),
  ];
  const [entries, keys, values] = await Promise.all(asked);
  return { ids, entries, after, keys, values };
}

/** What `reach` has read ahead, if it is these segments. It comes in a turn of its own: whoever opens goes on first. */
export async function segmentsAhead({ ahead }, ids) {
  const read = await ahead;
  await soon();
  return read?.ids.join() === ids.join() ? read.entries : undefined;
}

/** The same for the log, keys and values, if nobody has written since: a tab that did may be gone, and tells nobody. */
export async function logAhead({ db, ahead, newest }, after, limit) {
  const now = answered(db.transaction("log").objectStore("log").openKeyCursor(null, "prev"));
  const [cursor, read] = await Promise.all([now, ahead]);
  await soon();
  const is = read?.after === after && limit === ENTRIES_AT_ONCE && cursor?.key === newest?.key;
  return is ? [read.keys, read.values] : undefined;
}
