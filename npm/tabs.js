// The app's other tabs: one of them syncs, all of them see the same.
//
// The leader is whoever holds a Web Lock; when its tab goes, the browser hands the lock on. A
// BroadcastChannel tells the others to catch up with the log and what the leader is at. They would
// be right without it, only later.

const locks = () => globalThis.navigator?.locks;

/** The leader's lock is called like the database, unless that is what another one of another user's is called. */
const leadOf = (database) => (/:(open|turn|lead)$/.test(database) ? `${database}:lead` : database);

/**
 * Says, for as long as the database is open here, that it is: what a tab that is behind might still
 * look at, or write after, is not deleted meanwhile.
 */
export class Presence {
  #name;
  #leave = null;
  /** Resolves when the lock is given back. */
  #held = null;
  /** The browser gives no locks here: then it goes without, as in one that has none. */
  #denied = false;
  #over = false;
  /** One after the other: each gives the lock back and takes it again. */
  #last = Promise.resolve();

  constructor(database) {
    this.#name = `${database}:open`;
  }

  /** Resolves when nobody deletes, which is nearly always at once. */
  enter() {
    if (!locks()) return Promise.resolve();
    return new Promise((resolve) => {
      this.#held = locks().request(this.#name, { mode: "shared" }, () => {
        resolve();
        if (this.#over) return undefined;
        return new Promise((leave) => (this.#leave = leave));
      });
      this.#held.catch(() => {
        this.#denied = true;
        resolve();
      });
    });
  }

  /** Runs `work` if no other tab has the database open, and keeps others waiting until it is done. */
  alone(work) {
    return this.#inTurn(async () => {
      if (!this.#leave) return;
      this.leave();
      // The browser takes a moment; until then this tab would find itself in its own way.
      await this.#held;
      const run = (lock) => (lock ? work() : undefined);
      await locks().request(this.#name, { ifAvailable: true }, run);
      if (!this.#over) await this.enter();
    });
  }

  #inTurn(run) {
    const done = this.#last.then(run);
    this.#last = done.catch(() => {});
    return done;
  }

  /** The same, but waits for the others; answers false where they do not leave in time. */
  whenAlone(limitMs, work) {
    return this.#inTurn(async () => {
      if (!locks() || this.#denied) {
        await work();
        return true;
      }
      this.leave();
      let isAlone = false;
      const run = () => {
        isAlone = true;
        return work();
      };
      try {
        const signal = AbortSignal.timeout(limitMs);
        await locks().request(this.#name, { signal }, run);
        return true;
      } catch (error) {
        // What `work` has waited for in vain is another matter.
        if (isAlone || error?.name !== "TimeoutError") throw error;
        return false;
      } finally {
        if (!this.#over) await this.enter();
      }
    });
  }

  leave() {
    this.#leave?.();
    this.#leave = null;
  }

  /** For good. */
  end() {
    this.#over = true;
    this.leave();
  }
}

/**
 * A tab that has its turn, and was stopped meanwhile, is not waited for longer. What the tab that syncs writes in
 * one turn may take seconds on a slow device: who does not wait for it keeps it from being written, again and again.
 */
const TURN_MS = 10_000;

export class Tabs {
  #database;
  #presence;
  #channel = null;
  #release = null;
  #abort = new AbortController();
  /** It does not lead any more, whatever its turn is. */
  #resigned = false;
  /** The others are asked to close, also those who come only now. */
  #clearing = false;
  /** Whether another tab was ever heard of: a tab that is alone has nobody to tell. */
  company = false;
  #id = Math.random();
  /** How much this tab has asked the one that syncs, and how much of it that one had heard when it last spoke. */
  #asked = 0;
  #answered = 0;
  /** The tab that was the last to say what it is at. */
  #leader = null;

  /** `on` has `lead()`, `wrote(notices)`, `status(status)`, `asked()`, `request(what, of)`, `leave()` and `crowded()`. */
  constructor(database, presence, on) {
    this.#database = database;
    this.#presence = presence;
    if (typeof BroadcastChannel === "function") {
      this.#channel = new BroadcastChannel(database);
      this.#channel.onmessage = ({ data }) => {
        this.company = true;
        if (data?.kind === "wrote") on.wrote(data.notices ?? []);
        else if (data?.kind === "status") {
          this.#hear(data);
          on.status(data.status);
        } else if (data?.kind === "hello") {
          // Whoever has just come may have read the log before the newest write, which told nobody.
          this.tell("wrote");
          on.asked();
          if (this.#clearing) this.send("leave");
        } else if (data?.kind === "request") on.request(data.what, data.of);
        else if (data?.kind === "leave") on.leave();
        else if (data?.kind === "crowded") on.crowded();
      };
    }
    this.send("hello");
    if (!locks()) {
      on.lead();
      return;
    }
    locks()
      .request(leadOf(database), { signal: this.#abort.signal }, () => {
        if (this.#resigned) return undefined;
        on.lead();
        return new Promise((resolve) => (this.#release = resolve));
      })
      .catch((error) => {
        // Else it was closed before it was this tab's turn.
        if (error?.name !== "AbortError" && !this.#resigned) on.lead();
      });
  }

  /**
   * Asks the other tabs to close and runs `run` when they have; while it runs no other tab can open.
   * Answers false when one of them does not close in time.
   */
  async alone(limitMs, run) {
    this.send("leave");
    this.#clearing = true;
    try {
      return await this.#presence.whenAlone(limitMs, run);
    } finally {
      this.#clearing = false;
    }
  }

  /**
   * Waits for this tab's turn of writing, and tells the others to wait for theirs. Answers what ends it, or
   * nothing where it cannot be had: what is written is right without it, but may come late.
   */
  turn() {
    this.send("crowded");
    if (!locks()) return Promise.resolve();
    return new Promise((resolve) => {
      const signal = AbortSignal.timeout(TURN_MS);
      locks()
        .request(`${this.#database}:turn`, { signal }, () => new Promise(resolve))
        .catch(() => resolve());
    });
  }

  /** Asks the tab that syncs for something; answers what `isAnswered` knows it by. */
  request(what) {
    this.#asked += 1;
    this.send("request", { what, of: { tab: this.#id, number: this.#asked } });
    return this.#asked;
  }

  /** Whether the tab that syncs has said what it is at since it was asked that. */
  isAnswered(number) {
    return this.#answered >= number;
  }

  /** Says what this tab, which syncs, is at; `of` is what it was asked. */
  tellStatus(status, of) {
    this.tell("status", { status, from: this.#id, of });
  }

  #hear({ from, of }) {
    // A tab with an older build of the app does not say what it answers.
    if (from === undefined) this.#answered = this.#asked;
    if (of?.tab === this.#id) this.#answered = Math.max(this.#answered, of.number);
    if (from === this.#leader) return;
    this.#leader = from;
    // It may lead only since, and have let pass what was asked before.
    if (this.#answered < this.#asked)
      this.send("request", { what: "sync", of: { tab: this.#id, number: this.#asked } });
  }

  /** Sends what only those need to know who are there already. */
  tell(kind, rest) {
    if (this.company) this.send(kind, rest);
  }

  send(kind, rest) {
    try {
      this.#channel?.postMessage({ kind, ...rest });
    } catch {
      // The channel was closed while a message was on its way.
    }
  }

  /** Leaves the lead to another tab, for good. */
  resign() {
    this.#resigned = true;
    this.#abort.abort();
    this.#release?.();
  }

  close() {
    this.resign();
    this.#channel?.close();
    this.#channel = null;
  }
}
