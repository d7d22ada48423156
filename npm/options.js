// Checks the options of open() where a wrong type would only confuse later.

import { fail } from "./errors.js";

const TOP = [
  "name",
  "user",
  "backend",
  "collections",
  "interval",
  "durability",
  "maxAttempts",
  "autoStart",
  "memory",
  "persist",
  "wasm",
];
const COLLECTION = ["key", "indexes", "references", "conflict", "priority"];

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

function known(path, object, names) {
  for (const name of Object.keys(object)) {
    if (!names.includes(name)) {
      throw fail(
        "invalid-options",
        `${path}${name}: there is no such option (known: ${names.join(", ")})`,
      );
    }
  }
}

function need(ok, message) {
  if (!ok) throw fail("invalid-options", message);
}

/** What the core takes: no functions, no `undefined`, indexes as lists of fields. */
export function checkOptions(options) {
  need(isObject(options), "open: options is an object");
  known("", options, TOP);
  const { name, user, interval, durability, maxAttempts, autoStart, memory, persist, collections } =
    options;
  need(typeof name === "string", "name: a string, the app's name");
  need(typeof user === "string", "user: a string, the id of the signed-in user");
  need(
    interval === undefined || typeof interval === "number",
    "interval: a number of milliseconds",
  );
  need(maxAttempts === undefined || typeof maxAttempts === "number", "maxAttempts: a number");
  need(autoStart === undefined || typeof autoStart === "boolean", "autoStart: true or false");
  need(memory === undefined || typeof memory === "number", "memory: a number of bytes");
  need(persist === undefined || typeof persist === "boolean", "persist: true or false");
  need(
    durability === undefined || typeof durability === "string",
    'durability: "relaxed" or "strict"',
  );
  need(isObject(collections), 'collections: an object like { sites: { key: "id" } }');
  const out = { name, user, interval, durability, maxAttempts, autoStart, memory, persist };
  out.collections = {};
  for (const [collection, spec] of Object.entries(collections)) {
    out.collections[collection] = checkCollection(`collections.${collection}`, spec);
  }
  return out;
}

function checkCollection(path, spec) {
  need(isObject(spec), `${path}: an object like { key: "id" }`);
  known(`${path}.`, spec, COLLECTION);
  const { key, indexes = [], references = {}, conflict, priority } = spec;
  need(typeof key === "string", `${path}.key: a string, the name of the key field`);
  need(Array.isArray(indexes), `${path}.indexes: a list of field names`);
  need(isObject(references), `${path}.references: an object like { siteId: "sites" }`);
  need(
    conflict === undefined || typeof conflict === "string",
    `${path}.conflict: a strategy's name`,
  );
  need(priority === undefined || typeof priority === "number", `${path}.priority: a number`);
  const fields = indexes.map((index) => (typeof index === "string" ? [index] : index));
  for (const index of fields) {
    const fine =
      Array.isArray(index) && index.length > 0 && index.every((f) => typeof f === "string");
    need(fine, `${path}.indexes: field names, or lists of them`);
  }
  for (const [field, parent] of Object.entries(references)) {
    need(typeof parent === "string", `${path}.references.${field}: the name of a collection`);
  }
  return {
    key,
    indexes: fields.map((f) => [...f]),
    references: { ...references },
    conflict,
    priority,
  };
}
