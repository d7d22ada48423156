// The rescue copy's text: a batch of changes to the outbox is a line, or a few where it is long.
//
// A line is a checksum and JSON, and every line begins with a newline: what is torn or damaged loses
// its own line and none after it. Replaying is order-free wherever two tabs could be out of order:
// what has left the outbox stays gone, even if its `put` comes later (the tab that syncs may be
// faster than the tab that wrote), and of two states of a mutation that of the tab which knew more of
// the database's log (`seq`) stays. So a log read together with its own summary means the same. Two
// things do begin anew: a line of another client, and a reset. A line of a client that another one has followed
// comes too late for that: what it has is `others`.
//
// A line may also have `others`, what is kept of databases before this one: `[]` forgets that, a list of
// `{ client, mutations }` adds to it, and `true` says that there is some. A batch that has such lists counts
// as a whole (`part: [which, of how many]`): torn, it would have forgotten what it was to say again.

/** So many mutations are in a line at most, so that damage takes no more than these. */
const LINE_MUTATIONS_MAX = 256;
/** So many numbers are remembered that were gone before their `put` came. */
const EARLY_GONE_MAX = 512;

/** FNV-1a over UTF-16 units. It finds accidents; it is no signature. */
function checksum(text) {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return (hash >>> 0).toString(16).padStart(8, "0");
}

function line(record) {
  const json = JSON.stringify(record);
  return `\n${checksum(json)} ${json}`;
}

/** What all mutations of a run have in common, besides what the run says. */
const PLAIN = {
  base: null,
  baseVersion: 0,
  remote: null,
  remoteVersion: 0,
  state: "pending",
  attempts: 0,
  lastAttemptAt: null,
  nextAttemptAt: null,
  error: null,
  behind: false,
};

/**
 * The mutations of a run, `{ first, count, collection, action, at, createdAt, sent, keys, rows }`: their
 * numbers come one after the other, and `keys` has a U+0000 after each key, which no key contains.
 */
function unpacked({ first, count, keys, rows, ...same }) {
  const names = keys.split("\0", count);
  return names.map((key, at) => ({ number: first + at, key, record: rows[at], ...PLAIN, ...same }));
}

/**
 * Has a mutation say of which version of the app's data it is, if it is known: `older` has the collections
 * that are of another one than the rest.
 */
export function setVersion(mutation, version, older) {
  if (mutation === null || typeof mutation !== "object") return;
  const own = older && Object.hasOwn(older, mutation.collection) && older[mutation.collection];
  if (version !== undefined) mutation.dataVersion ??= own || version;
}

/** Runs in lists of at most a line's mutations. */
function shared(runs) {
  const lists = [];
  let room = 0;
  for (const run of runs) {
    room -= run.count;
    if (room < 0) {
      lists.push([]);
      room = LINE_MUTATIONS_MAX - run.count;
    }
    lists.at(-1).push(run);
  }
  return lists;
}

/** What is kept of databases before this one, all of it. */
function otherRecords({ reset, ...head }, others) {
  const part = (list) => ({ ...head, put: [], gone: [], others: list });
  const parts = others.flatMap(({ mutations, ...same }) => {
    const list = [];
    for (let at = 0; at < mutations.length; at += LINE_MUTATIONS_MAX) {
      list.push(part([{ ...same, mutations: mutations.slice(at, at + LINE_MUTATIONS_MAX) }]));
    }
    return list;
  });
  return [{ ...part([]), reset }, ...parts];
}

/**
 * A batch as lines. `head` is `{ client, next, stamp, seq, version, older?, reset?, others? }`; a long
 * batch ends in a short line. `runs` are mutations as well, see `unpacked`, none longer than a line. `seqs`: where each mutation of `put`
 * has a `seq` of its own. `alive`, `[below, first, last, first, last, …]`: of what is kept so far with a
 * number below the first, only what is in one of these stretches, in order, has not gone. `others` is all
 * that is kept of databases before this one; left out, it stays as it is.
 */
export function encode(head, put, gone, { others, ...more } = {}) {
  if (others === undefined) return records(head, put, gone, more).map(line).join("");
  const { reset, ...same } = head;
  const marked = { ...same, others: others.length > 0 ? true : undefined };
  const all = [...otherRecords(head, others), ...records(marked, put, gone, more)];
  return all.map((record, at) => line({ ...record, part: [at, all.length] })).join("");
}

function records(head, put, gone, { runs = [], seqs, alive }) {
  if (alive !== undefined) {
    return [{ ...head, put: [], gone: [], alive }, ...records(head, put, gone, { runs, seqs })];
  }
  const count = runs.reduce((sum, run) => sum + run.count, put.length);
  if (count <= LINE_MUTATIONS_MAX) {
    return [{ ...head, put, runs: runs.length > 0 ? runs : undefined, gone, seqs }];
  }
  const all = shared(runs).map((list) => ({ ...head, put: [], runs: list, gone: [] }));
  for (let at = 0; at < put.length; at += LINE_MUTATIONS_MAX) {
    const part = (list) => list?.slice(at, at + LINE_MUTATIONS_MAX);
    all.push({ ...head, put: part(put), gone: [], seqs: part(seqs) });
  }
  return [...all, { ...head, put: [], gone }];
}

/** The newest line of a text. */
export function lastLine(text) {
  return text.slice(Math.max(0, text.lastIndexOf("\n")));
}

/**
 * What the lines amount to: `{ client, next, stamp, puts, seqs, early, others, more, damaged }`; `client`
 * null: nothing; `more`: the last line says that there are others.
 */
export function replay(text) {
  const kept = { now: empty(null), before: new Set() };
  let damaged = 0;
  /** Lines of a batch of which more are to come, and how many. */
  let [held, more] = [[], 0];
  const end = () => {
    for (const record of held) apply(kept, record);
    held = [];
  };
  for (const entry of text.split("\n")) {
    if (entry === "") continue;
    const json = entry.slice(9);
    if (entry.slice(0, 9) !== `${checksum(json)} `) {
      damaged++;
      if (held.length > 0 && --more === 0) end();
      continue;
    }
    const record = JSON.parse(json);
    const [at, count] = record.part ?? [0, 1];
    // The batch before was torn.
    if (at === 0) held = [];
    held.push(record);
    more = count - 1 - at;
    if (more === 0) end();
  }
  const { now } = kept;
  now.early = [...now.gone].filter((number) => !now.puts.delete(number));
  now.damaged = damaged;
  return now;
}

/** What a line changes. */
function apply(all, record) {
  const { client, next, stamp, put, runs = [], gone, reset, seq = 0, seqs, alive } = record;
  const { others, version, older } = record;
  if (all.before.has(client)) {
    // Of a page that has only lost its database, and hands over what it still knows.
    const mutations = [...put, ...runs.flatMap(unpacked)];
    for (const mutation of mutations) setVersion(mutation, version, older);
    if (mutations.length > 0) addOthers(all.now, [{ client, mutations }]);
    all.now.more = true;
    return;
  }
  if (client !== all.now.client) all.before.add(all.now.client);
  if (reset || client !== all.now.client) all.now = empty(client);
  const kept = all.now;
  if (Array.isArray(others)) addOthers(kept, others);
  kept.more = others !== undefined;
  kept.next = Math.max(kept.next, next);
  kept.stamp = stamp;
  if (alive) for (const number of dead(kept.puts, alive)) kept.puts.delete(number);
  const keep = (mutation, known) => {
    const { number } = mutation;
    if (known < (kept.seqs.get(number) ?? 0)) return;
    setVersion(mutation, version, older);
    kept.puts.set(number, mutation);
    kept.seqs.set(number, known);
  };
  put.forEach((mutation, at) => keep(mutation, seqs?.[at] ?? seq));
  for (const run of runs) for (const mutation of unpacked(run)) keep(mutation, seq);
  for (const number of gone) kept.gone.add(number);
}

function addOthers(kept, others) {
  if (others.length === 0) kept.others = [];
  for (const { mutations, ...same } of others) {
    const last = kept.others.at(-1);
    if (last?.client === same.client) last.mutations.push(...mutations);
    else kept.others.push({ ...same, mutations });
  }
}

/** The numbers of those that have gone, by what is alive. */
function dead(puts, [below, ...ends]) {
  const numbers = [...puts.keys()].filter((number) => number < below).sort((a, b) => a - b);
  let at = 0;
  return numbers.filter((number) => {
    while (ends[at + 1] < number) at += 2;
    return !(ends[at] <= number);
  });
}

function empty(client) {
  const maps = { puts: new Map(), seqs: new Map(), gone: new Set() };
  return { client, next: 0, stamp: [0, 0], ...maps, others: [], more: false };
}

/** The shortest lines that replay to the same. */
export function summary({ client, next, stamp, puts, seqs, early, others }) {
  const numbers = [...puts.keys()];
  const known = numbers.map((number) => seqs.get(number));
  const gone = early.slice(-EARLY_GONE_MAX);
  const also = { seqs: known, others: others.length > 0 ? others : undefined };
  return encode({ client, next, stamp }, [...puts.values()], gone, also);
}
