// Checks what queries and lists are asked for: what is misspelt or no value would select everything, and
// what is found may be deleted next. The core checks what is left (numbers, the parts of lists).

import { fail } from "./errors.js";

const STATES = ["pending", "syncing", "conflict", "failed"];
const RANGE = ["from", "to"];
const QUERY = ["index", "equals", "range", "prefix", "order", "limit", "offset", "after"];

function need(ok, message) {
  if (!ok) throw fail("invalid-options", message);
}

function checkNames(what, object, names) {
  const isObject = typeof object === "object" && object !== null && !Array.isArray(object);
  need(isObject, `${what}: an object like { ${names[0]}: … }`);
  for (const name of Object.keys(object)) {
    need(
      names.includes(name),
      `${what}: there is no option "${name}" (known: ${names.join(", ")})`,
    );
  }
}

const fieldsOf = (given) => (Array.isArray(given) ? given.length : given === undefined ? 0 : 1);

/** What an object has under these names, with lists of its own. */
function copied(object, names) {
  const copy = {};
  for (const name of names) {
    const value = object[name];
    if (value !== undefined) copy[name] = Array.isArray(value) ? [...value] : value;
  }
  return copy;
}

/** A query of `find`, `count` and `subscribe`, as a copy: it may be asked later, and again. */
export function checkQuery(query) {
  if (query === undefined) return undefined;
  checkNames("query", query, QUERY);
  const { index, equals, range = {}, prefix, order, after } = query;
  checkNames("query: range", range, RANGE);
  const values = { equals, "range.from": range.from, "range.to": range.to };
  for (const [name, value] of Object.entries(values)) {
    if (value === undefined) continue;
    need(value !== null, `query: ${name} takes strings and numbers`);
    // Of no field: it would select everything.
    need(value.length !== 0 || value === "", `query: ${name} is an empty list`);
    const isKey = typeof (value.length === 1 ? value[0] : value) === "string";
    need(index !== undefined || isKey, `query: without an index ${name} is a key, a string`);
  }
  if (index !== undefined) {
    const after = [range.from, range.to, prefix].map(fieldsOf);
    const fields = fieldsOf(equals) + Math.max(...after);
    need(fields <= fieldsOf(index), `query: more values than the index has fields`);
  }
  need(prefix === undefined || typeof prefix === "string", "query: prefix is a string");
  need([undefined, "asc", "desc"].includes(order), 'query: order is "asc" or "desc"');
  need(after !== null, "query: after takes the last record of the page before");
  const copy = copied(query, QUERY);
  if (copy.range) copy.range = copied(range, RANGE);
  return copy;
}

/** What `outbox.list` and `conflicts.list` are asked for, as a copy: `names` of collection, limit and state. */
export function checkFilter(filter, names) {
  if (filter === undefined) return {};
  checkNames("list", filter, names);
  const { collection, limit, state } = filter;
  const isName = collection === undefined || typeof collection === "string";
  need(isName, "list: collection is a string");
  need(state === undefined || STATES.includes(state), `list: state is one of ${STATES.join(", ")}`);
  const isLimit = limit === undefined || limit === Infinity || Number.isInteger(limit);
  need(isLimit && !(limit < 0), "list: limit takes a whole number");
  return copied(filter, names);
}
