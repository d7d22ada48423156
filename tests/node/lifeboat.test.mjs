import assert from "node:assert/strict";
import test from "node:test";
import { Lifeboat } from "../../npm/lifeboat.js";

/** A rescue copy in memory, and a core whose database is another one than the copy's. */
function wiped({ fresh }) {
  const kept = { client: "old", next: 3, stamp: [1, 0], mutations: [{ number: 2 }] };
  const rescue = {
    peek: async () => kept,
    load: async () => kept,
    reset: async () => {},
    close() {},
  };
  const started = [];
  const core = {
    client: () => "new",
    fresh: () => fresh,
    status: () => ({ outbox: { pending: 1, syncing: 0, conflict: 0, failed: 0 } }),
    startRescue: (...how) => started.push(how),
  };
  const told = [];
  const report = (error) => told.push(error.code);
  const boat = new Lifeboat(
    "db",
    "relaxed",
    () => true,
    report,
    async () => rescue,
  );
  return { boat, core, started, told };
}

test("a copy that cannot be taken in stays, and is tried again until it is in", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { boat, core, started, told } = wiped({ fresh: true });
  let tries = 0;
  const taken = [];
  const takeIn = async (client, mutations) => {
    if (++tries < 3) throw new Error("the disk is full");
    taken.push(client);
    return mutations.length;
  };
  assert.equal(await boat.start(core, takeIn), null);
  assert.deepEqual([started, told], [[], ["rescue-failed"]]);
  for (let i = 0; i < 2; i++) {
    t.mock.timers.tick(5_000);
    for (let turn = 0; turn < 20; turn++) await null;
  }
  assert.deepEqual(taken, ["old"]);
  assert.deepEqual(started, [[0, [0, 0], true]], "the new database takes the place of the old");
  assert.equal(tries, 3);
});

test("a database that has begun without the copy takes it in at the next start", async () => {
  const { boat, core, started } = wiped({ fresh: false });
  assert.equal(await boat.start(core, async (_, mutations) => mutations.length), 1);
  assert.equal(started.length, 1);
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
