// Turns what the app hands over into JSON text, so that a later change of its object changes nothing
// here, and refuses what JSON would drop or alter: it would be lost on the way to the server.

import { fail } from "./errors.js";

/** Half a surrogate pair has no bytes of its own: two texts would be one. */
export const isWellFormed = String.prototype.isWellFormed
  ? (text) => text.isWellFormed()
  : (text) => !/\p{Cs}/u.test(text);

/** Deeper values are refused; a cycle is found at this depth at the latest. */
const DEPTH_MAX = 64;

/** A record as JSON, or an error that names the path. */
export function recordText(record) {
  if (typeof record !== "object" || record === null || Array.isArray(record)) {
    throw fail("invalid-record", `a record is a plain object, not ${describe(record)}`);
  }
  checkObject(record, "", 0);
  for (const name in record) {
    // It would be another name in the core, and the field's value would be lost.
    if (!isWellFormed(name)) {
      throw fail("invalid-record", `${name}: a field's name has half a surrogate pair`);
    }
  }
  return JSON.stringify(record);
}

/** A deep copy of a record, or an error that names the path. */
export function copyRecord(record) {
  return JSON.parse(recordText(record));
}

function check(value, path, name, depth) {
  switch (typeof value) {
    case "string":
    case "boolean":
      return;
    case "number":
      if (Number.isFinite(value)) return;
      throw fail("invalid-record", `${join(path, name)}: ${value} cannot travel as JSON; use null`);
    case "object":
      if (value === null) return;
      if (depth >= DEPTH_MAX) {
        const at = join(path, name);
        throw fail("not-cloneable", `${at}: nested deeper than ${DEPTH_MAX}, or a cycle`);
      }
      if (Array.isArray(value)) checkArray(value, join(path, name), depth);
      else checkObject(value, join(path, name), depth);
      return;
    case "function":
    case "symbol":
      throw fail("not-cloneable", `${join(path, name)}: a ${typeof value} cannot be stored`);
    default:
      throw fail("invalid-record", `${join(path, name)}: ${describe(value)} cannot travel as JSON`);
  }
}

function join(path, name) {
  return typeof name === "number" ? `${path}[${name}]` : path === "" ? name : `${path}.${name}`;
}

function checkArray(list, path, depth) {
  for (let i = 0; i < list.length; i++) check(list[i], path, i, depth + 1);
}

function checkObject(object, path, depth) {
  const prototype = Object.getPrototypeOf(object);
  if (prototype !== Object.prototype && prototype !== null && !isForeignPlain(prototype)) {
    throw fail("not-cloneable", `${path || "the record"}: ${describe(object)} is not plain data`);
  }
  if (typeof object.toJSON === "function") {
    throw fail("not-cloneable", `${join(path, "toJSON")}: a function cannot be stored`);
  }
  for (const name in object) {
    const value = object[name];
    // JSON leaves a field without a value out, and so do we.
    if (typeof value !== "string" && value !== undefined && Object.hasOwn(object, name)) {
      check(value, path, name, depth + 1);
    }
  }
}

// A plain object of another window or frame.
function isForeignPlain(prototype) {
  return Object.getPrototypeOf(prototype) === null && Object.hasOwn(prototype, "hasOwnProperty");
}

function describe(value) {
  if (value === null || value === undefined) return String(value);
  if (typeof value === "bigint") return "a bigint";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return `a ${value.constructor?.name ?? "foreign object"}`;
  return `a ${typeof value}`;
}

/** A record with these fields of a patch; what the patch has no value for goes. */
export function patched(record, patch, names) {
  const copy = { ...record };
  for (const name of names) {
    if (!Object.hasOwn(patch, name) || patch[name] === undefined) delete copy[name];
    // A field called "__proto__" is data, not an order.
    else Object.defineProperty(copy, name, { ...FIELD, value: patch[name] });
  }
  return copy;
}

const FIELD = { configurable: true, enumerable: true, writable: true };

/** Whether two JSON values are the same; a field that is missing is not there on both sides. */
export function equal(a, b) {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  const keys = Object.keys(a);
  if (Array.isArray(a) !== Array.isArray(b) || keys.length !== Object.keys(b).length) return false;
  return keys.every((key) => Object.hasOwn(b, key) && equal(a[key], b[key]));
}

/** Freezes a value and all that is in it. */
export function deepFreeze(value) {
  // What is frozen was frozen here, and so is all that is in it.
  if (typeof value !== "object" || value === null || Object.isFrozen(value)) return value;
  Object.values(value).forEach(deepFreeze);
  return Object.freeze(value);
}

/**
 * A record as the app gets it. All who ask get the same object, so that a change of it would be seen by
 * all and never be stored: during development it is frozen, and the change throws at once.
 */
export const shown = isDevelopment() ? deepFreeze : (record) => record;

function isDevelopment() {
  try {
    // Bundlers put the value in; a page without one has no `process`.
    return process.env.NODE_ENV !== "production";
  } catch {
    return false;
  }
}
