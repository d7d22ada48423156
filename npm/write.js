// What writes have in common: their kinds, keys and options.

import { fail } from "./errors.js";
import { isWellFormed } from "./record.js";

// As in src/web/writes.rs.
export const CREATE = 0;
export const PUT = 1;
export const UPDATE = 2;
export const DELETE = 3;
export const PROMOTE = 4;

export function checkKey(key) {
  if (typeof key !== "string") throw fail("invalid-key", `a key is a string, not a ${typeof key}`);
  if (!isWellFormed(key)) {
    throw fail("invalid-key", "a key is well-formed Unicode; this one has half a surrogate pair");
  }
  return key;
}

/** A record's key. */
export function keyIn(record, field) {
  const key = record[field];
  if (typeof key !== "string") {
    throw fail("invalid-key", `the record has no string in its key field "${field}"`);
  }
  if (key.includes("\0")) {
    throw fail("invalid-key", "a key must not contain the character U+0000");
  }
  return checkKey(key);
}

export function list(items, what) {
  if (!Array.isArray(items)) throw fail("invalid-options", `${what} is a list`);
  return items;
}

export function needFunction(fn, what) {
  if (typeof fn !== "function") throw fail("invalid-options", `${what} is a function`);
}

/** `{ localOnly, optimistic }`, or nothing. */
export function checkWriteOptions(options) {
  if (options === undefined) return undefined;
  if (typeof options !== "object" || options === null || Array.isArray(options)) {
    throw fail("invalid-options", "write options: an object like { optimistic: false }");
  }
  for (const [name, value] of Object.entries(options)) {
    if (name !== "localOnly" && name !== "optimistic") {
      throw fail("invalid-options", `write options: there is no option "${name}"`);
    }
    if (value !== undefined && typeof value !== "boolean") {
      throw fail("invalid-options", `write options: ${name} is true or false`);
    }
  }
  const { localOnly, optimistic } = options;
  if (localOnly === true && optimistic === false) {
    throw fail(
      "invalid-options",
      "write options: a local-only record is never confirmed, so optimistic: false has no meaning",
    );
  }
  return { localOnly, optimistic };
}
