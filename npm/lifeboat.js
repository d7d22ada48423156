// Between the core and the rescue copy: what is kept, and what comes back after a wipe.
//
// The copy knows the id of the database that it belongs to. A database without anything in it, of
// another id, means that the browser has thrown the first one away.

import { fail } from "./errors.js";
import { openRescue } from "./rescue.js";

/** The longest that a tab is thought to be late with its batch. */
const LATE_MS = 60_000;

export class Lifeboat {
  #database;
  #alone;
  #opening;
  #owner;
  #client = "";
  #report;
  #failed = false;
  #closed = false;

  /** `alone()` says whether no other tab is known to have the database open. */
  constructor(database, durability, alone, report) {
    this.#database = database;
    this.#alone = alone;
    this.#opening = openRescue(database, { durability });
    this.#owner = this.#opening.then((rescue) => rescue?.peek());
    this.#owner.catch(() => {});
    this.#report = report;
  }

  /**
   * Brings back what is kept, by `takeIn(client, mutations)`, if the core's database is empty and
   * another one than it was kept for: answers how many, or null where nothing was lost. From then on
   * the core hands over what changes.
   */
  async start(core, takeIn) {
    this.#client = core.client();
    const rescue = await this.#opening;
    if (!rescue || this.#closed) return null;
    let restored = null;
    let replaces = false;
    try {
      const owner = await this.#owner;
      if (owner?.client === this.#client) {
        core.startRescue(owner.next, owner.stamp, false);
        return null;
      }
      replaces = owner !== null;
      const kept = owner && core.fresh() ? await rescue.load() : null;
      if (kept) restored = await takeIn(kept.client, kept.mutations);
      // The first batch of this database takes the place of all that is kept, in one step.
      const { pending, syncing, conflict, failed } = core.status().outbox;
      if (owner && pending + syncing + conflict + failed === 0) await rescue.reset(this.#client);
    } catch (error) {
      this.#tell(error);
      return restored;
    }
    core.startRescue(0, [0, 0], replaces);
    return restored;
  }

  /** One batch; a copy that cannot be written is reported once, and tried again with the next. */
  async write({ put, gone, next, stamp, left }) {
    try {
      const rescue = await this.#opening;
      const alone = this.#alone;
      // Another tab may be late with what it wrote before.
      const since = alone() ? stamp : [stamp[0] - LATE_MS, 0];
      await rescue.write({ client: this.#client, next, stamp: since, put, gone, left, alone });
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
