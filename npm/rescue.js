// The rescue copy: every unsynced mutation once more, in a place that does not share the backing
// store of the origin's IndexedDB, which browsers now and then throw away. See docs/RESCUE.md.
//
// It is a log of lines (rescue-log.js) in one of several places (rescue-places.js). A batch is one
// append. When most of what is kept is gone and it has been quiet for a moment, the log is replaced by
// its summary; a kill in between leaves both, which mean the same. Several tabs may write to the same
// copy.

import { encode, lastLine, replay, summary } from "./rescue-log.js";
import { PLACES } from "./rescue-places.js";

/** The log is not summed up before this many mutations in it are dead, unless all are. */
const DEAD_MIN = 1_000;
/** Nor before it holds this many times what lives in it. */
const DEAD_RATIO = 3;
/** It reads and parses all: not while a push goes on. */
const QUIET_MS = 1_000;

/**
 * Opens the rescue copy of a database; null where the platform has no place for it. `durability` is
 * as for IndexedDB: with "strict" a batch that is stored survives a loss of power as well.
 */
export async function openRescue(name, { durability = "relaxed" } = {}) {
  let id;
  try {
    id = await placeOf(name);
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

/** Names of places are short and lower case, and must not tell who the user is. */
async function placeOf(name) {
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(name));
  const bytes = [...new Uint8Array(hash, 0, 16)];
  return `landfall-${bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

/** Deletes what is kept of a database, also where it was kept when there was no better place. */
export async function deleteRescue(name) {
  const rescue = await openRescue(name);
  if (rescue === null) return;
  await rescue.delete();
  const id = await placeOf(name);
  await Promise.allSettled(PLACES.map(async ([, , remove]) => remove(id)));
}

class Rescue {
  #store;
  /** Mutations in the log, as far as this tab knows; dead ones included. */
  #written = 0;
  /** What the newest batch said: whose copy it is, its next number, and how many live. */
  #head = null;
  #quiet = null;
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
      this.#written = kept.puts.size;
      const { client, next, stamp, puts, others, damaged } = kept;
      if (client === null && damaged === 0) return null;
      const mutations = [...puts.values()].sort((a, b) => a.number - b.number);
      return { client, next, stamp, mutations, others, more: others.length > 0, damaged };
    });
  }

  /**
   * Whose copy it is, from its newest entry alone: cheap however much is kept. `next` may lag behind
   * what another tab wrote at the same time. `more`: there may be something of databases before that one.
   */
  async peek() {
    const { client, next, stamp, more } = await this.#run(async () =>
      replay(lastLine(await this.#store.last())),
    );
    return client === null ? this.load() : { client, next, stamp, more };
  }

  /**
   * One batch; resolves when it is stored, with true if what was there before has been lost. Rejects with
   * what the platform says, e.g. of a quota. `left` mutations live after it; `alone()` says whether no
   * other tab writes here. `stamp` is the clock up to which nothing is missing, `[ms, counter]`; `seq` is
   * the newest entry of the log that the tab knows. `runs` are mutations as well, `alive` are all there
   * are, see rescue-log.js; `version` and `older` say of which version of the app's data. `others` is what is kept of databases before this one, all of it, or true: what
   * was said of that before.
   */
  write({
    client,
    next,
    stamp,
    seq,
    put = [],
    runs = [],
    gone = [],
    alive,
    others,
    version,
    older,
    left,
    alone = () => false,
  }) {
    // Made into text at once: what the caller does to its objects later is not ours.
    const said = others === true ? undefined : others;
    const head = { client, next, stamp, others: others === true || undefined };
    const line = encode({ ...head, seq, version, older }, put, [...gone], {
      runs,
      alive,
      others: said,
    });
    const count = runs.reduce((sum, run) => sum + run.count, put.length);
    this.#written = Math.max(this.#written + count, left ?? 0);
    this.#head = {
      ...head,
      others: others === true || said?.length > 0,
      left: left ?? Infinity,
      alone,
    };
    if (this.#isDue()) this.#tidySoon();
    return this.#run(() => this.#store.add(line));
  }

  #isDue() {
    if (this.#head === null) return false;
    const { left } = this.#head;
    if (left === 0) return this.#written > 0;
    return this.#written - left > Math.max(DEAD_MIN, DEAD_RATIO * left);
  }

  #tidySoon() {
    clearTimeout(this.#quiet);
    // Room for a summary may be missing; then the lines stay.
    this.#quiet = setTimeout(() => this.tidy().catch(() => {}), QUIET_MS);
  }

  /** Sums the log up now, where that is worth it. */
  tidy() {
    return this.#run(() => (this.#isDue() ? this.#tidy() : undefined));
  }

  async #tidy() {
    const { client, next, stamp, others, left, alone } = this.#head;
    // Numbers from `next` on were given by a tab that nobody has heard of yet.
    const empty = (text) => {
      const last = replay(lastLine(text));
      const same = last.client === client && last.next <= next && last.damaged === 0;
      return same && !last.more ? encode({ client, next, stamp }, [], []) : null;
    };
    if (left === 0 && !others && alone() && (await this.#store.clear(empty))) {
      this.#written = 0;
      return;
    }
    await this.#store.swap((text) => {
      const kept = replay(text);
      this.#written = kept.puts.size;
      return summary(kept);
    });
  }

  /** Forgets all but `others`, and keeps for this client from now on. */
  reset(client, others = []) {
    const head = { client, next: 0, stamp: [0, 0], reset: true };
    const line = encode(head, [], [], { others: others.length > 0 ? others : undefined });
    return this.#run(async () => {
      await this.#store.swap(() => line);
      this.#written = 0;
    });
  }

  /** Deletes the copy; this object is closed then. */
  delete() {
    return this.#end(() => this.#store.delete());
  }

  /** What was asked for before is still done; resolves then. */
  close() {
    return this.#end(() => this.#store.close()).catch(() => {});
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
