// The sync manager that apps hold: status, waiting, queue, conflict log, events.

import { CLOSE_MS, backupOf, blocked, deleteLocalData } from "./backup.js";
import { needSynced, storedCounts, takeIn, takeInAll } from "./backup.js";
import { Collection } from "./collection.js";
import { conflictsOf, decide, editQueued } from "./conflicts.js";
import { LandfallError, fail, toError } from "./errors.js";
import { Lifeboat } from "./lifeboat.js";
import { LiveQueries } from "./live.js";
import { WriteQueue } from "./queue.js";
import { Realtime } from "./realtime.js";
import { deepFreeze } from "./record.js";
import { rehearse } from "./rehearsal.js";
import { Presence, Tabs } from "./tabs.js";
import { runTransaction } from "./transaction.js";
import { isAllSyncedSince, isSyncedSince, listed, stats } from "./waiting.js";
import { needFunction } from "./write.js";

/** What happens to records; made for those who listen only. */
const NOTICES = ["mutation", "conflict", "parked", "rekeyed", "pulled"];
const EVENTS = [...NOTICES, "recovered", "error"];
/** What the status of a tab that does not sync takes from the one that does. */
const LEADING = [
  "phase",
  "network",
  "realtime",
  "progress",
  "lastSyncedAt",
  "syncedThrough",
  "nextSyncAt",
  "error",
];
/** Phases in which a tab that leads does not look for changes. */
const AT_REST = ["offline", "paused", "needs-auth", "closed"];
/** Why a manager closes by itself: its database is not there any more, or not for this version. */
const GONE = ["database-newer", "database-lost"];
const STORAGE_EVERY_MS = 30_000;
/** How long `open` waits for the rescue copy, which is nearly always there before. */
const RESCUE_WAIT_MS = 250;

function report(error) {
  if (typeof reportError === "function") reportError(error);
  else console.error(error);
}

export class SyncManager {
  #core = null;
  #queue = null;
  /** Nothing new is taken: what was handed in before is still checked and stored. */
  #leaving = false;
  /** Ends when everything is stored and let go. */
  #closing = null;
  /** Another tab signs out, and has closed this one. */
  #sentAway = false;
  #closed = false;
  #tabs = null;
  #presence;
  #realtime = null;
  #rescue = null;
  #recovered = null;
  #leader = null;
  /** This page is too old for the data: another tab is to sync. */
  #outdated = false;
  #hasBackend = false;
  #collections = new Map();
  #keys = new Map();
  #schemas = new Map();
  #database;
  #reach = null;
  #handlers = new Map(EVENTS.map((event) => [event, new Set()]));
  /** What has happened while it opened, for handlers that can only be added then. */
  #early = [];
  #subscribers = new Set();
  #waiters = new Set();
  #status = null;
  /** The status that those who watch were told last: somebody may have looked at a newer one since. */
  #told = null;
  #statusText = "";
  #dirty = true;
  #scheduled = false;
  #storage = { usage: null, quota: null, persisted: null };
  #storageAt = 0;

  constructor(name, user, database) {
    this.name = name;
    this.user = user;
    this.#database = database;
    this.#presence = new Presence(database);
    this.live = new LiveQueries(report);
    this.outbox = Object.freeze({
      list: (filter) => listed(this, filter),
      stats: () => this.read((core) => stats(core)),
      retry: async (id) => void (await this.#act("retry", id)),
      retryAll: () => this.#act("retryAll"),
      discard: async (id) => void (await this.#act("discard", id)),
      edit: (id, patch) => editQueued(this, id, patch),
    });
    this.conflicts = conflictsOf(this);
  }

  /** Opens the core; for `open()` only. */
  async start(Core, options, { loaded, reach, backend, migrate, schemas, ...more }) {
    const { handlers, persist, rescue } = more;
    this.#reach = reach;
    const isWatched = () => this.#tabs?.company || this.#isHeard(NOTICES);
    const host = {
      get watched() {
        return isWatched();
      },
      committed: (collections, notices, own) => this.#committed(collections, notices, own),
      status: () => this.#changed(),
      folded: () => this.#sweep(),
      turn: () => this.#tabs?.turn(),
      decide: (name, ...rest) => decide(handlers.get(name), schemas.get(name), name, ...rest),
      rescue: (batch) => this.#rescue.write(batch),
      failed: (error) => {
        if (error.code === "database-newer") this.#resign();
        this.#emit("error", { ...error, at: Date.now() });
      },
    };
    try {
      // While the module is loaded: the lock, the database, which is read once nobody deletes in it any more,
      // and the rescue copy, so that it is ready when the first change is made.
      const entered = this.#presence.enter();
      host.reached = reach(options.database, entered);
      if (rescue !== false) this.#rescue = this.#makeRescue(options.durability);
      await Promise.all([loaded, entered]);
      host.reached.then(({ failed }) => {
        // In a turn of its own: by then the browser has been asked to make the database.
        if (failed === "missing") setTimeout(rehearse, 0, Core, options);
      });
      this.#core = await Core.open(options, backend, host, migrate);
    } catch (error) {
      this.#presence.end();
      this.#rescue?.close();
      host.reached?.then(({ db }) => db?.close());
      throw error instanceof Error ? error : toError(error);
    }
    // It has what was read, until all of that is loaded.
    host.reached = null;
    this.#schemas = schemas;
    this.#queue = new WriteQueue(this.#core);
    for (const [name, { key, optimistic = true }] of Object.entries(options.collections)) {
      const collection = new Collection(name, this, key, optimistic, schemas.get(name));
      this.#collections.set(name, collection);
      this.#keys.set(name, key);
    }
    this.#tabs = new Tabs(this.#database, this.#presence, {
      lead: () => this.#core?.signal("lead"),
      wrote: (notices) => this.#wroteElsewhere(notices),
      asked: () => this.#tellTabs(),
      leave: () => {
        this.#sentAway = true;
        this.close();
      },
      crowded: () => this.#core?.signal("crowded"),
      request: (what, of) => {
        const leads = this.#isLeader();
        if (leads || what !== "sync") this.#core?.signal(what);
        // Also where nothing has changed by it: whoever has asked waits for it.
        if (leads) this.#tellTabs(of);
      },
      status: (status) => {
        this.#leader = status;
        this.#changed();
        queueMicrotask(() => this.#lookAgain());
      },
    });
    if (this.#outdated) this.#resign();
    this.#hasBackend = Boolean(backend);
    if (backend?.subscribe) this.#realtime = this.#makeRealtime(backend);
    // A migration at open was a commit that nobody has heard of yet.
    if (options.version > 1) this.#tabs.send("wrote");
    this.#measureStorage();
    this.#askToPersist(persist);
    if (this.#rescue) await this.#startRescue(options.durability);
    // After whoever waits for `open()` has had its turn.
    setTimeout(() => this.#tellEarly());
    return this;
  }

  collection(name) {
    const found = this.#collections.get(name);
    if (!found) {
      throw new LandfallError("unknown-collection", `there is no collection "${name}"`, {
        hint: "Declare the collection in the options of open().",
      });
    }
    return found;
  }

  /** Calls the core at once; for the parts of this package. */
  now(use) {
    const queue = this.queue();
    try {
      queue.flush();
      return use(this.#core);
    } catch (error) {
      throw error instanceof Error ? error : toError(error);
    }
  }

  /** Where single writes are collected; for the parts of this package. */
  queue() {
    if (this.#closed) throw closed();
    return this.#queue;
  }

  /** Refuses what an app asks of a manager that is closing; for the parts of this package. */
  accept() {
    if (this.#leaving) throw closed();
  }

  /** Calls the core when it sees every write made before; for the parts of this package. */
  read(use) {
    return new Promise((resolve, reject) => {
      const run = () => {
        try {
          const answer = this.now(use);
          // Not all of it was in memory: once more, when it is.
          if (this.#core.missed())
            this.#core.fetch((error) => (error ? reject(toError(error)) : run()));
          else resolve(answer);
        } catch (error) {
          reject(error);
        }
      };
      if (!this.#closed) this.#queue.flush();
      if (this.#closed || this.#core.settled()) run();
      else this.#core.settle((error) => (error ? reject(toError(error)) : run()));
    });
  }

  /** Writes to several collections; for the parts of this package. */
  transact(writes, reads, grouped) {
    return new Promise((resolve, reject) => {
      this.now((core) =>
        core.transact(writes, reads, grouped, (error) =>
          error ? reject(toError(error)) : resolve(),
        ),
      );
    });
  }

  /** The field that holds a collection's key; for the parts of this package. */
  keyOf(name) {
    return this.#keys.get(name);
  }

  /** A collection's schema, if it has one; for the parts of this package. */
  schemaOf(name) {
    return this.#schemas.get(name);
  }

  async transaction(run) {
    this.accept();
    return runTransaction(this, this.#schemas, run);
  }

  // --- backup and end ---

  async exportUnsynced() {
    await this.#checked();
    const [kept] = await Promise.allSettled([this.#rescue?.others()]);
    return this.read((core) => backupOf(this, core, kept));
  }

  async importUnsynced(backup) {
    this.accept();
    return takeInAll(this, backup);
  }

  async signOut({ discard = false } = {}) {
    // Where several tabs sign out at once, each is through when all is deleted.
    if (!this.#sentAway) this.accept();
    await this.#checked();
    const left = discard ? 0 : await this.#rescue?.left();
    await this.#unlessSentAway(() =>
      this.read((core) => discard || needSynced(core.status().outbox, left)),
    );
    const alone = await this.#tabs.alone(CLOSE_MS, async () => {
      await this.#countOut(discard);
      await this.close();
      // Nothing of it is stored any more once it is deleted.
      await this.#rescue?.close();
      await deleteLocalData(this.#database);
    });
    if (!alone) throw blocked();
  }

  /** What is not synced refuses, also what the other tabs wrote before they closed. */
  async #countOut(discard) {
    const isCounted = await this.#unlessSentAway(async () => {
      this.now((core) => core.catchUp());
      // From the count on nothing is taken any more: it would be deleted without having been counted.
      const count = (core) => {
        // Handed in since, and not stored yet.
        if ([...this.#collections.values()].some((it) => it.hasChecks())) return false;
        if (!discard) needSynced(core.status().outbox);
        return (this.#leaving = true);
      };
      do await this.#checked();
      while (!(await this.read(count)));
    });
    if (isCounted) return;
    await this.close();
    if (!discard) needSynced(await storedCounts(this.#database, this.#reach));
  }

  /** Whether `work` was done, and not cut off because another tab that signs out has closed this one. */
  async #unlessSentAway(work) {
    try {
      await work();
      return true;
    } catch (error) {
      if (error?.code !== "closed" || !this.#sentAway) throw error;
      return false;
    }
  }

  async #act(kind, id = "") {
    // An id is known only once the queue is in memory.
    await this.read(() => {});
    this.accept();
    return new Promise((resolve, reject) => {
      this.now((core) =>
        core.act(kind, String(id), (error, n) => (error ? reject(toError(error)) : resolve(n))),
      );
    });
  }

  // --- status ---

  get status() {
    if (this.#dirty) this.#build();
    return this.#status;
  }

  getSnapshot() {
    return this.status;
  }

  subscribe(fn) {
    needFunction(fn, "subscribe: the argument");
    // Of its own: the same function may have been given before.
    let last;
    const told = (status) => {
      // It may have been stopped by whoever was told just before.
      if (status === last || !this.#subscribers.has(told)) return;
      last = status;
      fn(status);
    };
    this.#subscribers.add(told);
    this.#call(told, this.status);
    return () => this.#subscribers.delete(told);
  }

  [Symbol.observable ?? "@@observable"]() {
    return {
      subscribe: (observer) => {
        const next =
          typeof observer === "function" ? observer : (status) => observer.next?.(status);
        return { unsubscribe: this.subscribe(next) };
      },
    };
  }

  #resign() {
    this.#outdated = true;
    this.#core?.signal("follow");
    this.#tabs?.resign();
  }

  #isLeader() {
    return this.#core !== null && !this.#closed && this.#core.status().leader;
  }

  #build() {
    // While it opens, the core may report already: there is nothing to show yet.
    if (this.#core === null) return;
    this.#dirty = false;
    const own = this.#core.status();
    own.realtime = this.#realtime?.state ?? "off";
    const follows = !own.leader && own.phase !== "closed" && !this.#outdated;
    if (follows && this.#leader !== null) {
      const { error } = own;
      for (const field of LEADING) own[field] = this.#leader[field];
      own.error = error ?? own.error;
      const syncing = Math.min(this.#leader.syncing, own.outbox.pending);
      own.outbox.pending -= syncing;
      own.outbox.syncing = syncing;
    }
    own.storage = this.#storage;
    own.recovered = this.#recovered;
    const text = JSON.stringify(own);
    if (text !== this.#statusText) {
      this.#statusText = text;
      this.#status = deepFreeze(own);
    }
  }

  // Many changes in one turn of the event loop are one change for those who watch.
  #changed() {
    this.#dirty = true;
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#realtime?.follow(this.#looksForChanges());
      // Where nobody looks, it is made when somebody does.
      const watched = this.#subscribers.size + this.#waiters.size > 0 || this.#tabs?.company;
      if (!watched && this.#core?.isOpen()) return;
      const now = this.status;
      if (now === this.#told || now === null) return;
      this.#told = now;
      // The database was taken away: another tab may lead. One that closes still has to store.
      if (now.phase === "closed" && this.#closing === null) {
        this.#tabs?.close();
        this.#presence.end();
      }
      for (const fn of [...this.#subscribers]) this.#call(fn, now);
      this.#lookAgain();
      if (now.leader) this.#tellTabs();
    });
  }

  #lookAgain() {
    for (const waiter of [...this.#waiters]) waiter(this.status);
  }

  #makeRealtime(backend) {
    const subscribe = (poke, lost) => backend.subscribe(poke, lost);
    const poke = () => this.#core?.signal("poke");
    queueMicrotask(() => this.#changed());
    return new Realtime(subscribe, poke, () => this.#changed());
  }

  #looksForChanges() {
    if (this.#core === null || this.#closed) return false;
    const { leader, phase } = this.#core.status();
    return leader && !AT_REST.includes(phase);
  }

  #tellTabs(of) {
    if (!this.#tabs?.company || !this.#isLeader()) return;
    const status = { syncing: this.status.outbox.syncing };
    for (const field of LEADING) status[field] = this.status[field];
    this.#tabs.tellStatus(status, of);
  }

  #makeRescue(durability) {
    const alone = () => this.#tabs !== null && !this.#tabs.company;
    return new Lifeboat(this.#database, durability, alone, (error) => this.#emit("error", error));
  }

  /** A database without anything may be one that the browser has thrown away. */
  async #startRescue(durability) {
    const { name, user } = this;
    const take = (client, mutations) =>
      takeIn(this, { landfall: 1, name, user, client, mutations }, true);
    const told = this.#rescue.start(this.#core, take, (mutations) => {
      this.#recovered = { code: "store-recovered", at: Date.now(), mutations };
      this.#changed();
      this.#emit("recovered", this.#recovered);
    });
    if (this.#core.fresh()) return told;
    // What is written before it is ready, it is given then; only a strict acknowledgement needs it.
    if (durability !== "strict") return undefined;
    // A slow disk holds nobody up.
    await Promise.race([told, new Promise((resolve) => setTimeout(resolve, RESCUE_WAIT_MS))]);
  }

  /** Folds the log now rather than at a quiet moment; answers whether there was something to fold. */
  async compact() {
    const folded = await new Promise((resolve, reject) => {
      this.now((core) =>
        core.fold((error, n) => (error ? reject(toError(error)) : resolve(n === 1))),
      );
    });
    if (folded) await this.#sweep();
    return folded;
  }

  /** Deletes what compactions have left, if no other tab may still look at it. */
  async #sweep() {
    await this.#presence.alone(
      () => new Promise((resolve) => (this.#closed ? resolve() : this.#core.sweep(resolve))),
    );
  }

  // Firefox would ask the person; browsers that decide by themselves are asked without being told to.
  async #askToPersist(persist = globalThis.navigator?.userAgentData !== undefined) {
    if (!persist) return;
    try {
      await globalThis.navigator?.storage?.persist?.();
    } catch {
      // Not to be had here.
    }
    this.#storageAt = 0;
    this.#measureStorage();
  }

  async #measureStorage() {
    const storage = globalThis.navigator?.storage;
    if (!storage?.estimate || Date.now() - this.#storageAt < STORAGE_EVERY_MS) return;
    this.#storageAt = Date.now();
    try {
      const [{ usage = null, quota = null }, persisted] = await Promise.all([
        storage.estimate(),
        storage.persisted?.() ?? null,
      ]);
      this.#storage = { usage, quota, persisted };
      this.#changed();
    } catch {
      // Not to be had here; the status says null.
    }
  }

  // --- waiting ---

  waitFor(predicate, { signal } = {}) {
    return new Promise((resolve, reject) => {
      needFunction(predicate, "waitFor: the first argument");
      const stop = () => {
        this.#waiters.delete(check);
        signal?.removeEventListener("abort", abort);
      };
      const check = (status) => {
        try {
          if (predicate(status)) {
            stop();
            resolve(status);
          } else if (status.phase === "closed") {
            stop();
            const lost = GONE.includes(status.error?.code);
            reject(lost ? toError(status.error) : fail("closed", "the manager was closed"));
          }
        } catch (error) {
          stop();
          reject(error);
        }
      };
      const abort = () => {
        stop();
        reject(fail("aborted", "the wait was given up", signal.reason));
      };
      if (signal?.aborted) return abort();
      signal?.addEventListener("abort", abort, { once: true });
      this.#waiters.add(check);
      check(this.status);
    });
  }

  async sync() {
    const since = this.#askToSync();
    await this.#waitToSync((status) => {
      const { at, number } = since();
      // What the tab that syncs said before it was asked tells nothing of what comes of it.
      return isSyncedSince(status, at, status.leader || this.#tabs.isAnswered(number));
    });
  }

  refresh() {
    return this.sync();
  }

  async whenSynced({ signal } = {}) {
    const since = this.#askToSync();
    await this.#waitToSync((status) => isAllSyncedSince(status, since().at), { signal });
  }

  /** Answers when that was, and by which number it is answered. Where the device's clock is set back since, it is asked for anew: by that clock. */
  #askToSync() {
    const ask = () => ({ at: Date.now(), number: this.#request("sync") });
    let since = ask();
    this.#needBackend();
    return () => {
      if (Date.now() < since.at) since = ask();
      return since;
    };
  }

  #waitToSync(isDone, options) {
    return this.waitFor((status) => {
      if (this.#outdated && status.error !== null) throw toError(status.error);
      return isDone(status);
    }, options);
  }

  #needBackend() {
    if (!this.#hasBackend) throw fail("invalid-options", "there is no backend to sync with");
  }

  #request(what) {
    this.now((core) => core.signal(what));
    // Whoever leads next is to know whether it is paused.
    return what === "sync" && this.#isLeader() ? 0 : this.#tabs.request(what);
  }

  pause() {
    this.#request("pause");
  }

  resume() {
    this.#request("resume");
  }

  // --- events ---

  on(event, fn) {
    const handlers = this.#handlers.get(event);
    if (!handlers)
      throw fail("invalid-options", `on: there is no event "${event}" (${EVENTS.join(", ")})`);
    needFunction(fn, "on: the second argument");
    // It may have been stopped by whoever was told just before.
    const told = (detail) => handlers.has(told) && fn(detail);
    handlers.add(told);
    return () => handlers.delete(told);
  }

  #committed(collections, notices, own) {
    // Only the tab that syncs hears what the backend says.
    if (own) this.#tabs?.tell("wrote", { notices });
    this.live.touched(collections);
    for (const { event, detail } of notices) this.#emit(event, detail);
    this.#measureStorage();
  }

  #wroteElsewhere(notices) {
    this.#core?.catchUp();
    if (notices.length === 0 || !this.#isHeard(NOTICES)) return;
    const tell = () => notices.forEach(({ event, detail }) => this.#emit(event, detail));
    // Told when it can be seen here as well.
    this.read(() => {}).then(tell, tell);
  }

  #isHeard(events) {
    return events.some((event) => this.#handlers.get(event).size > 0);
  }

  #emit(event, detail) {
    if (this.#early) return void this.#early.push([event, detail]);
    for (const fn of [...this.#handlers.get(event)]) this.#call(fn, detail);
  }

  #tellEarly() {
    const early = this.#early;
    this.#early = null;
    for (const [event, detail] of early) this.#emit(event, detail);
  }

  #call(fn, argument) {
    try {
      fn(argument);
    } catch (error) {
      report(error);
    }
  }

  close() {
    return (this.#closing ??= this.#close());
  }

  async #close() {
    this.#leaving = true;
    this.live.clear();
    await this.#checked();
    this.#queue.flush();
    const core = this.#core;
    await new Promise((resolve) => core.close(resolve));
    this.#closed = true;
    // Only now: another tab may count and delete, and must hear of the last write.
    this.#tabs.close();
    // A slow place may still be given a batch, which must not come after it was deleted.
    Promise.resolve(this.#rescue?.close()).finally(() => this.#presence.end());
    this.#changed();
    await null;
    this.#build();
    this.#core = null;
    // Everything of this database that is in memory.
    core.free();
  }

  /** Ends when what was handed in to be checked by a schema was. */
  async #checked() {
    await Promise.all([...this.#collections.values()].map((collection) => collection.checked()));
  }

  async [Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")]() {
    await this.close();
  }
}

const closed = () => fail("closed", "the manager is closed");
