const SWITCHED_OFF = "The network of this device is switched off";

/**
 * A network switch for one device of the page.
 *
 * Both devices live in one browser tab, so the browser's own offline mode would switch off both.
 * This one cuts a single device: its requests fail the way they do without a signal (`fetch`
 * rejects with a `TypeError`), and those under way are torn down. landfall is not told; it finds
 * out from its requests, as it does behind a dead access point, and says "unreachable" where the
 * browser would have said "offline".
 */
export class NetworkSwitch {
  #online: boolean;
  #cut = new AbortController();
  readonly #key: string;
  readonly #listeners = new Set<(online: boolean) => void>();

  /** `name` keeps the position over a reload of the tab. */
  constructor(name: string) {
    this.#key = `${name}:offline`;
    this.#online = sessionStorage.getItem(this.#key) === null;
  }

  get online(): boolean {
    return this.#online;
  }

  set(online: boolean): void {
    if (online === this.#online) return;
    this.#online = online;
    if (online) {
      this.#cut = new AbortController();
      sessionStorage.removeItem(this.#key);
    } else {
      this.#cut.abort(new TypeError(SWITCHED_OFF));
      sessionStorage.setItem(this.#key, "1");
    }
    for (const listener of this.#listeners) listener(online);
  }

  /** Calls at once and at each change. */
  subscribe(listener: (online: boolean) => void): void {
    this.#listeners.add(listener);
    listener(this.#online);
  }

  readonly fetch: typeof fetch = async (input, init) => {
    if (!this.#online) throw new TypeError(SWITCHED_OFF);
    const own = init?.signal;
    const signal = own ? AbortSignal.any([own, this.#cut.signal]) : this.#cut.signal;
    return fetch(input, { ...init, signal });
  };
}
