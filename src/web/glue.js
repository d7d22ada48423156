// Small things that cost less in JavaScript than through the boundary one step at a time.

export function names(record) {
  return Object.keys(record);
}

export function patched(record, patch, names) {
  const copy = { ...record };
  for (const name of names) {
    if (patch[name] === undefined) delete copy[name];
    else define(copy, name, patch[name]);
  }
  return copy;
}

export function picked(record, names) {
  const copy = {};
  for (const name of names) if (record[name] !== undefined) define(copy, name, record[name]);
  return copy;
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
  return equal(a[field], b[field]);
}

function equal(a, b) {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  const keys = Object.keys(a);
  if (Array.isArray(a) !== Array.isArray(b) || keys.length !== Object.keys(b).length) return false;
  return keys.every((key) => Object.hasOwn(b, key) && equal(a[key], b[key]));
}

// About as long as the record is in JSON; strings count three bytes a character at worst.
export function weight(value) {
  if (typeof value === "string") return value.length * 3 + 2;
  if (typeof value !== "object" || value === null) return 20;
  let sum = 2;
  for (const key in value) sum += key.length + 4 + weight(value[key]);
  return sum;
}

// Keys of many records in one string; a key cannot contain the separator.
export function joinedKeys(records, field) {
  let joined = "";
  for (const record of records) joined += record[field] + "\0";
  return joined;
}

export function change(list, id, type, action, offlineId, versionNumber, at, data, changed) {
  const it = { id, type, action, offlineId, versionNumber, at };
  if (versionNumber > 0) it.serverId = offlineId;
  if (data !== undefined) it.data = data;
  if (changed !== undefined) it.changed = changed;
  list.push(it);
}

export function callPush(backend, changes, controller, clientId, refresh) {
  return Promise.resolve(backend.push(changes, { signal: controller.signal, clientId, refresh }));
}

export function callPull(backend, checkpoint, limit, controller, clientId, refresh) {
  const context = { signal: controller.signal, clientId, refresh };
  return Promise.resolve(backend.pull(checkpoint ?? null, limit, context));
}

export function transaction(db, stores, mode, durability) {
  return db.transaction(stores, mode, { durability });
}
