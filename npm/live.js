// Live queries: asked again after each commit that touched their collection.

import { equal } from "./record.js";

// Nearly always identity tells; a record that was out of memory meanwhile is another object.
const sameRows = (a, b) => a.length === b.length && a.every((row, i) => equal(row, b[i]));

export class LiveQueries {
  #queries = new Set();
  #report;

  constructor(report) {
    this.#report = report;
  }

  addRows(collection, read, fn) {
    // The list that is told is the app's own, to sort or cut.
    return this.#add({ collection, read, fn, same: sameRows, kept: (rows) => [...rows] });
  }

  addOne(collection, read, fn) {
    return this.#add({ collection, read, fn, same: equal, kept: (record) => record });
  }

  touched(collections) {
    for (const it of this.#queries) if (collections.includes(it.collection)) this.#run(it);
  }

  clear() {
    for (const it of this.#queries) it.stopped = true;
    this.#queries.clear();
  }

  #add(what) {
    const it = { ...what, told: false, last: undefined, running: false, again: false };
    it.stopped = false;
    this.#queries.add(it);
    this.#run(it);
    return () => {
      it.stopped = true;
      this.#queries.delete(it);
    };
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
        const result = await it.read();
        if (!it.stopped && !(it.told && it.same(it.last, result))) {
          it.told = true;
          it.last = it.kept(result);
          it.fn(result);
        }
      } catch (error) {
        if (!it.stopped) this.#report(error);
      }
    } while (it.again && !it.stopped);
    it.running = false;
  }
}
