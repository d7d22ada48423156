// One of the stores under test, as the driver sees it: what it should hold, its server, and what
// became of it so far.
import { Backend, PeerBackend } from "./backend.mjs";
import { Model } from "./model.mjs";

export const TITLES = { landfall: "landfall", raw: "raw IndexedDB", dexie: "Dexie" };

export class Subject {
  #server;
  #users = 0;
  /** The session that found the database gone. */
  #wipedIn = null;
  #n = 0;

  /** The token of its origin's IndexedDB, as last seen. */
  token = null;
  /** The same of the rescue copy's bucket. */
  copyToken = null;
  /** The browser has thrown its database away since the last check. */
  wiped = false;
  /** It has thrown the rescue copy away. */
  copyWiped = false;
  /** The same, since this user's database was made. */
  wasWiped = false;
  /** When each session was killed. */
  kills = new Map();
  /** Schema version to open with; `null` where there is none. */
  version = null;
  totals = {
    acknowledged: 0,
    refused: 0,
    wiped: 0,
    /** Wiped, and the rescue copy was thrown away as well. */
    bothWiped: 0,
    restored: 0,
    /** Records that were not at the server when their database was wiped. */
    unsynced: 0,
    lost: 0,
    duplicated: 0,
    torn: 0,
    inWindow: 0,
    /** Wiped, mutations restored, and the status said nothing of it. */
    untold: 0,
    conflicts: 0,
  };
  /** Code or name → how often a write was refused with it. */
  refusals = new Map();

  constructor(name, server) {
    this.name = name;
    this.#server = server;
    this.renew();
  }

  /** Whether it is the one that promises to survive a wiped database. */
  get hasRescue() {
    return this.name === "landfall";
  }

  next = () => (this.#n += 1);

  /** A new user: an empty database and an empty server. */
  renew() {
    this.#countConflicts();
    this.#users += 1;
    this.user = `${this.name}-${this.#users}`;
    this.model = new Model();
    this.backend = this.hasRescue ? new Backend() : new PeerBackend();
    this.#server.backends.set(this.user, this.backend);
    this.wasWiped = false;
    this.copyToken = null;
    this.copyWiped = false;
    if (this.version !== null) this.version = 1;
  }

  network(mode) {
    this.#server.modes.set(this.name, mode);
  }

  sawToken(token, session) {
    if (this.token !== null && this.token !== token) {
      this.wiped = this.wasWiped = true;
      this.#wipedIn = session;
    }
    this.token = token;
  }

  sawCopy(token) {
    if (this.copyToken !== null && this.copyToken !== token) this.copyWiped = true;
    this.copyToken = token;
  }

  acknowledged(first, last, at) {
    for (let n = first; n <= last; n += 1) this.model.acknowledge(n, at);
    this.totals.acknowledged += last - first + 1;
  }

  refused(code) {
    this.totals.refused += 1;
    this.refusals.set(code, (this.refusals.get(code) ?? 0) + 1);
  }

  /** Adds what a check found to the totals. */
  count({ findings, recovered, queued, unsynced = 0 }, session) {
    for (const sort of ["lost", "torn", "duplicated", "inWindow"]) {
      this.totals[sort] += findings[sort];
    }
    const { copyWiped } = this;
    this.copyWiped = false;
    if (!this.wiped) return;
    this.totals.wiped += 1;
    if (copyWiped) this.totals.bothWiped += 1;
    this.totals.unsynced += unsynced;
    if (findings.lost === 0) this.totals.restored += 1;
    // A session that was killed before the check may have been told instead.
    const here = this.#wipedIn === session;
    if (here && recovered === null && queued > 0) this.totals.untold += 1;
    this.wiped = false;
  }

  /** To be called before a summary is made. */
  close() {
    this.#countConflicts();
    this.backend = null;
  }

  #countConflicts() {
    this.totals.conflicts += this.backend?.conflicts?.length ?? 0;
  }
}
