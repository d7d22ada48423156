// Small things that cost less in JavaScript than through the boundary one step at a time.
//
// What is thrown here would go through the core while it holds its state, and leave it locked for ever. So what
// reads stored or foreign data does not throw: a record that is damaged is `null`, and has no fields.

export function names(record) {
  return Object.keys(record ?? {});
}

export function patched(record, patch, names) {
  const copy = { ...record };
  for (const name of names) {
    const value = own(patch, name);
    if (value === undefined) delete copy[name];
    else define(copy, name, value);
  }
  return copy;
}

export function picked(record, names) {
  const copy = {};
  for (const name of names) {
    const value = own(record, name);
    if (value !== undefined) define(copy, name, value);
  }
  return copy;
}

export function withText(record, field, text) {
  const copy = { ...record };
  define(copy, field, text);
  return copy;
}

/** A field of its own: every object has a "constructor" of another's, and what is damaged has none. */
function own(object, name) {
  return object && Object.hasOwn(object, name) ? object[name] : undefined;
}

// A field called "__proto__" is data, not an order.
function define(target, name, value) {
  if (name === "__proto__") {
    Object.defineProperty(target, name, {
      value,
      enumerable: true,
      writable: true,
      configurable: true,
    });
  } else {
    target[name] = value;
  }
}

export function same(a, b, field) {
  return equal(own(a, field), own(b, field));
}

function equal(a, b) {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  const keys = Object.keys(a);
  if (Array.isArray(a) !== Array.isArray(b) || keys.length !== Object.keys(b).length) return false;
  return keys.every((key) => Object.hasOwn(b, key) && equal(a[key], b[key]));
}

// --- rows: records as JSON texts, parsed when somebody looks at one ---

export function rowsOfTexts(texts) {
  return { texts, objects: new Array(texts.length) };
}

/** Rows as the store has them: one text, JSON but for the brackets around it. None: it is damaged. */
export function rowsOfJoined(joined) {
  const texts = joined.split(SEPARATOR);
  for (let at = 0; at < texts.length; at++) {
    if (texts[at] === "null") texts[at] = null;
    else if (!isBraced(texts[at])) return undefined;
  }
  return { texts, objects: new Array(texts.length), joined };
}

export function rowsOfObjects(objects) {
  return { texts: new Array(objects.length), objects };
}

/** `null` where its text is damaged. */
export function rowObject(rows, at) {
  return (rows.objects[at] ??= parsed(rows.texts[at]));
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

export function rowJson(rows, at) {
  return (rows.texts[at] ??= JSON.stringify(rows.objects[at]));
}

// Bytes in a request: characters outside of ASCII take up to three. Of a short text it does not matter how many.
export function rowWeight(rows, at) {
  const text = rowJson(rows, at);
  if (text.length < SHORT) return 3 * text.length;
  let bytes = text.length;
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 127) bytes += 2;
  return bytes;
}

/** As many as a request has of them are far from what it may weigh. */
const SHORT = 1_000;

/** Lets the objects go, where each can be made again from its text. */
export function dropObjects(rows) {
  const { texts } = rows;
  if (!texts.includes(undefined)) rows.objects = new Array(texts.length);
}

// Bytes in memory, about: the text, and twice as many for the object once it was looked at.
export function rowsBytes(rows) {
  let bytes = 0;
  if (rows.joined !== undefined) return 64 * rows.texts.length + 3 * rows.joined.length;
  for (let at = 0; at < rows.texts.length; at++) {
    // `null` where a deleted record is.
    bytes += 64 + (rows.texts[at] === null ? 0 : 3 * rowJson(rows, at).length);
  }
  return bytes;
}

/** Between two rows. No text of a row has a line break: JSON writes one as two other characters. */
const SEPARATOR = ",\n";

/** Rows (`null` for none) as the store keeps them. */
export function joinedRows(texts) {
  const joined = (texts.includes(null) ? texts.map(String) : texts).join(SEPARATOR);
  let lines = 1;
  for (let at = joined.indexOf("\n"); at >= 0; at = joined.indexOf("\n", at + 1)) lines++;
  if (lines === texts.length) return joined;
  // Of a backup that somebody has laid out, for one.
  return texts.map(inOneLine).join(SEPARATOR);
}

function inOneLine(text) {
  const record = parsed(text);
  // Damaged, or none.
  return record === null ? String(text).replaceAll("\n", " ") : JSON.stringify(record);
}

const isBraced = (text) => text.startsWith("{") && text.endsWith("}");

/** Whether a list has nothing but texts of objects, and `null` for none. */
export function isRows(list) {
  return list.every((text) => text === null || (typeof text === "string" && isBraced(text)));
}

/** Whether a text is an object in JSON. */
export function isRecord(text) {
  return isObject(parsed(text));
}

/** A part of them as texts, for the store. */
export function rowsTexts(rows, from, to) {
  if (from === 0 && to === rows.texts.length && !rows.texts.includes(undefined)) return rows.texts;
  const out = new Array(to - from);
  for (let at = from; at < to; at++) out[at - from] = rowJson(rows, at);
  return out;
}

/** Appends a part of them as objects. Many are parsed at once: that is twice as fast. */
export function pushObjects(out, rows, from, to) {
  const { texts, objects, joined } = rows;
  if (to - from > 16 && objects[from] === undefined && objects[to - 1] === undefined) {
    const isAll = joined !== undefined && to - from === texts.length;
    const all = parsed(`[${isAll ? joined : texts.slice(from, to).join(",")}]`);
    if (all?.length === to - from) {
      for (let at = from; at < to; at++) out.push((objects[at] ??= all[at - from]));
      return;
    }
    // One of them is damaged.
  }
  for (let at = from; at < to; at++) out.push(rowObject(rows, at));
}

// Keys of many records in one string; a key cannot contain the separator.
export function joinedKeys(records, field) {
  let joined = "";
  for (const record of records) joined += record[field] + "\0";
  return joined;
}

// --- what travels ---

/** A text in which each part ends with a U+0000, as a list. */
export function splitTexts(joined) {
  return joined.split("\0");
}

/** Appends a change as JSON (docs/PROTOCOL.md); `heads` has id, key and clock of each. */
export function changeJson(list, heads, type, action, versionNumber, rows, row, names, group) {
  const first = list.length * 3;
  const [id, offlineId, at] = [heads[first], heads[first + 1], heads[first + 2]];
  const head = { id, type, action, offlineId, versionNumber, at };
  if (versionNumber > 0) head.serverId = offlineId;
  if (names !== undefined) head.changed = names;
  if (group !== undefined) head.group = group;
  let text = JSON.stringify(head);
  if (rows !== undefined) text = `${text.slice(0, -1)},"data":${rowJson(rows, row)}}`;
  list.push(text);
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isText = (value) => typeof value === "string" && !value.includes("\0");
// Half a surrogate pair has no bytes of its own: two keys would be one.
const isWellFormed = String.prototype.isWellFormed
  ? (text) => text.isWellFormed()
  : (text) => !/\p{Cs}/u.test(text);
const isKey = (value) => isText(value) && isWellFormed(value);
const isVersion = (value, least) => Number.isSafeInteger(value) && value >= least;

/** What `split` finds, or what it fails with as a text: an answer of the app's own may throw when it is read. */
function readable(what, split) {
  try {
    return split();
  } catch (error) {
    return `${what} cannot be read: ${error?.message ?? error}`;
  }
}

/** A record as JSON. What JSON makes something else of is none. */
function textOf(data) {
  const text = JSON.stringify(data);
  if (text?.[0] !== "{") throw new TypeError("data is no plain object");
  return text;
}

/** The parts of a pulled page as lists, or what is wrong with it. */
export function splitPage(answer, changesMax, keyFields) {
  return readable("the page", () => pageParts(answer, changesMax, keyFields));
}

function pageParts(answer, changesMax, keyFields) {
  if (!isObject(answer) || !Array.isArray(answer.changes))
    return "the answer has no list of changes";
  const { changes, checkpoint, hasMore, serverTime } = answer;
  if (changes.length > changesMax) return "the page has too many changes";
  if (typeof checkpoint !== "string") return "the answer has no checkpoint";
  // Mostly there is one.
  const types = new Map();
  const typeOf = new Uint32Array(changes.length);
  let ids = "";
  let ats = "";
  const versions = new Float64Array(changes.length);
  const texts = new Array(changes.length);
  for (let i = 0; i < changes.length; i++) {
    const it = changes[i];
    if (!isObject(it)) return "a change is no object";
    const { type, id, versionNumber, deleted = false, data, at } = it;
    if (!isText(type) || !isKey(id)) return "a change has no type or no id";
    if (!isVersion(versionNumber, 1)) return "a change has no positive versionNumber";
    if (typeof deleted !== "boolean") return "a change: deleted is true or false";
    if (at !== undefined && at !== null && !isText(at)) return "a change: at is a string";
    if (deleted) texts[i] = null;
    else if (!isObject(data)) return "a change has neither data nor deleted";
    else if (Object.hasOwn(keyFields, type) && data[keyFields[type]] !== id)
      return `pulled ${type}: id and key field differ`;
    else texts[i] = textOf(data);
    if (!types.has(type)) types.set(type, types.size);
    typeOf[i] = types.get(type);
    ids += id + "\0";
    ats += (at ?? "") + "\0";
    versions[i] = versionNumber;
  }
  const lists = { types: [...types.keys()], typeOf, ids, ats, versions, texts };
  return { ...lists, checkpoint, hasMore: hasMore === true, serverTime };
}

/**
 * The parts of the answer to a push of `changes` (as texts) as lists, or what is wrong with it. `key`: what the
 * backend calls the record, where that is not what it was sent.
 */
export function splitResults(answer, changes, keyFields) {
  return readable("the answer", () => resultParts(answer, changes, keyFields));
}

function resultParts(answer, changes, keyFields) {
  const count = changes.length;
  if (!isObject(answer) || !Array.isArray(answer.results))
    return "the answer has no list of results";
  const { results, serverTime } = answer;
  if (results.length !== count) return `${results.length} results for ${count} changes`;
  let ids = "";
  const versions = new Float64Array(count);
  /** For each: what is more than "success" and a version. */
  const others = new Array(count);
  for (let i = 0; i < count; i++) {
    const it = results[i];
    if (!isObject(it)) return "a result is no object";
    const { id, status, versionNumber, data, deleted = false, at, message, code, serverId } = it;
    if (!isText(id)) return "a result has no id";
    ids += id + "\0";
    if (data !== undefined && data !== null && !isObject(data))
      return "a result: data is no object";
    for (const text of [at, message, code])
      if (text !== undefined && text !== null && typeof text !== "string")
        return "a result: at, message and code are strings";
    if (status !== "failed" && !isVersion(versionNumber, 0))
      return "a result has no whole versionNumber";
    versions[i] = versionNumber ?? 0;
    if (serverId !== undefined && serverId !== null && !isKey(serverId))
      return "a result: serverId is a string";
    const key = serverId !== it.offlineId ? (serverId ?? undefined) : undefined;
    const text = isObject(data) ? textOf(data) : null;
    if (text !== null && status !== "failed") {
      const { type, offlineId } = JSON.parse(changes[i]);
      if (Object.hasOwn(keyFields, type) && data[keyFields[type]] !== (key ?? offlineId))
        return `a result for ${type}: its data has another key than the record`;
    }
    if (status === "success") {
      if (text !== null || key !== undefined) others[i] = { status, text, key };
    } else if (status === "conflict") {
      if (text === null && deleted !== true) return "a conflict has neither data nor deleted";
      others[i] = { status, text, at, key };
    } else if (status === "failed") {
      others[i] = { status, message, code, retryable: it.retryable === true };
    } else {
      return `a result has the unknown status ${JSON.stringify(status)}`;
    }
  }
  return { ids, versions, others, serverTime };
}

export function callPush(backend, changes, controller, clientId, refresh) {
  const context = { signal: controller.signal, clientId, refresh };
  // A backend that sends JSON takes it as it is.
  return Promise.resolve(
    typeof backend.push.texts === "function"
      ? backend.push.texts(changes, context)
      : backend.push(changes.map(parsedChange), context),
  );
}

/** Of one that is damaged a backend would say the same: the batch is halved until that one is parked. */
function parsedChange(text) {
  const change = parsed(text);
  if (change !== null) return change;
  const fault = { status: 400, code: "database-damaged" };
  throw Object.assign(new Error("the stored record is damaged"), fault);
}

/** How long a page that was asked for ahead is kept for whoever wants it. */
const AHEAD_MS = 1_000;
/** For each backend, the page after the one that it gave last. */
const pages = new WeakMap();

/** A page that nobody has asked for yet; it is given up if nobody does soon. */
class PageAhead {
  constructor(asked, pull) {
    this.asked = asked;
    this.controller = new AbortController();
    this.answer = pull(this.controller.signal);
    this.answer.catch(() => {});
    this.timer = setTimeout(() => this.controller.abort(), AHEAD_MS);
  }

  /** Its answer, if it is what is asked for now. */
  take(asked, signal) {
    clearTimeout(this.timer);
    const { controller } = this;
    if (controller.signal.aborted || this.asked !== asked) return controller.abort();
    signal.addEventListener("abort", () => controller.abort(signal.reason));
    return this.answer;
  }
}

/**
 * A page. Where there is more, the next one is asked for at once, before anybody has looked at this one: most
 * of the time that many pages take is spent waiting for them.
 */
export async function callPull(backend, checkpoint, limit, controller, clientId, refresh) {
  const { signal } = controller;
  const since = checkpoint ?? null;
  const ask = (since) => JSON.stringify([since, limit, clientId]);
  const pull = async (since, signal) => backend.pull(since, limit, { signal, clientId, refresh });
  // What is asked with fresh credentials is asked anew.
  const ahead = pages.get(backend)?.take(refresh ? null : ask(since), signal);
  pages.delete(backend);
  const page = await (ahead ?? pull(since, signal));
  const more = page?.hasMore === true && typeof page.checkpoint === "string";
  if (more && page.checkpoint !== since && !refresh && !signal.aborted) {
    const next = page.checkpoint;
    pages.set(backend, new PageAhead(ask(next), (signal) => pull(next, signal)));
  }
  return page;
}

/** Resolves when what was begun before, and what follows from it at once, has had its turn. */
export function soon() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

// --- properties ---

/** A property; `undefined` where there is none, no object, or a getter that throws. */
export function getField(object, name) {
  try {
    return object?.[name];
  } catch {
    return undefined;
  }
}

const encoder = new TextEncoder();

/** A text as UTF-8, or `undefined`. For long ones: the boundary's own way goes by characters. */
export function utf8(text) {
  return typeof text === "string" ? encoder.encode(text) : undefined;
}

/** Sets a property of an object of our own. */
export function setField(object, name, value) {
  object[name] = value;
}

// --- IndexedDB: many small steps of one call ---

export function transaction(db, stores, mode, durability) {
  return db.transaction(stores, mode, { durability });
}

/**
 * Adds values at the keys after `after` in a transaction of their own; `answer` is called as by
 * `listen`. `early` commits without waiting for the requests.
 */
export function append(db, store, durability, after, values, early, token, answer) {
  const tx = db.transaction(store, "readwrite", { durability });
  listenToEnd(tx, token, answer);
  const log = tx.objectStore(store);
  try {
    values.forEach((value, at) => log.add(value, after + 1 + at));
  } catch (error) {
    tx.abort();
    throw error;
  }
  if (early) tx.commit();
  return tx;
}

export const STEP_MS = 1_000;
export const STEPS_MAX = 30;
/** What waits for an event: `db`, the steps that have passed, and how to give up. */
const waits = new Set();
const lost = new WeakSet();
let ticking = false;

/** What is under way on this connection, and has not answered soon, will not answer any more. */
export function markLost(db) {
  lost.add(db);
}

export function isLost(db) {
  return lost.has(db);
}

/** Calls `answer(token, ended, value)` once: 0 and the result, 1 and the error, 2 without an answer. */
export function listen(request, token, answer) {
  const db = request.transaction?.db;
  wait(request, "onsuccess", "onerror", db, () => request.result, token, answer);
}

/** The same for the end of a transaction. */
export function listenToEnd(tx, token, answer) {
  wait(tx, "oncomplete", "onabort", tx.db, () => null, token, answer);
}

function wait(target, good, bad, db, result, token, answer) {
  const end = (ended, value) => {
    if (!waits.delete(it)) return;
    target[good] = target[bad] = null;
    answer(token, ended, value);
  };
  const it = { db, steps: 0, giveUp: () => end(2, null) };
  waits.add(it);
  target[good] = () => end(0, result());
  target[bad] = () => end(1, target.error);
  tick();
}

// In steps while the page is awake: a device that slept for an hour does not wake up to transactions
// that have all timed out. The first step is a part of one, so one more is waited.
function tick() {
  if (ticking) return;
  ticking = true;
  setTimeout(() => {
    ticking = false;
    for (const it of [...waits]) {
      it.steps += 1;
      if (it.steps > (lost.has(it.db) ? 0 : STEPS_MAX)) it.giveUp();
    }
    if (waits.size > 0) tick();
  }, STEP_MS);
}
