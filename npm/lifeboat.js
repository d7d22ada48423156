// Between the core and the rescue copy: what is kept, and what comes back after a wipe.
//
// The copy knows the id of the database that it belongs to. A database of another id means that the
// browser has thrown the first one away. Should the new one fail to take the copy in (a full disk, or a
// change of its own that is in the way), the copy stays as it is and is tried again, also at the next
// start; only when it is in does the copy follow the new database.

import { fail } from "./errors.js";
import { openRescue } from "./rescue.js";

/** The longest that a tab is thought to be late with its batch. */
const LATE_MS = 60_000;
/** The time until it is tried again to take the copy in. */
const AGAIN_MS = 5_000;
/** The same for what could not be written; twice as long each time, because it may be much. */
const WRITE_AGAIN_MS = 250;
const WRITE_AGAIN_MS_MAX = 64_000;

export class Lifeboat {
  #database;
  #alone;
  #opening;
  #owner;
  #core = null;
  #client = "";
  #report;
  /** What the core is to hand over from, by what the copy's newest batch says: `startRescue`'s arguments. */
  #from = null;
  /** The copy lacks something. What comes until all of it is handed over would say that it does not. */
  #behind = false;
  #wait = WRITE_AGAIN_MS;
  #last = Promise.resolve();
  #failed = false;
  #closed = false;
  #timer = null;

  /** `alone()` says whether no other tab is known to have the database open. */
  constructor(database, durability, alone, report, open = openRescue) {
    this.#database = database;
    this.#alone = alone;
    this.#opening = open(database, { durability });
    this.#owner = this.#opening.then((rescue) => rescue?.peek());
    this.#owner.catch(() => {});
    this.#report = report;
  }

  /**
   * Brings back what is kept, by `takeIn(client, mutations)`, if the core's database is another one
   * than it was kept for: answers how many, or null where nothing was lost or it has to be tried again.
   * From then on the core hands over what changes.
   */
  async start(core, takeIn) {
    this.#core = core;
    this.#client = core.client();
    const rescue = await this.#opening;
    if (!rescue || this.#closed) return null;
    let restored = null;
    let replaces = false;
    try {
      const owner = await this.#owner;
      if (this.#closed) return null;
      if (owner?.client === this.#client) {
        this.#hand(owner.next, owner.stamp, false);
        return null;
      }
      replaces = owner !== null;
      const kept = replaces ? await rescue.load() : null;
      const lost = kept !== null && (kept.mutations.length > 0 || core.fresh());
      if (lost) restored = await takeIn(kept.client, kept.mutations);
      // The first batch of this database takes the place of all that is kept, in one step.
      const { pending, syncing, conflict, failed } = core.status().outbox;
      if (owner && pending + syncing + conflict + failed === 0) await rescue.reset(this.#client);
    } catch (error) {
      this.#tell(error);
      if (restored === null) this.#again(core, takeIn);
      return restored;
    }
    if (this.#closed) return restored;
    this.#hand(0, [0, 0], replaces);
    return restored;
  }

  #hand(...from) {
    this.#from = from;
    this.#core.startRescue(...from);
  }

  #again(core, takeIn) {
    if (this.#closed) return;
    this.#timer = setTimeout(() => {
      this.#owner = this.#opening.then((rescue) => rescue?.peek());
      // What fails is told, and tried again, by itself.
      this.start(core, takeIn).catch(() => {});
    }, AGAIN_MS);
  }

  /** One batch; resolves when it is kept, or it is known that it cannot be now. */
  write(batch) {
    this.#last = this.#last.then(() => this.#write(batch));
    return this.#last;
  }

  async #write({ stamp, ...batch }) {
    if (this.#behind) return;
    const alone = this.#alone;
    // Another tab may be late with what it wrote before.
    const since = alone() ? stamp : [stamp[0] - LATE_MS, 0];
    let isNew;
    try {
      const rescue = await this.#opening;
      isNew = await rescue.write({ ...batch, client: this.#client, stamp: since, alone });
    } catch (error) {
      this.#tell(error);
      this.#handAgain();
      return;
    }
    this.#failed = false;
    this.#from = isNew ? [0, [0, 0], false] : [batch.next, since, false];
    if (isNew) this.#handAgain();
    else this.#wait = WRITE_AGAIN_MS;
  }

  /** What the copy lacks, as after a crash. */
  #handAgain() {
    this.#behind = true;
    if (this.#closed) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#behind = false;
      const [next, ...rest] = this.#from;
      // Above zero: the copy may have what has gone unheard.
      this.#core.startRescue(Math.max(1, next), ...rest);
    }, this.#wait);
    this.#wait = Math.min(2 * this.#wait, WRITE_AGAIN_MS_MAX);
  }

  /** Also after `close`. */
  async delete() {
    const rescue = await openRescue(this.#database);
    await rescue?.delete();
  }

  async close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    const rescue = await this.#opening;
    rescue?.close();
  }

  #tell(error) {
    // What was closed before it was ready has not failed.
    if (this.#failed || this.#closed) return;
    this.#failed = true;
    const message = `the rescue copy could not be written: ${error?.message ?? error}`;
    const { code, hint, retryable } = fail("rescue-failed", message, error);
    this.#report({ code, message, hint, retryable, at: Date.now() });
  }
}
