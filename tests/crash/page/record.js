// The records that are written while the browser is killed. Each tells by itself whether it is
// whole: `a` and `b` agree, and `sum` is the checksum of the rest. Used by pages and driver alike.

export function checksum({ id, n, a, b, text }) {
  let hash = 0x811c9dc5;
  for (const char of `${id}|${n}|${a}|${b}|${text}`) {
    hash = Math.imul(hash ^ char.charCodeAt(0), 0x01000193) >>> 0;
  }
  return hash;
}

/** The record `id` as the write number `n` leaves it. */
export function makeRecord(id, n, text) {
  const twin = (n * 7919) % 65_521;
  const record = { id, n, a: twin, b: twin, text };
  return { ...record, sum: checksum(record) };
}

/** Only the fields that an update changes: all but the text. */
export function makePatch(before, n) {
  const { a, b, sum } = makeRecord(before.id, n, before.text);
  return { n, a, b, sum };
}

export function isWhole(record) {
  return record.a === record.b && record.sum === checksum(record);
}

/** Whether two records are the same but for `schema`, which migrations write. */
export function isSame(one, other) {
  const { schema: _, ...a } = one;
  const { schema: __, ...b } = other;
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => a[name] === b[name]);
}
