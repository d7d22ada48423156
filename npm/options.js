// Checks the options of open() where a wrong type would only confuse later.

import { fail } from "./errors.js";
import { copyRecord } from "./record.js";

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
  "rescue",
  "version",
  "migrate",
  "wasm",
];
const COLLECTION = [
  "key",
  "indexes",
  "references",
  "conflict",
  "priority",
  "localOnly",
  "optimistic",
  "schema",
];

const STRATEGIES = ["last-write-wins", "server-wins", "client-wins", "merge", "manual"];

/** The most bytes that the name of an app or a user may have. */
const NAME_BYTES_MAX = 128;

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

function checkName(option, name, what) {
  need(typeof name === "string", `${option}: a string, ${what}`);
  const bytes = new TextEncoder().encode(name).length;
  need(bytes > 0 && bytes <= NAME_BYTES_MAX, `${option}: 1 to ${NAME_BYTES_MAX} bytes, please`);
  // Half a surrogate pair (Cs) has no bytes of its own: two names would be one.
  need(!/\p{Cs}/u.test(name), `${option}: well-formed Unicode`);
}

/** The name of the IndexedDB database; a colon in either part must not make two databases one. */
export function databaseName(name, user) {
  return `landfall:${name.replaceAll("%", "%25").replaceAll(":", "%3A")}:${user}`;
}

/**
 * `core`: what the core takes (no functions, indexes as lists of fields); `migrate`: what it calls for
 * each record of an older version; `schemas`: those of the collections; `handlers`: their functions for
 * conflicts.
 */
export function checkOptions(options) {
  need(isObject(options), "open: options is an object");
  known("", options, TOP);
  const { name, user, interval, durability, maxAttempts, autoStart, collections } = options;
  const { version, migrate, memory, persist, rescue } = options;
  checkName("name", name, "the app's name");
  checkName("user", user, "the id of the signed-in user");
  need(
    interval === undefined || typeof interval === "number",
    "interval: a number of milliseconds",
  );
  need(maxAttempts === undefined || typeof maxAttempts === "number", "maxAttempts: a number");
  need(autoStart === undefined || typeof autoStart === "boolean", "autoStart: true or false");
  need(memory === undefined || typeof memory === "number", "memory: a number of bytes");
  need(rescue === undefined || typeof rescue === "boolean", "rescue: true or false");
  need(persist === undefined || typeof persist === "boolean", "persist: true or false");
  need(
    durability === undefined || typeof durability === "string",
    'durability: "relaxed" or "strict"',
  );
  const subscribe = options.backend?.subscribe;
  need(
    subscribe === undefined || typeof subscribe === "function",
    "backend: subscribe is a function",
  );
  need(isObject(collections), 'collections: an object like { sites: { key: "id" } }');
  need(
    version === undefined || (Number.isInteger(version) && version >= 1),
    "version: a whole number from 1",
  );
  const core = { interval, durability, maxAttempts, autoStart, memory, version };
  core.database = databaseName(name, user);
  core.collections = {};
  const schemas = new Map();
  const handlers = new Map();
  for (const [collection, spec] of Object.entries(collections)) {
    core.collections[collection] = checkCollection(`collections.${collection}`, spec);
    if (spec.schema !== undefined) schemas.set(collection, spec.schema);
    if (typeof spec.conflict === "function") handlers.set(collection, spec.conflict);
  }
  return { name, user, core, migrate: checkMigrate(migrate, collections), schemas, handlers };
}

function checkMigrate(migrate, collections) {
  if (migrate === undefined) return undefined;
  need(isObject(migrate), "migrate: an object like { sites: (record, from) => record }");
  known("migrate.", migrate, Object.keys(collections));
  for (const [name, step] of Object.entries(migrate)) {
    need(typeof step === "function", `migrate.${name}: a function (record, from) => record`);
  }
  const steps = { ...migrate };
  // The app gets a copy: what it changes in place must not change what is stored.
  return (name, record, from) =>
    Object.hasOwn(steps, name) ? copyRecord(steps[name](copyRecord(record), from)) : record;
}

function checkCollection(path, spec) {
  need(isObject(spec), `${path}: an object like { key: "id" }`);
  known(`${path}.`, spec, COLLECTION);
  const { key, indexes = [], references = {}, conflict, priority } = spec;
  const { localOnly, optimistic, schema } = spec;
  need(typeof key === "string", `${path}.key: a string, the name of the key field`);
  need(Array.isArray(indexes), `${path}.indexes: a list of field names`);
  need(isObject(references), `${path}.references: an object like { siteId: "sites" }`);
  need(
    conflict === undefined || typeof conflict === "function" || STRATEGIES.includes(conflict),
    `${path}.conflict: ${STRATEGIES.map((s) => `"${s}"`).join(", ")}, or a function ({ base, local, remote }) => record`,
  );
  need(priority === undefined || typeof priority === "number", `${path}.priority: a number`);
  for (const [option, value] of Object.entries({ localOnly, optimistic })) {
    need(value === undefined || typeof value === "boolean", `${path}.${option}: true or false`);
  }
  need(
    schema === undefined || typeof schema?.["~standard"]?.validate === "function",
    `${path}.schema: a Standard Schema (Zod, Valibot, ArkType …)`,
  );
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
    conflict: typeof conflict === "function" ? "function" : conflict,
    priority,
    localOnly: localOnly ?? false,
    optimistic,
  };
}
