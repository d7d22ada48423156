// Realtime: while this tab syncs, the backend tells it at once when something has changed.
//
// A poke is a hint and leads to a pull; the interval goes on beside it. Backends replay nothing after an
// interruption, so that each beginning counts as a poke.

import { within } from "./limit.js";

const RETRY_MS = 1_000;
const RETRY_MAX_MS = 300_000;
/** What has lasted so long, or has told something, was a connection: after it the pauses start anew. */
const LASTING_MS = 30_000;

export class Realtime {
  /** `off`, `connecting`, `live`, or `polling` while the connection is down. */
  state = "off";
  #subscribe;
  #poke;
  #changed;
  #wanted = false;
  #failures = 0;
  /** Until the next try, or until the connection counts as one. */
  #timer;
  /** What came of an earlier connection is not heard any more. */
  #turn = null;
  #stop = null;

  constructor(subscribe, poke, changed) {
    this.#subscribe = subscribe;
    this.#poke = poke;
    this.#changed = changed;
  }

  /** Connects where this tab syncs, and lets go where it does not. */
  follow(wanted) {
    if (wanted === this.#wanted) return;
    this.#wanted = wanted;
    this.#failures = 0;
    this.#letGo();
    if (wanted) this.#connect();
    else this.#set("off");
  }

  async #connect() {
    const turn = (this.#turn = {});
    const current = () => this.#turn === turn;
    this.#set("connecting");
    try {
      const poke = () => {
        if (!current()) return;
        this.#failures = 0;
        this.#poke();
      };
      const given = Promise.resolve(this.#subscribe(poke, () => current() && this.#lost()));
      // One that comes too late, or is not wanted any more, is ended as soon as it is there.
      given.then((stop) => current() || stop?.()).catch(() => {});
      const stop = await within(given, () => new Error("no connection in time"));
      if (!current()) return;
      this.#stop = stop;
    } catch {
      if (current()) this.#lost();
      return;
    }
    this.#timer = setTimeout(() => (this.#failures = 0), LASTING_MS);
    this.#set("live");
    this.#poke();
  }

  #lost() {
    this.#letGo();
    const most = Math.min(RETRY_MAX_MS, RETRY_MS * 2 ** this.#failures++);
    // Many clients lose one server in the same moment: they must not come back in the same one.
    this.#timer = setTimeout(() => this.#connect(), most / 2 + (Math.random() * most) / 2);
    this.#set("polling");
  }

  #letGo() {
    clearTimeout(this.#timer);
    this.#turn = null;
    const stop = this.#stop;
    this.#stop = null;
    try {
      stop?.();
    } catch {
      // What has ended already, say: it is let go all the same.
    }
  }

  #set(state) {
    if (state === this.state) return;
    this.state = state;
    this.#changed();
  }
}
