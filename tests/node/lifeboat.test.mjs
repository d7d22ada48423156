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
