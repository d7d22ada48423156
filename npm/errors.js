// The errors that landfall throws or reports.

/** Every error that landfall throws or reports: `code`, `hint`, `retryable`. */
export class LandfallError extends Error {
  constructor(code, message, { hint = "", retryable = false, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "LandfallError";
    this.code = code;
    this.hint = hint;
    this.retryable = retryable;
  }
}

/** What a backend throws to say how a request failed. */
export class BackendError extends Error {
  constructor(message, { status = 0, retryAfterMs, code } = {}) {
    super(message);
    this.name = "BackendError";
    this.status = status;
    this.retryAfterMs = retryAfterMs;
    this.code = code;
  }
}

/** Makes an error of the parts that the core reports; anything else passes. */
export function toError(parts) {
  if (parts === null || typeof parts !== "object" || parts instanceof Error) return parts;
  const { code, message, hint, retryable } = parts;
  return new LandfallError(code, message, { hint, retryable });
}

const HINTS = {
  "invalid-options": "Correct the options or the query; the message names the field.",
  "invalid-record": "Store plain objects of JSON values; the message names the path.",
  "invalid-key":
    "Give every record a string key of 1 to 512 bytes, for example crypto.randomUUID().",
  "not-cloneable":
    "Remove functions, symbols, cycles and class instances; the message names the path.",
  unsynced:
    "Sync first, or keep a backup with exportUnsynced(); signOut({ discard: true }) gives the changes up.",
  "database-blocked": "Close or reload the app's other tabs.",
  "database-damaged":
    "What is damaged is set aside and the rest is whole; export what is unsynced and report it.",
  "storage-failed": "Try again; if it stays, reload the page.",
  "rescue-failed":
    "The database itself is not concerned; the copy is tried again by itself. Free some space on the device if it stays.",
  closed: "Call open() again; of a transaction, begin another one.",
  aborted: "The message says what was given up; do it again if you still want it.",
  offline: "Changes are kept and sent when the network returns.",
  "wasm-failed": "Check that the .wasm file is served, or pass its URL as the wasm option.",
};

const RETRYABLE = [
  "aborted",
  "offline",
  "wasm-failed",
  "database-blocked",
  "storage-failed",
  "rescue-failed",
];

/** An error that arises outside the core. */
export function fail(code, message, cause) {
  const retryable = RETRYABLE.includes(code);
  return new LandfallError(code, message, { hint: HINTS[code] ?? "", retryable, cause });
}
