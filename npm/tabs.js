// The app's other tabs: one of them syncs, all of them see the same.
//
// The leader is whoever holds a Web Lock; when its tab goes, the browser hands the lock on. A
// BroadcastChannel tells the others to catch up with the log and what the leader is at. They would
// be right without it, only later.

export class Tabs {
  #database;
  #channel = null;
  #release = null;
  #abort = new AbortController();
  /** Lets the lock go that says "this tab is open". */
  #leave = null;

  /** `on` has `lead()`, `wrote()`, `status(status)`, `asked()`, `request(what)` and `leave()`. */
  constructor(database, on) {
    this.#database = database;
    if (typeof BroadcastChannel === "function") {
      this.#channel = new BroadcastChannel(database);
      this.#channel.onmessage = ({ data }) => {
        if (data?.kind === "wrote") on.wrote();
        else if (data?.kind === "status") on.status(data.status);
        else if (data?.kind === "hello") on.asked();
        else if (data?.kind === "request") on.request(data.what);
        else if (data?.kind === "leave") on.leave();
      };
    }
    const locks = globalThis.navigator?.locks;
    if (!locks) {
      on.lead();
      return;
    }
    locks
      .request(database, { signal: this.#abort.signal }, () => {
        on.lead();
        return new Promise((resolve) => (this.#release = resolve));
      })
      .catch(() => {
        // Closed before it was this tab's turn.
      });
    this.#enter(locks);
    this.send("hello");
  }

  #enter(locks) {
    this.#leave = new AbortController();
    const { signal } = this.#leave;
    const held = () => new Promise((resolve) => signal.addEventListener("abort", resolve));
    locks.request(`${this.#database}:open`, { mode: "shared", signal }, held).catch(() => {
      // Closed before the lock was granted.
    });
  }

  /**
   * Asks the other tabs to close and runs `run` when they have; while it runs no other tab can open.
   * Answers false when one of them does not close in time.
   */
  async alone(limitMs, run) {
    const locks = globalThis.navigator?.locks;
    this.send("leave");
    if (!locks) {
      await run();
      return true;
    }
    this.#leave.abort();
    try {
      const signal = AbortSignal.timeout(limitMs);
      await locks.request(`${this.#database}:open`, { signal }, async () => {
        await run();
      });
      return true;
    } catch (error) {
      if (error?.name !== "TimeoutError") throw error;
      return false;
    } finally {
      if (this.#channel) this.#enter(locks);
    }
  }

  send(kind, rest) {
    try {
      this.#channel?.postMessage({ kind, ...rest });
    } catch {
      // The channel was closed while a message was on its way.
    }
  }

  close() {
    this.#abort.abort();
    this.#release?.();
    this.#leave?.abort();
    this.#channel?.close();
    this.#channel = null;
  }
}
