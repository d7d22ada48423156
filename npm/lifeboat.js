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

export class Lifeboat {
  #database;
  #alone;
  #opening;
  #owner;
  #client = "";
  #report;
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
    this.#client = core.client();
    const rescue = await this.#opening;
    if (!rescue || this.#closed) return null;
    let restored = null;
    let replaces = false;
    try {
      const owner = await this.#owner;
      if (this.#closed) return null;
      if (owner?.client === this.#client) {
        core.startRescue(owner.next, owner.stamp, false);
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
    core.startRescue(0, [0, 0], replaces);
    return restored;
  }

  #again(core, takeIn) {
    if (this.#closed) return;
    this.#timer = setTimeout(() => {
      this.#owner = this.#opening.then((rescue) => rescue?.peek());
      // What fails is told, and tried again, by itself.
      this.start(core, takeIn).catch(() => {});
    }, AGAIN_MS);
  }

  /** One batch; a copy that cannot be written is reported once, and tried again with the next. */
  async write({ stamp, ...batch }) {
    try {
      const rescue = await this.#opening;
      const alone = this.#alone;
      // Another tab may be late with what it wrote before.
      const since = alone() ? stamp : [stamp[0] - LATE_MS, 0];
      await rescue.write({ ...batch, client: this.#client, stamp: since, alone });
      this.#failed = false;
    } catch (error) {
      this.#tell(error);
    }
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
