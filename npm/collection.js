// One collection: writes that resolve when they are durable, reads from memory, live queries.

import { fail, toError } from "./errors.js";
import { copyRecord, recordText } from "./record.js";

// As in src/web/api.rs.
const CREATE = 0;
const PUT = 1;
const UPDATE = 2;
const DELETE = 3;

function checkKey(key) {
  if (typeof key !== "string") throw fail("invalid-key", `a key is a string, not a ${typeof key}`);
  return key;
}

function list(items, what) {
  if (!Array.isArray(items)) throw fail("invalid-options", `${what} is a list`);
  return items;
}

export class Collection {
  #manager;
  #key;

  constructor(name, manager, key) {
    this.name = name;
    this.#manager = manager;
    this.#key = key;
  }

  create(record) {
    return this.#put(CREATE, () => [record]);
  }

  put(record) {
    return this.#put(PUT, () => [record]);
  }

  putMany(records) {
    return this.#put(PUT, () => list(records, "putMany: records"));
  }

  update(key, patch) {
    return this.#write(UPDATE, () => [[checkKey(key), copyRecord(patch), Object.keys(patch)]]);
  }

  delete(key) {
    return this.#write(DELETE, () => [checkKey(key)]);
  }

  deleteMany(keys) {
    return this.#write(DELETE, () => list(keys, "deleteMany: keys").map(checkKey));
  }

  get(key) {
    return this.#read((core) => core.get(this.name, checkKey(key)));
  }

  getMany(keys) {
    return this.#read((core) =>
      list(keys, "getMany: keys").map((key) => core.get(this.name, checkKey(key))),
    );
  }

  all() {
    return this.#read((core) => core.all(this.name));
  }

  find(query) {
    return this.#read((core) => core.find(this.name, query));
  }

  count(query) {
    return this.#read((core) => core.count(this.name, query));
  }

  state(key) {
    return this.#manager.now((core) => core.state(this.name, checkKey(key)));
  }

  subscribe(query, fn) {
    if (typeof query === "function") return this.subscribe(undefined, query);
    if (typeof fn !== "function")
      throw fail("invalid-options", "subscribe: the second argument is a function");
    return this.#manager.live.add(this, query, fn);
  }

  /** Records, as texts, with their keys beside them: nothing has to be parsed to be stored. */
  #put(kind, records) {
    let keys = "";
    const prepare = () =>
      records().map((record) => {
        const text = recordText(record);
        keys += this.#keyOf(record) + "\0";
        return text;
      });
    return this.#write(kind, prepare, () => keys);
  }

  #keyOf(record) {
    const key = record[this.#key];
    if (typeof key === "string" && !key.includes("\0")) return key;
    const message =
      typeof key === "string"
        ? "a key must not contain the character U+0000"
        : `the record has no string in its key field "${this.#key}"`;
    throw fail("invalid-key", message);
  }

  #write(kind, prepare, keys = () => undefined) {
    return new Promise((resolve, reject) => {
      this.#manager.now((core) => {
        const items = prepare();
        const done = (error) => (error ? reject(toError(error)) : resolve());
        core.write(this.name, kind, items, undefined, done, keys());
      });
    });
  }

  #read(read) {
    return this.#manager.read(read);
  }
}

/** Live queries: asked again after each commit that touched their collection. */
export class LiveQueries {
  #queries = new Set();
  #report;

  constructor(report) {
    this.#report = report;
  }

  add(collection, query, fn) {
    const it = { collection, query, fn, rows: null, running: false, again: false, stopped: false };
    this.#queries.add(it);
    this.#run(it);
    return () => {
      it.stopped = true;
      this.#queries.delete(it);
    };
  }

  touched(collections) {
    for (const it of this.#queries) if (collections.includes(it.collection.name)) this.#run(it);
  }

  clear() {
    for (const it of this.#queries) it.stopped = true;
    this.#queries.clear();
  }

  async #run(it) {
    if (it.running) {
      it.again = true;
      return;
    }
    it.running = true;
    do {
      it.again = false;
      try {
        const rows = await it.collection.find(it.query);
        if (!it.stopped && !sameRows(it.rows, rows)) {
          it.rows = rows;
          it.fn(rows);
        }
      } catch (error) {
        if (!it.stopped) this.#report(error);
      }
    } while (it.again && !it.stopped);
    it.running = false;
  }
}

// A record is a new object whenever it changes, so identity tells.
function sameRows(a, b) {
  return a !== null && a.length === b.length && a.every((row, i) => row === b[i]);
}
