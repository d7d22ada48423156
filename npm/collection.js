// One collection: writes that resolve when they are durable, reads from memory, live queries.

import { toError } from "./errors.js";
import { checkQuery } from "./query.js";
import { copyRecord, recordText, shown } from "./record.js";
import { checkRecord, isChecking, updated } from "./schema.js";
import {
  DELETE,
  CREATE,
  PROMOTE,
  PUT,
  UPDATE,
  checkKey,
  checkWriteOptions,
  keyIn,
  list,
  needFunction,
} from "./write.js";

/** Times that an update is decided again because the record was changed meanwhile. */
const AGAIN_MAX = 10;

export class Collection {
  #manager;
  #key;
  #schema;
  /** Whether a write that has no options of its own shows at once. */
  #optimistic;
  /** Ends when every record handed in so far was checked, and stored or refused: none overtakes another. */
  #checks = null;

  constructor(name, manager, key, optimistic, schema) {
    this.name = name;
    this.#manager = manager;
    this.#key = key;
    this.#optimistic = optimistic;
    this.#schema = schema;
  }

  create(record, options) {
    return this.#storeOne(CREATE, record, options);
  }

  put(record, options) {
    return this.#storeOne(PUT, record, options);
  }

  putMany(records, options) {
    return this.#store(PUT, () => list(records, "putMany: records"), options);
  }

  update(key, patch, options) {
    if (!this.#joins(options)) return this.#change(() => [change(key, patch)], options);
    return this.#join(UPDATE, () => {
      const text = recordText(patch);
      return [checkKey(key), text, Object.keys(patch)];
    });
  }

  updateMany(changes, options) {
    const each = (it) => change(it?.key, it?.patch);
    return this.#change(() => list(changes, "updateMany: changes").map(each), options);
  }

  delete(key, options) {
    const given = early(() => checkWriteOptions(options));
    return this.#inOrder(() => [this.#write(DELETE, () => [checkKey(key)], given)]);
  }

  deleteMany(keys, options) {
    const items = early(() => list(keys, "deleteMany: keys").map(checkKey));
    const given = early(() => checkWriteOptions(options));
    return this.#inOrder(() => [this.#write(DELETE, items, given)]);
  }

  promote(key) {
    return this.#inOrder(() => [this.#write(PROMOTE, () => [checkKey(key)])]);
  }

  get(key) {
    return this.#read((core) => shown(core.get(this.name, checkKey(key))));
  }

  getMany(keys) {
    const all = early(() => list(keys, "getMany: keys").map(checkKey));
    return this.#read((core) => all().map((key) => shown(core.get(this.name, key))));
  }

  all() {
    return this.#read((core) => each(core.all(this.name)));
  }

  find(query) {
    const asked = early(() => checkQuery(query));
    return this.#read((core) => each(core.find(this.name, asked())));
  }

  count(query) {
    const asked = early(() => checkQuery(query));
    return this.#read((core) => core.count(this.name, asked()));
  }

  state(key) {
    return this.#manager.now((core) => core.state(this.name, checkKey(key)));
  }

  subscribe(query, fn) {
    if (typeof query === "function") return this.subscribe(undefined, query);
    needFunction(fn, "subscribe: the second argument");
    const asked = checkQuery(query);
    return this.#manager.live.addRows(this.name, () => this.find(asked), fn);
  }

  record(key) {
    checkKey(key);
    const get = () => this.get(key);
    return Object.freeze({
      get,
      subscribe: (fn) => {
        needFunction(fn, "record(key).subscribe: the argument");
        return this.#manager.live.addOne(this.name, get, fn);
      },
    });
  }

  #storeOne(kind, record, options) {
    if (!this.#joins(options)) return this.#store(kind, () => [record], options);
    return this.#join(kind, () => {
      const text = recordText(record);
      return [keyIn(record, this.#key), text];
    });
  }

  /** Whether a write goes into the core together with others. */
  #joins(options) {
    return options === undefined && this.#optimistic && !this.#schema;
  }

  #join(kind, prepare) {
    return new Promise((resolve, reject) => {
      this.#manager.accept();
      const queue = this.#manager.queue();
      const [key, item, names = []] = prepare();
      const odd = (name) => name === this.#key || name.includes("\0");
      if (key.includes("\0") || names.some(odd)) {
        const parts = [key, JSON.parse(item), names];
        return resolve(this.#write(kind, () => [parts]));
      }
      queue.add(this.name, kind, key, item, names, { resolve, reject });
    });
  }

  #store(kind, records, options) {
    const given = early(() => checkWriteOptions(options));
    if (!this.#schema) return this.#inOrder(() => [this.#put(kind, records, given)]);
    const items = guarded(() => records().map(copyRecord));
    return this.#inOrder(async () => {
      const checked = [];
      for (const item of await items) checked.push(await checkRecord(this.#schema, item));
      return [this.#put(kind, () => checked, given)];
    });
  }

  /** Records, as texts, with their keys beside them: nothing has to be parsed to be stored. */
  #put(kind, records, given) {
    let keys = "";
    const prepare = () =>
      records().map((record) => {
        const text = recordText(record);
        keys += keyIn(record, this.#key) + "\0";
        return text;
      });
    return this.#write(kind, prepare, given, () => keys);
  }

  #change(prepare, options) {
    const given = early(() => checkWriteOptions(options));
    if (!this.#schema) {
      const items = () => prepare().map(({ key, patch, names }) => [key, patch, names]);
      return this.#inOrder(() => [this.#write(UPDATE, items, given)]);
    }
    const changes = guarded(prepare);
    return this.#inOrder(async () => {
      const how = given();
      const all = await changes;
      for (let again = 0; ; again++) {
        try {
          const written = await this.#changeChecked(all, how);
          await this.#stored(written);
          return written;
        } catch (error) {
          if (error?.code !== "write-contention" || again >= AGAIN_MAX) throw error;
        }
      }
    });
  }

  // What was checked is what the record will be: the core refuses it if the record has changed.
  async #changeChecked(changes, options) {
    const reads = new Map();
    const newest = new Map();
    for (const { key } of changes) {
      if (reads.has(key)) continue;
      const record = await this.#manager.read((core) => core.newest(this.name, key));
      reads.set(key, [this.name, key, record, true]);
      newest.set(key, record);
    }
    const writes = [];
    for (const { key, patch, names } of changes) {
      const { write, record } = await updated(this.#schema, newest.get(key), key, patch, names);
      writes.push([this.name, UPDATE, write, options]);
      newest.set(key, record);
    }
    return [this.#manager.transact(writes, [...reads.values()], false)];
  }

  /** Whether a record that was handed in is checked just now; for the parts of this package. */
  hasChecks() {
    return this.#checks !== null;
  }

  /** Ends when every record handed in so far was checked; for the parts of this package. */
  async checked() {
    while (this.#checks) await this.#checks;
  }

  /**
   * After all checks that are under way; at once where there are none. `run` answers what it has handed to
   * the core in a list, so that it is not waited for here: the backend may confirm it much later.
   */
  #inOrder(run) {
    try {
      this.#manager.accept();
    } catch (error) {
      return Promise.reject(error);
    }
    if (!this.#schema) return run()[0];
    const written = (this.#checks ?? Promise.resolve()).then(run);
    const end = written
      .then((it) => this.#stored(it))
      .catch(() => {})
      .then(() => {
        if (this.#checks === end) this.#checks = null;
      });
    this.#checks = end;
    return written.then(([done]) => done);
  }

  /** Ends when a write is stored, confirmed or not; rejects where it was refused before. */
  #stored([done]) {
    return Promise.race([done, this.#manager.read(() => {})]);
  }

  /** `given`, `prepare` and `keys` answer the options, the items and their keys, or throw what is wrong with them. */
  #write(kind, prepare, given = () => undefined, keys = () => undefined) {
    return new Promise((resolve, reject) => {
      this.#manager.now((core) => {
        const options = given();
        const items = prepare();
        const done = (error) => (error ? reject(toError(error)) : resolve());
        core.write(this.name, kind, items, options, done, keys());
      });
    });
  }

  async #read(read) {
    if (this.#checks && !isChecking()) await this.#checks;
    return this.#manager.read(read);
  }
}

/** The list is the asker's own, to sort or cut; the records are not. */
function each(records) {
  records.forEach(shown);
  return records;
}

function change(key, patch) {
  return { key: checkKey(key), patch: copyRecord(patch), names: Object.keys(patch) };
}

/** What `prepare` answers now, as it may be needed later; what it throws is thrown then. */
function early(prepare) {
  try {
    const items = prepare();
    return () => items;
  } catch (error) {
    return () => {
      throw error;
    };
  }
}

/** What the app handed over is copied at once; what is wrong with it is told by the promise. */
function guarded(prepare) {
  const items = new Promise((resolve) => resolve(prepare()));
  items.catch(() => {});
  return items;
}
