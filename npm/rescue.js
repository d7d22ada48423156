// The rescue copy: every unsynced mutation once more, in a place that does not share the backing
// store of the origin's IndexedDB, which browsers now and then throw away. See docs/RESCUE.md.
//
// It is a log of lines (rescue-log.js) in one of several places (rescue-places.js). A batch is one
// append. When most of what is kept is gone, the log is replaced by its summary; a kill in between
// leaves both, which mean the same. Several tabs may write to the same copy.

import { encode, replay, summary } from "./rescue-log.js";
import { PLACES } from "./rescue-places.js";

/** The log is not summed up before this many mutations in it are dead, unless all are. */
const DEAD_MIN = 1_000;
/** Nor before it holds this many times what lives in it. */
const DEAD_RATIO = 3;

/**
 * Opens the rescue copy of a database; null where the platform has no place for it. `durability` is
 * as for IndexedDB: with "strict" a batch that is stored survives a loss of power as well.
 */
export async function openRescue(name, { durability = "relaxed" } = {}) {
  let id;
  try {
    // Names of places are short and lower case, and must not tell who the user is.
    const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(name));
    const bytes = [...new Uint8Array(hash, 0, 16)];
    id = `landfall-${bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
  } catch {
    // No secure context: none of the places exists there.
    return null;
  }
  for (const [place, open] of PLACES) {
    try {
      return new Rescue(place, await open(id, durability));
    } catch {
      // Missing, forbidden or broken here: the next one.
    }
  }
  return null;
}

class Rescue {
  #store;
  /** What this tab knows to be kept; what other tabs wrote meanwhile is not in it. */
  #alive = new Set();
  /** Mutations in the log that this tab knows of, dead ones included. */
  #written = 0;
  #last = Promise.resolve();
  #closed = false;

  constructor(place, store) {
    this.place = place;
    this.#store = store;
  }

  /** Everything kept, mutations by number; null if there is nothing. */
  load() {
    return this.#run(async () => {
      const kept = replay(await this.#store.all());
      this.#know(kept);
      const { client, next, stamp, puts, damaged } = kept;
      if (client === null && damaged === 0) return null;
      const mutations = [...puts.values()].sort((a, b) => a.number - b.number);
      return { client, next, stamp, mutations, damaged };
    });
  }

  /**
   * Whose copy it is, from its newest entry alone: cheap however much is kept. `next` may lag behind
   * what another tab wrote at the same time.
   */
  async peek() {
    const { client, next, stamp } = await this.#run(async () => replay(await this.#store.last()));
    return client === null ? this.load() : { client, next, stamp };
  }

  /** One batch; resolves when it is stored. Rejects with what the platform says, e.g. of a quota. */
  write({ client, next, put = [], gone = [] }) {
    // Made into text at once: what the caller does to its objects later is not ours.
    const line = encode({ client, next, stamp: Date.now() }, put, gone);
    const numbers = put.map(({ number }) => number);
    return this.#run(async () => {
      for (const number of numbers) this.#alive.add(number);
      for (const number of gone) this.#alive.delete(number);
      this.#written += numbers.length;
      const { size } = this.#alive;
      const dead = this.#written - size;
      const tidy = size === 0 ? gone.length > 0 : dead > Math.max(DEAD_MIN, DEAD_RATIO * size);
      if (!tidy) return this.#store.add(line);
      try {
        await this.#store.swap((text) => {
          const kept = replay(text + line);
          this.#know(kept);
          return summary(kept);
        });
      } catch {
        // A summary needs more room than a line, for a moment.
        await this.#store.add(line);
      }
    });
  }

  /** Forgets all, and keeps for this client from now on. */
  reset(client) {
    const line = encode({ client, next: 0, stamp: Date.now(), reset: true }, [], []);
    return this.#run(async () => {
      await this.#store.swap(() => line);
      this.#know(replay(line));
    });
  }

  /** Deletes the copy; this object is closed then. */
  delete() {
    return this.#end(() => this.#store.delete());
  }

  /** What was asked for before is still done. */
  close() {
    this.#end(() => this.#store.close()).catch(() => {});
  }

  #know({ puts }) {
    this.#alive = new Set(puts.keys());
    this.#written = puts.size;
  }

  /** One after the other, so that batches keep their order. */
  #run(work) {
    if (this.#closed) return Promise.reject(new DOMException("closed", "InvalidStateError"));
    const run = this.#last.then(work);
    this.#last = run.catch(() => {});
    return run;
  }

  #end(work) {
    const run = this.#run(work);
    this.#closed = true;
    return run;
  }
}
