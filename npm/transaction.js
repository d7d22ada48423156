// Transactions: what a callback writes is stored together or not at all.
//
// Nothing is locked. The callback's reads are noted and its writes kept until it ends; the core stores
// them only if every record that was read is still the same, and otherwise the callback runs again.

import { fail } from "./errors.js";
import { copyRecord, patched, shown } from "./record.js";
import { checkRecord, updated } from "./schema.js";
import { CREATE, DELETE, PUT, UPDATE } from "./write.js";
import { checkKey, checkWriteOptions, keyIn, list, needFunction } from "./write.js";

const RUNS_MAX = 10;

/** Runs `run(tx)` and stores what it has written; answers what it returns. */
export async function runTransaction(manager, schemas, run) {
  needFunction(run, "transaction: the argument");
  for (let runs = 1; ; runs++) {
    const work = new Work(manager, schemas);
    try {
      const result = await run(work.tx);
      await work.store();
      return result;
    } catch (error) {
      if (error?.code !== "write-contention" || !work.stale || runs >= RUNS_MAX) throw error;
    } finally {
      work.over = true;
    }
  }
}

/** One run of the callback. */
class Work {
  over = false;
  /** Whether the core found that something else was read than there is. */
  stale = false;
  #manager;
  #schemas;
  #reads = new Map();
  #writes = [];
  #changed = new Map();
  /** One thing after the other, also where the callback does not wait. */
  #last = Promise.resolve();
  #failed = null;

  constructor(manager, schemas) {
    this.#manager = manager;
    this.#schemas = schemas;
    this.tx = Object.freeze({ collection: (name) => this.#collection(name) });
  }

  async store() {
    // Also what is asked for by whoever has waited for a step, and was not waited for in turn.
    for (let last; last !== this.#last;) await (last = this.#last);
    this.over = true;
    if (this.#failed) throw this.#failed.error;
    if (this.#writes.length === 0) return;
    // It may have taken a while: what is stored after a sign-out has counted would be deleted.
    this.#manager.accept();
    try {
      await this.#manager.transact(this.#writes, [...this.#reads.values()], true);
    } catch (error) {
      this.stale = error?.code === "write-contention";
      throw error;
    }
  }

  #collection(name) {
    this.#manager.collection(name); // refuses unknown names
    const refuse = (what) => () => {
      throw fail(
        "invalid-options",
        `${what} cannot run inside a transaction; use get() and getMany(), or ask before it begins`,
      );
    };
    return Object.freeze({
      name,
      get: (key) => this.#step(() => this.#get(name, checkKey(key))),
      getMany: (keys) => {
        const all = list(keys, "getMany: keys").map(checkKey);
        return this.#step(() => Promise.all(all.map((key) => this.#get(name, key))));
      },
      create: this.#noting((record, options) => this.#whole(name, CREATE, record, options)),
      put: this.#noting((record, options) => this.#whole(name, PUT, record, options)),
      update: this.#noting((key, patch, options) => this.#update(name, key, patch, options)),
      delete: this.#noting((key, options) => this.#delete(name, key, options)),
      all: refuse("all()"),
      find: refuse("find()"),
      count: refuse("count()"),
      subscribe: refuse("subscribe()"),
    });
  }

  #step(run) {
    if (this.over) throw over();
    const done = this.#last.then(() => {
      if (this.over) throw over();
      return run();
    });
    this.#last = done.catch(() => {});
    done.catch(() => {});
    return done;
  }

  /** A write that fails takes the transaction with it, whether the callback looks or not: here, at the call. */
  #noting(write) {
    return (...given) => {
      try {
        return write(...given);
      } catch (error) {
        this.#failed ??= { error };
        throw error;
      }
    };
  }

  /** Here, when it is its turn. */
  #write(name, kind, options, prepare) {
    const given = checkWriteOptions(options);
    const done = this.#step(async () => {
      const { key, item, record } = await prepare();
      this.#writes.push([name, kind, item, given]);
      const present = await this.#present(name, key);
      const renamed = record !== undefined && present !== key;
      const shown = renamed ? { ...record, [this.#manager.keyOf(name)]: present } : record;
      this.#changed.set(placeOf(name, present), { record: shown });
    });
    done.catch((error) => (this.#failed ??= { error }));
    return done;
  }

  #whole(name, kind, record, options) {
    const copy = copyRecord(record);
    return this.#write(name, kind, options, async () => {
      const schema = this.#schemas.get(name);
      const item = schema ? await checkRecord(schema, copy) : copy;
      return { key: keyIn(item, this.#manager.keyOf(name)), item, record: item };
    });
  }

  #update(name, key, patch, options) {
    checkKey(key);
    const [copy, names] = [copyRecord(patch), Object.keys(patch)];
    return this.#write(name, UPDATE, options, async () => {
      const current = await this.#newest(name, key);
      const schema = this.#schemas.get(name);
      if (schema) {
        const { write, record } = await updated(schema, current, key, copy, names);
        return { key, item: write, record };
      }
      const record = current && patched(current, copy, names);
      return { key, item: [key, copy, names], record };
    });
  }

  #delete(name, key, options) {
    checkKey(key);
    return this.#write(name, DELETE, options, () => ({ key, item: key, record: undefined }));
  }

  async #get(name, key) {
    const changed = this.#changed.get(placeOf(name, await this.#present(name, key)));
    // A copy: the transaction's own is what will be stored.
    if (changed) return shown(structuredClone(changed.record));
    return shown(await this.#note(name, key, false));
  }

  async #newest(name, key) {
    const changed = this.#changed.get(placeOf(name, await this.#present(name, key)));
    if (changed) return changed.record;
    return this.#note(name, key, true);
  }

  /** The key under which a record is: a key that the backend has replaced stands for it. */
  #present(name, key) {
    return this.#manager.read((core) => core.present(name, key));
  }

  /** Reads once: the same question has the same answer throughout the transaction. */
  async #note(name, key, newest) {
    const place = `${newest ? "newest" : "shown"} ${placeOf(name, key)}`;
    if (!this.#reads.has(place)) {
      const read = (core) => (newest ? core.newest(name, key) : core.get(name, key));
      const record = await this.#manager.read(read);
      this.#reads.set(place, [name, key, record, newest]);
    }
    return this.#reads.get(place)[2];
  }
}

const over = () => fail("closed", "the transaction is over");

// A key cannot contain the separator.
const placeOf = (name, key) => `${name}\0${key}`;
