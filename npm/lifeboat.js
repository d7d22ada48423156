// Between the core and the rescue copy: what is kept, and what comes back after a wipe.
//
// The copy knows the id of the database that it belongs to. A database of another id means that the
// browser has thrown the first one away. Whatever of it can be taken in is; what cannot (a full disk, or a
// change of the new one that is in the way) stays in the copy, beside what is written from then on
// (`others`), and is tried again, also at the next start.

import { fail } from "./errors.js";
import { openRescue } from "./rescue.js";

/** The longest that a tab is thought to be late with its batch. */
const LATE_MS = 60_000;
/** The time until it is tried again to take in what was left; twice as long each time that nothing could be. */
const AGAIN_MS = 5_000;
const AGAIN_MS_MAX = 80_000;
/** The same for what could not be written; twice as long each time, because it may be much. */
const WRITE_AGAIN_MS = 250;
const WRITE_AGAIN_MS_MAX = 64_000;

export class Lifeboat {
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
  /** What the next batch says of databases before this one: all that is kept of them, or true: as before. */
  #others = undefined;
  #takeIn;
  #recovered;
  #wait = WRITE_AGAIN_MS;
  #againMs = AGAIN_MS;
  #again = null;
  #last = Promise.resolve();
  #failed = false;
  #closed = false;
  #ending = null;
  #timer = null;

  /** `alone()` says whether no other tab is known to have the database open. */
  constructor(database, durability, alone, report, open = openRescue) {
    this.#alone = alone;
    this.#opening = open(database, { durability });
    this.#owner = this.#opening.then((rescue) => rescue?.peek());
    this.#owner.catch(() => {});
    this.#report = report;
  }

  /**
   * Brings back what is kept, if the core's database is another one than it was kept for: answers how many
   * changes, or null where nothing was lost or it has to be tried again. From then on the core hands over
   * what changes. `takeIn(client, mutations)` answers `{ count, left, why }`: how many came back, the numbers
   * of what could not, and why; `recovered(count)` is told.
   */
  async start(core, takeIn, recovered) {
    this.#core = core;
    this.#client = core.client();
    this.#takeIn = takeIn;
    this.#recovered = recovered;
    const rescue = await this.#opening;
    if (!rescue || this.#closed) return null;
    try {
      const owner = await this.#owner;
      if (this.#closed) return null;
      if (owner !== null && owner.client !== this.#client) return await this.#bringBack(rescue);
      const { next, stamp, more } = owner ?? { next: 0, stamp: [0, 0], more: false };
      this.#others = more || undefined;
      this.#hand(next, stamp, false);
      if (more) this.#tryAgain();
    } catch (error) {
      this.#tell(unread(error).message, error);
      this.#owner = this.#opening.then((opened) => opened?.peek());
      this.#owner.catch(() => {});
      this.#later(() => this.start(core, takeIn, recovered));
    }
    return null;
  }

  /** Takes in what is kept of other databases, as far as it goes; from then on the copy is this one's. */
  async #bringBack(rescue) {
    const kept = await rescue.load();
    if (this.#closed) return null;
    if (kept === null) {
      // It is gone meanwhile.
      this.#hand(0, [0, 0], true);
      return null;
    }
    const { client, mutations, others } = kept;
    const isOwn = client === this.#client;
    // The newest first: it is in the way of what is older.
    const all = isOwn ? others : [{ client, mutations }, ...others];
    const lost = mutations.length > 0 || this.#core.fresh();
    const left = [];
    let [taken, reason] = [0, null];
    for (const { client: from, mutations: some } of all) {
      const { count, left: numbers, why } = await this.#take(from, some);
      taken += count;
      reason ??= why;
      const not = new Set(numbers);
      const rest = some.filter(({ number }) => not.has(number));
      if (rest.length > 0) left.push({ client: from, mutations: rest });
    }
    const of = (lists) => lists.reduce((sum, list) => sum + list.mutations.length, 0);
    const [before, after] = [of(all), of(left)];
    if (after > 0 && !this.#closed) {
      this.#againMs = taken > 0 || !isOwn ? AGAIN_MS : Math.min(2 * this.#againMs, AGAIN_MS_MAX);
      this.#tryAgain();
    }
    if (reason !== null && (taken > 0 || !isOwn)) {
      // Nothing is left where all of it is damaged.
      const what = after > 0 ? `${after} changes of the rescue copy` : "the rescue copy";
      this.#tell(`${what} cannot be taken in now: ${reason?.message ?? reason}`, reason);
    }
    if (taken > 0 || (!isOwn && lost && after === 0)) this.#recovered(taken);
    if (!isOwn || after < before) await this.#follow(rescue, left, after < before);
    return taken > 0 || (lost && after === 0) ? taken : null;
  }

  async #take(client, mutations) {
    try {
      return await this.#takeIn(client, mutations);
    } catch (error) {
      return { count: 0, left: mutations.map(({ number }) => number), why: error };
    }
  }

  /** The first batch of this database takes the place of all that is kept but what is left, in one step. */
  async #follow(rescue, left, isLess) {
    if (this.#closed) return;
    this.#others = left;
    const { pending, syncing, conflict, failed } = this.#core.status().outbox;
    // There is no first batch yet.
    if (pending + syncing + conflict + failed === 0 && (isLess || left.length === 0)) {
      try {
        await rescue.reset(this.#client, left);
        this.#others = left.length > 0 || undefined;
      } catch (error) {
        this.#tellUnwritten(error);
      }
      if (this.#closed) return;
    }
    this.#hand(0, [0, 0], true);
  }

  #hand(...from) {
    this.#from = from;
    this.#core.startRescue(...from);
  }

  #later(work) {
    if (this.#closed) return;
    clearTimeout(this.#again);
    // What fails is told, and tried again, by itself.
    this.#again = setTimeout(() => work().catch(() => {}), this.#againMs);
  }

  /** One tab does: what it has taken in may have been settled since, and must not come back again. */
  #tryAgain() {
    this.#later(async () => {
      const rescue = await this.#opening;
      try {
        if (this.#core.status().leader) await this.#bringBack(rescue);
        else this.#tryAgain();
      } catch {
        this.#tryAgain();
      }
    });
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
    const others = this.#others;
    let isNew;
    try {
      const rescue = await this.#opening;
      isNew = await rescue.write({ ...batch, client: this.#client, stamp: since, others, alone });
    } catch (error) {
      this.#tellUnwritten(error);
      this.#handAgain();
      return;
    }
    this.#failed = false;
    if (this.#others === others) this.#others = others === true || others?.length > 0 || undefined;
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

  /**
   * Changes of databases before this one that are not taken in, `[{ client, mutations }]`; rejects where there
   * may be some, and none can be read.
   */
  async others() {
    try {
      const kept = await (await this.#opening)?.load();
      if (!kept) return [];
      const { client, mutations, others } = kept;
      const lists = client === this.#client ? others : [{ client, mutations }, ...others];
      return lists.filter((list) => list.mutations.length > 0);
    } catch (error) {
      // It was read before, and has had nothing but this database's own.
      const isOwn = this.#from !== null && this.#others === undefined;
      if (isOwn || this.#closed) return [];
      throw unread(error);
    }
  }

  /** How many they are. */
  async left() {
    return (await this.others()).reduce((sum, { mutations }) => sum + mutations.length, 0);
  }

  /** Resolves when what is on its way has arrived. */
  close() {
    return (this.#ending ??= this.#close());
  }

  async #close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#again);
    const rescue = await this.#opening;
    await rescue?.close();
  }

  #tellUnwritten(error) {
    this.#tell(`the rescue copy could not be written: ${error?.message ?? error}`, error);
  }

  #tell(text, cause) {
    // What was closed before it was ready has not failed.
    if (this.#failed || this.#closed) return;
    this.#failed = true;
    const { code, message, hint, retryable } = fail("rescue-failed", text, cause);
    this.#report({ code, message, hint, retryable, at: Date.now() });
  }
}

const unread = (error) =>
  fail("rescue-failed", `the rescue copy could not be read: ${error?.message ?? error}`, error);
