import assert from "node:assert/strict";
import test from "node:test";
import { Lifeboat } from "../../npm/lifeboat.js";

/** A rescue copy in memory, and a core whose database is another one than the copy's. */
function wiped({ fresh, mutations = [{ number: 2 }], pending = 1 }) {
  const kept = { client: "old", next: 3, stamp: [1, 0], mutations, others: [] };
  const written = [];
  let isGone = false;
  const gone = () => (isGone = true);
  const rescue = {
    peek: async () => kept,
    load: async () => (isGone ? null : kept),
    reset: async (...how) => void written.push(["reset", ...how]),
    async write({ client, others }) {
      written.push([client, others]);
      // The first batch of another client takes the place of all.
      if (client !== kept.client) Object.assign(kept, { client, mutations: [], others: [] });
      if (Array.isArray(others)) kept.others = others;
      return false;
    },
    close() {},
  };
  const started = [];
  const core = {
    client: () => "new",
    fresh: () => fresh,
    status: () => ({ leader: true, outbox: { pending, syncing: 0, conflict: 0, failed: 0 } }),
    startRescue: (...how) => started.push(how),
  };
  const told = [];
  const report = (error) => told.push([error.code, error.message]);
  const open = async () => rescue;
  const boat = new Lifeboat("db", "relaxed", () => true, report, open);
  const recovered = [];
  const start = (takeIn) => boat.start(core, takeIn, (count) => recovered.push(count));
  const write = (next) => boat.write({ next, stamp: [next, 0], put: [] });
  return { rescue, kept, gone, boat, start, write, written, started, told, recovered };
}

const all = async (_, mutations) => ({ count: mutations.length, left: [], why: null });

async function turns() {
  for (let turn = 0; turn < 50; turn++) await null;
}

test("a copy that cannot be taken in stays, and is tried again until it is in", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { start, started, told, recovered } = wiped({ fresh: true });
  let tries = 0;
  const taken = [];
  const takeIn = async (client, mutations) => {
    if (++tries < 3) throw new Error("the disk is full");
    taken.push(client);
    return all(client, mutations);
  };
  assert.equal(await start(takeIn), null);
  const what = "1 changes of the rescue copy cannot be taken in now: the disk is full";
  assert.deepEqual(told, [["rescue-failed", what]]);
  for (let i = 0; i < 2; i++) {
    t.mock.timers.tick(5_000);
    await turns();
  }
  assert.deepEqual([taken, recovered], [["old"], [1]]);
  assert.deepEqual(
    started,
    Array(3).fill([0, [0, 0], true]),
    "what is written is kept all the time",
  );
  assert.equal(tries, 3);
});

test("what cannot be taken in stays beside what is written, and is tried again by itself", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const mutations = [2, 3, 4].map((number) => ({ number }));
  const { kept, boat, start, write, written, told, recovered } = wiped({ fresh: true, mutations });
  let inTheWay = [3];
  const takeIn = async (_, some) => {
    const left = some.map(({ number }) => number).filter((number) => inTheWay.includes(number));
    return { count: some.length - left.length, left, why: left.length > 0 ? "in the way" : null };
  };
  assert.equal(await start(takeIn), 2);
  await write(5);
  await write(6);
  const left = [{ client: "old", mutations: [{ number: 3 }] }];
  assert.deepEqual(written, [
    ["new", left],
    ["new", true],
  ]);
  assert.deepEqual(told.length, 1);
  t.mock.timers.tick(5_000);
  await turns();
  await write(7);
  assert.deepEqual([kept.others, written[2]], [left, ["new", true]], "it is still there");
  inTheWay = [];
  t.mock.timers.tick(10_000);
  await turns();
  await write(8);
  await write(9);
  assert.deepEqual(written.slice(3), [
    ["new", []],
    ["new", undefined],
  ]);
  assert.deepEqual([recovered, told.length], [[2, 1], 1]);
  t.mock.timers.tick(500_000);
  await boat.close();
});

test("what was left before is tried again after a start", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { kept, start, started, written, recovered } = wiped({ fresh: false, pending: 0 });
  const others = [{ client: "older", mutations: [{ number: 1 }] }];
  Object.assign(kept, { client: "new", mutations: [], others, more: true });
  assert.equal(await start(all), null);
  assert.deepEqual(started, [[3, [1, 0], false]]);
  t.mock.timers.tick(5_000);
  await turns();
  assert.deepEqual([recovered, written], [[1], [["reset", "new", []]]]);
});

test("a copy that is damaged altogether, or gone meanwhile, keeps nothing of what follows out", async () => {
  const damaged = wiped({ fresh: true, mutations: [] });
  damaged.kept.client = null;
  await damaged.start(async () => {
    throw new Error("client is missing");
  });
  assert.deepEqual([damaged.started.length, damaged.told.length], [1, 1]);
  const gone = wiped({ fresh: true });
  gone.gone();
  await gone.start(all);
  assert.deepEqual([gone.started.length, gone.told], [1, []]);
});

test("a database that has begun without the copy takes it in at the next start", async () => {
  const { start, started, recovered } = wiped({ fresh: false });
  assert.equal(await start(all), 1);
  assert.deepEqual([recovered, started.length], [[1], 1]);
});

/** A boat for a database that the copy knows, and what has been done with it. */
async function afloat(answers) {
  const [written, started, told] = [[], [], []];
  const rescue = {
    peek: async () => ({ client: "same", next: 3, stamp: [1, 0] }),
    async write({ next }) {
      written.push(next);
      const answer = answers.shift();
      if (answer instanceof Error) throw answer;
      return answer ?? false;
    },
    close() {},
  };
  const core = { client: () => "same", startRescue: (...how) => started.push(how) };
  const report = (error) => told.push(error.code);
  const open = async () => rescue;
  const boat = new Lifeboat("db", "relaxed", () => true, report, open);
  await boat.start(core);
  const write = (next) => boat.write({ next, stamp: [next, 0], put: [] });
  return { boat, write, written, started, told };
}

test("batches arrive in the order in which they were made", async () => {
  // The first one takes the place of another database's copy, and is the only one that has all of it.
  let release;
  const slow = new Promise((resolve) => (release = resolve));
  const { write, written } = await afloat([slow, false]);
  const both = Promise.all([write(4), write(5)]);
  await turns();
  assert.deepEqual(written, [4]);
  release(false);
  await both;
  assert.deepEqual(written, [4, 5]);
});

test("what could not be written is handed over again, from the last that was", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const full = () => new DOMException("full", "QuotaExceededError");
  const { write, written, started, told } = await afloat([false, full(), full()]);
  // The third is on its way when the second fails: it would say that the copy has that as well.
  await Promise.all([write(4), write(5), write(6)]);
  assert.deepEqual([written, told], [[4, 5], ["rescue-failed"]]);
  t.mock.timers.tick(249);
  assert.deepEqual(started, [[3, [1, 0], false]]);
  t.mock.timers.tick(1);
  await write(7);
  t.mock.timers.tick(499);
  assert.equal(started.length, 2);
  t.mock.timers.tick(1);
  assert.deepEqual(started.slice(1), Array(2).fill([4, [4, 0], false]));
  await write(8);
  await write(9);
  assert.deepEqual([written, told], [[4, 5, 7, 8, 9], ["rescue-failed"]]);
  t.mock.timers.tick(100_000);
  assert.equal(started.length, 3);
});

test("what a place has lost is handed over again, and what has gone is told", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { boat, write, written, started, told } = await afloat([true, false, true]);
  await write(4);
  await write(5);
  t.mock.timers.tick(250);
  assert.deepEqual(started.slice(1), [[1, [0, 0], false]]);
  await write(6);
  await write(7);
  await boat.close();
  t.mock.timers.tick(100_000);
  assert.deepEqual([written, told], [[4, 6, 7], []]);
  assert.equal(started.length, 2, "a core that is closed is not asked");
});

test("a copy that cannot be read counts as nothing only where it is known to have nothing else", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const broken = () => Promise.reject(new Error("broken"));
  const unread = wiped({ fresh: false });
  unread.rescue.peek = unread.rescue.load = broken;
  await unread.start(all);
  await assert.rejects(unread.boat.left(), { code: "rescue-failed" });
  const own = wiped({ fresh: false });
  own.kept.client = "new";
  await own.start(all);
  own.rescue.load = broken;
  assert.equal(await own.boat.left(), 0);
  // It was closed by another tab that signs out, which has counted.
  await unread.boat.close();
  assert.equal(await unread.boat.left(), 0);
});
