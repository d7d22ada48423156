// The rescue copy's records: one batch of changes to the outbox is one line of text.
//
// A line is a checksum and JSON, and every line begins with a newline: what is torn or damaged loses
// its own line and none after it. Replaying is order-free wherever two tabs could be out of order:
// what has left the outbox stays gone, even if its `put` comes later (the tab that syncs may be
// faster than the tab that wrote), so a log read together with its own summary means the same. Two
// things do begin anew: a line of another client, and a reset.

/** A summary has this many mutations a line at most, so that damage takes no more than these. */
const LINE_MUTATIONS_MAX = 256;
/** So many numbers are remembered that were gone before their `put` came. */
const EARLY_GONE_MAX = 512;

/** FNV-1a over UTF-16 units. It finds accidents; it is no signature. */
function checksum(text) {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return (hash >>> 0).toString(16).padStart(8, "0");
}

/** `{ client, next, stamp, put, gone, reset? }` as a line. */
export function encode(record) {
  const json = JSON.stringify(record);
  return `\n${checksum(json)} ${json}`;
}

/** What the lines amount to: `{ client, next, stamp, puts, early, damaged }`; `client` null: nothing. */
export function replay(text) {
  let kept = empty(null);
  let damaged = 0;
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const json = line.slice(9);
    if (line.slice(0, 9) !== `${checksum(json)} `) {
      damaged++;
      continue;
    }
    const { client, next, stamp, put, gone, reset } = JSON.parse(json);
    if (reset || client !== kept.client) kept = empty(client);
    kept.next = Math.max(kept.next, next);
    kept.stamp = Math.max(kept.stamp, stamp);
    for (const mutation of put) kept.puts.set(mutation.number, mutation);
    for (const number of gone) kept.gone.add(number);
  }
  kept.early = [...kept.gone].filter((number) => !kept.puts.delete(number));
  kept.damaged = damaged;
  return kept;
}

function empty(client) {
  return { client, next: 0, stamp: 0, puts: new Map(), gone: new Set() };
}

/** The shortest lines that replay to the same. */
export function summary({ client, next, stamp, puts, early }) {
  const mutations = [...puts.values()];
  let text = encode({ client, next, stamp, put: [], gone: early.slice(-EARLY_GONE_MAX) });
  for (let at = 0; at < mutations.length; at += LINE_MUTATIONS_MAX) {
    const put = mutations.slice(at, at + LINE_MUTATIONS_MAX);
    text += encode({ client, next, stamp, put, gone: [] });
  }
  return text;
}
