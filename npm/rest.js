// The backend for the protocol in docs/PROTOCOL.md: fetch with a time limit, credentials by
// callback, gzip. It says how a request failed; what that means is the engine's business.

import { BackendError, fail } from "./errors.js";
import { readEvents } from "./stream.js";

const TIMEOUT_MS = 30_000;
/** Browsers take a longer wait for none at all. */
const TIMER_MAX_MS = 2_147_483_647;
const GZIP_FROM_BYTES = 1024;
/** A larger answer is refused: no page of the protocol comes near. */
const ANSWER_BYTES_MAX = 64 * 1024 * 1024;

export function rest(options) {
  const { url, headers, timeout = TIMEOUT_MS, gzip = true, realtime = false } = options ?? {};
  if (typeof url !== "string" && !(url instanceof URL)) {
    throw fail("invalid-options", "rest: url is missing");
  }
  if (headers !== undefined && typeof headers !== "function") {
    throw fail("invalid-options", "rest: headers is a function that returns headers");
  }
  if (!Number.isFinite(timeout) || timeout <= 0) {
    throw fail("invalid-options", "rest: timeout is a number of milliseconds");
  }
  const limitMs = Math.min(timeout, TIMER_MAX_MS);
  const base = String(url).replace(/\/+$/, "");
  const send = options.fetch ?? ((...args) => fetch(...args));

  /** Where the newest pull has got to, and its signal: a poke that says the same tells nothing new. */
  let pulled = null;

  const authorized = async (refresh, accept) => {
    const given = headers ? await headers({ refresh }) : undefined;
    let all;
    try {
      all = new Headers(given);
    } catch {
      // What the platform says of it may have the token in it.
      throw new BackendError("headers: what the app has answered cannot be sent as headers");
    }
    all.set("accept", accept);
    return all;
  };

  async function request(path, { signal, refresh }, body) {
    const limit = new AbortController();
    const timer = setTimeout(
      () => limit.abort(new BackendError("no answer in time", { code: "timeout" })),
      limitMs,
    );
    const cancel = () => limit.abort(signal.reason);
    if (signal.aborted) cancel();
    signal.addEventListener("abort", cancel, { once: true });
    // A fetch of the app's own may ignore the signal: the limit holds all the same.
    const given = new Promise((_, reject) => {
      limit.signal.addEventListener("abort", () => reject(limit.signal.reason), { once: true });
    });
    given.catch(() => {});
    const attempt = async () => {
      const all = await authorized(refresh, "application/json");
      const init = { method: "GET", headers: all, signal: limit.signal, cache: "no-store" };
      if (body !== undefined) {
        init.method = "POST";
        all.set("content-type", "application/json");
        init.body = body;
        if (
          gzip &&
          init.body.length >= GZIP_FROM_BYTES &&
          typeof CompressionStream === "function"
        ) {
          init.body = await compressed(init.body);
          all.set("content-encoding", "gzip");
        }
      }
      const response = await send(base + path, init);
      return [response, await readText(response)];
    };
    try {
      return await Promise.race([attempt(), given]);
    } catch (error) {
      if (error instanceof BackendError) throw error;
      throw new BackendError(error?.message ?? "the request failed", { status: 0 });
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", cancel);
    }
  }

  async function json(path, context, body) {
    const [response, text] = await request(path, context, body);
    if (!response.ok) throw refusal(response, text);
    let answer;
    try {
      answer = JSON.parse(text);
    } catch {
      throw new BackendError("the answer is not JSON", {
        status: response.status,
        code: "protocol-error",
      });
    }
    if (typeof answer !== "object" || answer === null) {
      throw new BackendError("the answer is no object", {
        status: response.status,
        code: "protocol-error",
      });
    }
    const serverTime = Date.parse(response.headers.get("date") ?? "");
    if (Number.isFinite(serverTime)) answer.serverTime = serverTime;
    return answer;
  }

  /** The changes as JSON texts: that is what the core has. */
  function pushTexts(changes, context) {
    const clientId = JSON.stringify(context.clientId);
    const body = `{"protocol":1,"clientId":${clientId},"changes":[${changes.join(",")}]}`;
    return json("/batch", context, body);
  }

  /** Resolves when the stream is open; `lost` is called when it has ended without `stop`. */
  async function subscribe(poke, lost) {
    const end = new AbortController();
    const open = async (refresh) => {
      const all = await authorized(refresh, "text/event-stream");
      return send(`${base}/stream`, { headers: all, signal: end.signal, cache: "no-store" });
    };
    const limit = setTimeout(() => end.abort(), limitMs);
    try {
      let response = await open(false);
      if (response.status === 401) response = await open(true);
      if (!response.ok || !response.body) throw refusal(response, await response.text());
      const type = response.headers.get("content-type") ?? "";
      // A page of the app for what the host does not know, say.
      if (!/^text\/event-stream\b/i.test(type)) {
        end.abort();
        throw new BackendError(`the stream is no event stream but "${type}"`, {
          status: response.status,
          code: "protocol-error",
        });
      }
      const heard = (checkpoint) => {
        const { signal } = pulled?.checkpoint === checkpoint ? pulled : {};
        if (!signal || signal.aborted) return poke();
        // A page that was asked for ahead, and that nobody wants after all, has brought nothing.
        signal.addEventListener("abort", () => poke(), { once: true });
      };
      readEvents(response.body, heard).then(lost, lost);
    } finally {
      clearTimeout(limit);
    }
    return () => end.abort();
  }

  const push = (changes, context) => {
    const texts = changes.map((change) => JSON.stringify(change));
    return pushTexts(texts, context);
  };
  // Of the function, not of the backend: an app's own `push` in a copy of this one takes its place whole.
  push.texts = pushTexts;

  return {
    ...(realtime && { subscribe }),
    push,
    pull: async (checkpoint, limit, context) => {
      const query = new URLSearchParams({ limit: String(limit) });
      if (checkpoint !== null) query.set("since", checkpoint);
      const page = await json(`/pull?${query}`, context);
      pulled = { checkpoint: page.checkpoint, signal: context.signal };
      return page;
    },
  };
}

async function readText(response) {
  const tooLarge = () => new BackendError("the answer is too large", { code: "protocol-error" });
  const length = response.headers.get("content-length");
  if (Number(length ?? 0) > ANSWER_BYTES_MAX) {
    // Else it would go on coming.
    response.body?.cancel().catch(() => {});
    throw tooLarge();
  }
  // Of an answer from elsewhere it cannot be seen whether it is compressed: it may be longer than it says.
  const isPlain = response.type === "basic" && !response.headers.has("content-encoding");
  if (!response.body || (isPlain && length !== null)) return response.text();
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for (const reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    bytes += value.byteLength;
    if (bytes > ANSWER_BYTES_MAX) {
      reader.cancel().catch(() => {});
      throw tooLarge();
    }
    text += decoder.decode(value, { stream: true });
  }
}

async function compressed(text) {
  const stream = new Blob([text]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/** What a refusing answer says: RFC 9457, or its status line. */
function refusal(response, text) {
  let problem = {};
  try {
    problem = JSON.parse(text) ?? {};
  } catch {
    // Not a problem document; the status says enough.
  }
  const message = problem.detail ?? problem.title ?? problem.message ?? response.statusText;
  return new BackendError(String(message || `status ${response.status}`), {
    status: response.status,
    code: typeof problem.code === "string" ? problem.code : undefined,
    retryAfterMs: retryAfter(response.headers.get("retry-after")),
  });
}

/** `Retry-After` in seconds or as a date, in milliseconds from now. */
export function retryAfter(value, now = Date.now()) {
  if (value === null || value === undefined || value === "") return undefined;
  if (/^\s*\d+(\.\d+)?\s*$/.test(value)) return Number(value) * 1000;
  const at = Date.parse(value);
  return Number.isFinite(at) ? Math.max(0, at - now) : undefined;
}
