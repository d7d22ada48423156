// The rescue copy's text: what it replays to, whole or damaged, in any order that tabs can cause.
import assert from "node:assert/strict";
import test from "node:test";
import { encode, lastLine, replay, summary } from "../../npm/rescue-log.js";

const head = { client: "a", next: 9, stamp: [5, 0] };
const puts = (...numbers) => numbers.map((number) => ({ number, text: `ü\n${number}` }));
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);
const kept = (text) => [...replay(text).puts.keys()].sort((a, b) => a - b);

test("puts, replaced puts and what is gone, in whatever order it is told", () => {
  const text =
    encode(head, puts(1, 2, 3), [7]) +
    encode({ ...head, next: 4, stamp: [3, 0] }, [{ number: 2, text: "new" }], [1]) +
    encode(head, puts(7, 8), []);
  const { client, next, stamp, puts: found, early, damaged } = replay(text);
  assert.deepEqual([client, next, stamp, early, damaged], ["a", 9, [5, 0], [], 0]);
  assert.deepEqual(kept(text), [2, 3, 8]);
  assert.equal(found.get(2).text, "new");
  assert.equal(replay("").client, null);
});

test("of two states of a mutation the newer one stays, in whatever order they are told", () => {
  const state = (seq, text) => encode({ ...head, seq }, [{ number: 2, text }], []);
  const text = state(6, "new") + state(5, "old");
  assert.equal(replay(text).puts.get(2).text, "new");
  const summed = summary(replay(text)) + state(5, "old");
  assert.equal(replay(summed).puts.get(2).text, "new");
  assert.equal(replay(summed + state(6, "newer")).puts.get(2).text, "newer");
  const long = range(1, 600).map((seq) => encode({ ...head, seq }, puts(seq), []));
  const again = replay(summary(replay(long.join(""))));
  assert.deepEqual([again.seqs.get(1), again.seqs.get(300), again.seqs.get(600)], [1, 300, 600]);
});

test("another client and a reset begin anew", () => {
  const old = encode({ ...head, next: 90, stamp: [50, 0] }, puts(1, 2), [3]);
  const other = replay(old + encode({ client: "b", next: 2, stamp: [6, 0] }, puts(3), []));
  assert.deepEqual(
    [other.client, other.next, other.stamp, [...other.puts.keys()]],
    ["b", 2, [6, 0], [3]],
  );
  const reset = replay(old + encode({ ...head, next: 0, reset: true }, [], []));
  assert.deepEqual([reset.client, reset.next, reset.puts.size], ["a", 0, 0]);
});

test("a long batch is several lines, the last one short; damage costs one of them", () => {
  const text = encode(head, puts(...range(1, 1_000)), []);
  assert.deepEqual(kept(text), range(1, 1_000));
  assert.ok(text.length - text.lastIndexOf("\n") < 100);
  const at = text.length / 2;
  const spoilt = text.slice(0, at) + "#" + text.slice(at + 1);
  const { puts: found, damaged } = replay(spoilt);
  assert.equal(damaged, 1);
  assert.equal(found.size, 1_000 - 256);
  // Cut anywhere, it is the lines before the cut.
  for (const end of [1, 9, 10, 5_000, text.length - 1]) {
    assert.equal(replay(text.slice(0, end)).puts.size % 256, end === text.length - 1 ? 232 : 0);
  }
});

const run = (first, count, more) => ({
  first,
  count,
  collection: "sites",
  action: "create",
  at: [5, 1],
  createdAt: 5,
  sent: false,
  keys: range(first, first + count - 1)
    .map((number) => `k${number}\0`)
    .join(""),
  rows: range(first, first + count - 1).map((number) => `{"id":"k${number}"}`),
  ...more,
});

test("a run is its mutations, each whole", () => {
  const text = encode({ ...head, seq: 4 }, puts(9), [2], { runs: [run(1, 3)] });
  assert.deepEqual(kept(text), [1, 3, 9]);
  assert.deepEqual(replay(text).puts.get(3), {
    number: 3,
    collection: "sites",
    key: "k3",
    action: "create",
    record: '{"id":"k3"}',
    base: null,
    baseVersion: 0,
    remote: null,
    remoteVersion: 0,
    at: [5, 1],
    createdAt: 5,
    sent: false,
    state: "pending",
    attempts: 0,
    lastAttemptAt: null,
    nextAttemptAt: null,
    error: null,
    behind: false,
  });
  // Of two states the newer one stays here, too, and a summary has it.
  const newer = encode({ ...head, seq: 5 }, [{ number: 3, text: "new" }], []);
  for (const both of [text + newer, newer + text]) {
    assert.equal(replay(both).puts.get(3).text, "new");
    assert.deepEqual(replay(summary(replay(both))).puts, replay(both).puts);
  }
});

test("long runs are several lines: damage costs one of them", () => {
  const runs = [run(1, 256), run(257, 100), run(357, 156), run(513, 200), run(713, 100)];
  const text = encode(head, puts(1_000), [], { runs });
  assert.deepEqual(kept(text), [...range(1, 812), 1_000]);
  const lines = text.split("\n");
  assert.deepEqual(
    lines.slice(1).map((line) => replay(`\n${line}`).puts.size),
    [256, 256, 200, 100, 1, 0],
  );
});

test("a summary means the same, alone and with what it sums up", () => {
  let seed = 7;
  const random = (n) => (seed = (seed * 48_271) % 2_147_483_647) % n;
  for (let round = 0; round < 50; round += 1) {
    const ended = new Set();
    /** Those whose `put` is told after their end. */
    const late = new Set();
    const lines = range(1, 30).map(() => {
      const put = random(2) ? range(0, random(8)).map(() => 1 + random(60)) : [];
      for (const number of put) if (ended.has(number)) late.add(number);
      const gone = random(2) ? [1 + random(60)] : [];
      for (const number of gone) ended.add(number);
      return encode(head, puts(...put), gone);
    });
    const text = lines.join("");
    const short = summary(replay(text));
    assert.deepEqual(kept(short), kept(text));
    // A kill while the log is replaced leaves all or a tail of it, with the summary: nothing is
    // missing, and only what was gone before its `put` can be there again.
    assert.deepEqual(kept(text + short), kept(text));
    const cut = random(30);
    const both = kept(lines.slice(cut).join("") + short);
    for (const number of kept(short)) assert.ok(both.includes(number));
    for (const number of both) assert.ok(kept(short).includes(number) || late.has(number));
    // What was gone too early stays so.
    const all = encode(head, puts(...range(1, 60)), []);
    const never = new Set(
      [...replay(text).gone].filter((number) => replay(text).early.includes(number)),
    );
    for (const number of kept(short + all)) assert.ok(!never.has(number));
  }
});

test("what was gone early is forgotten at last", () => {
  const text = summary(replay(encode(head, [], range(1, 5_000))));
  assert.ok(text.length < 4_000);
  assert.deepEqual(replay(text).early, range(4_489, 5_000));
});

test("what is alive tells what has gone of what is there so far", () => {
  const alive = (...all) => encode(head, [], [], { alive: all });
  const text = encode(head, puts(1, 2, 3, 5, 8, 9, 20), []);
  assert.deepEqual(kept(text + alive(10, 2, 3, 8, 8)), [2, 3, 8, 20]);
  assert.deepEqual(kept(text + alive(10)), [20]);
  assert.deepEqual(kept(text + alive(30, 1, 30)), kept(text));
  assert.deepEqual(kept(text + alive(1)), kept(text));
  // What comes with it or later is not meant, nor another client's.
  assert.deepEqual(kept(text + encode(head, puts(4), [], { alive: [30, 5, 5] })), [4, 5]);
  assert.deepEqual(kept(text + alive(30, 5, 5) + encode(head, puts(6), [])), [5, 6]);
  const other = encode({ ...head, client: "b" }, puts(1), []);
  assert.deepEqual(kept(alive(30) + other), [1]);
  const summed = summary(replay(text + alive(10, 2, 3)));
  assert.deepEqual(kept(summed), [2, 3, 20]);
  // Cut off or damaged, nothing has gone.
  const cut = alive(10, 2, 3);
  assert.deepEqual(kept(text + cut.slice(0, 30)), kept(text));
});

test("what is kept of databases before stays beside the batches, and in a summary", () => {
  const others = [
    { client: "x", mutations: puts(...range(1, 300)) },
    { client: "y", mutations: puts(1) },
  ];
  const first =
    encode({ ...head, client: "old" }, puts(5), []) + encode(head, puts(1), [], { others });
  const text = first + encode({ ...head, others: true }, puts(2), [1]);
  for (const read of [first, text, summary(replay(text))]) {
    assert.deepEqual([replay(read).others, replay(read).more], [others, true]);
  }
  assert.deepEqual(kept(text), [2]);
  const over = text + encode(head, [], [], { others: [] });
  assert.deepEqual([replay(over).others, replay(over).more, kept(over)], [[], false, [2]]);
  assert.ok(!summary(replay(over)).includes("others"));
  assert.deepEqual(replay(text + encode({ ...head, client: "b" }, [], [])).others, []);
});

test("a batch that says anew what is kept of databases before counts whole or not at all", () => {
  const old = encode({ ...head, client: "old" }, puts(1, 2), []);
  const others = [{ client: "old", mutations: puts(...range(1, 300)) }];
  const amounts = (text) => {
    const { client, others, more } = replay(text);
    const of = others.reduce((sum, { mutations }) => sum + mutations.length, 0);
    return [client, kept(text).length, of, more];
  };
  const batches = [
    [old, encode(head, puts(...range(1, 400)), [], { others }), ["a", 400, 300, true]],
    [old, encode({ ...head, reset: true }, [], [], { others }), ["a", 0, 300, true]],
    [
      old + encode(head, puts(1), [], { others }),
      encode(head, puts(2), [], { others: [] }),
      ["a", 2, 0, false],
    ],
    [encode(head, puts(1), [], { others }), summary(replay(old)), ["old", 2, 0, false]],
  ];
  for (const [before, batch, after] of batches) {
    const lines = batch.split("\n").slice(1);
    let torn = before;
    for (const line of lines.slice(0, -1)) {
      for (const text of [torn, `${torn}\n${line.slice(0, 20)}`, `${torn}\n${line}`]) {
        assert.deepEqual(amounts(text), amounts(before));
        if (text !== before) assert.equal(replay(lastLine(text)).client, null, "nobody's yet");
        assert.deepEqual(amounts(text + batch), after, "it comes again");
        const another = text + encode({ ...head, client: amounts(text)[0] }, [], []);
        assert.deepEqual(amounts(another).slice(0, 3), amounts(before).slice(0, 3));
      }
      torn += `\n${line}`;
    }
    assert.deepEqual(amounts(before + batch), after);
  }
  // A line that is damaged costs itself.
  const [first, last] = encode(head, puts(1), [], { others: [] }).split("\n").slice(1);
  const damaged = `\n${first}\n?${last.slice(1)}` + encode(head, puts(2), []);
  assert.deepEqual(amounts(damaged), ["a", 1, 0, false]);
});

test("a late batch of a database that is gone stays beside what has taken its place", () => {
  const old = { ...head, client: "old" };
  const late = encode(old, puts(1, 4), [2]) + encode({ ...old, reset: true }, puts(5), []);
  const text = encode(old, puts(1, 2), []) + encode(head, puts(2, 3), []);
  for (const read of [text + late, text + late + encode(head, puts(6), [2])]) {
    const { client, others, more } = replay(read);
    assert.deepEqual([client, others], ["a", [{ client: "old", mutations: puts(1, 4, 5) }]]);
    assert.deepEqual(kept(read), more ? [2, 3] : [3, 6]);
    const { client: same, others: kept2 } = replay(summary(replay(read)));
    assert.deepEqual([same, kept2], [client, others]);
  }
});

test("each mutation says of which version of the data it is, as its line did", () => {
  const one = (number, collection) => ({ number, collection });
  const versions = (text) =>
    [...replay(text).puts.values()].map(({ number, dataVersion }) => [number, dataVersion]);
  const first = encode({ ...head, version: 1 }, [one(1, "sites"), one(2, "notes")], []);
  const second = { ...head, version: 2, older: { notes: 1 } };
  const third = encode(second, [one(1, "sites"), one(4, "notes")], [], { runs: [run(5, 1)] });
  const text = first + third;
  const known = [
    [1, 2],
    [2, 1],
    [4, 1],
    [5, 2],
  ];
  assert.deepEqual(versions(text), known);
  assert.deepEqual(versions(summary(replay(text))), known);
  assert.ok(!("dataVersion" in replay(encode(head, puts(1), [])).puts.get(1)));
});
