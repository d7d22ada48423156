/** The demo's sign-in: a short-lived token for the user "demo", asked for when it is needed. */
import { BackendError } from "landfall";

/** A token this close to its end is replaced before it is used. */
const SPARE_MS = 10_000;

interface Token {
  value: string;
  expiresAt: number;
}

export class Session {
  readonly user = "demo";
  readonly #fetch: typeof fetch;
  #token: Promise<Token> | undefined;

  constructor(fetcher: typeof fetch) {
    this.#fetch = fetcher;
  }

  /** For `rest({ headers })`: landfall asks with `refresh` once after a 401. */
  readonly headers = async ({ refresh }: { refresh: boolean }): Promise<HeadersInit> => {
    if (refresh) this.#token = undefined;
    let token = await this.#current();
    if (token.expiresAt - Date.now() < SPARE_MS) {
      this.#token = undefined;
      token = await this.#current();
    }
    return { authorization: `Bearer ${token.value}` };
  };

  /** Requests that start together share one question; a failed one is asked again next time. */
  async #current(): Promise<Token> {
    this.#token ??= this.#ask();
    try {
      return await this.#token;
    } catch (error) {
      this.#token = undefined;
      throw error;
    }
  }

  async #ask(): Promise<Token> {
    const response = await this.#fetch("/demo/token", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ user: this.user }),
    });
    if (!response.ok) {
      throw new BackendError("The demo server gave no token", { status: response.status });
    }
    const body = (await response.json()) as { token: string; expiresAt: string | number };
    return { value: body.token, expiresAt: new Date(body.expiresAt).getTime() };
  }
}
