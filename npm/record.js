// Copies what the app hands over, so that a later change of its object changes nothing here, and
// refuses what could not travel as JSON: it would be lost on the way to the server.

import { fail } from "./errors.js";

/** Deeper values are refused; a cycle is found at this depth at the latest. */
const DEPTH_MAX = 64;

/** A deep copy of a record, or an error that names the path. */
export function copyRecord(record) {
  if (typeof record !== "object" || record === null || Array.isArray(record)) {
    throw fail("invalid-record", `a record is a plain object, not ${describe(record)}`);
  }
  return copyObject(record, "", 0);
}

function copy(value, path, depth) {
  switch (typeof value) {
    case "string":
    case "boolean":
      return value;
    case "number":
      if (Number.isFinite(value)) return value;
      throw fail("invalid-record", `${path}: ${value} cannot travel as JSON; use null`);
    case "object":
      if (value === null) return null;
      if (depth >= DEPTH_MAX) {
        throw fail("not-cloneable", `${path}: nested deeper than ${DEPTH_MAX}, or a cycle`);
      }
      return Array.isArray(value) ? copyArray(value, path, depth) : copyObject(value, path, depth);
    case "function":
    case "symbol":
      throw fail("not-cloneable", `${path}: a ${typeof value} cannot be stored`);
    default:
      throw fail("invalid-record", `${path}: ${describe(value)} cannot travel as JSON`);
  }
}

function copyArray(list, path, depth) {
  const out = new Array(list.length);
  for (let i = 0; i < list.length; i++) out[i] = copy(list[i], `${path}[${i}]`, depth + 1);
  return out;
}

function copyObject(object, path, depth) {
  const prototype = Object.getPrototypeOf(object);
  if (prototype !== Object.prototype && prototype !== null && !isForeignPlain(prototype)) {
    throw fail("not-cloneable", `${path || "the record"}: ${describe(object)} is not plain data`);
  }
  const out = {};
  for (const name of Object.keys(object)) {
    const value = object[name];
    if (value === undefined) continue;
    const at = path === "" ? name : `${path}.${name}`;
    const copied = typeof value === "string" ? value : copy(value, at, depth + 1);
    if (name === "__proto__") {
      Object.defineProperty(out, name, {
        value: copied,
        enumerable: true,
        configurable: true,
        writable: true,
      });
    } else {
      out[name] = copied;
    }
  }
  return out;
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

/** Whether two JSON values are the same; a field that is missing is not there on both sides. */
export function equal(a, b) {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  const keys = Object.keys(a);
  if (Array.isArray(a) !== Array.isArray(b) || keys.length !== Object.keys(b).length) return false;
  return keys.every((key) => Object.hasOwn(b, key) && equal(a[key], b[key]));
}
