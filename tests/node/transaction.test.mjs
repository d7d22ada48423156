import assert from "node:assert/strict";
import test from "node:test";
import { runTransaction } from "../../npm/transaction.js";

function managerOf(stored) {
  const core = { present: (_, key) => key, newest: () => undefined };
  return {
    collection() {},
    keyOf: () => "id",
    accept() {},
    read: async (use) => use(core),
    transact: async (writes) => void stored.push(...writes),
  };
}

test("a write that is refused at the call takes the transaction with it, whoever catches it", async () => {
  const refused = {
    "invalid-record": (sites) => sites.put({ id: "b", n: NaN }),
    "invalid-key": (sites) => sites.update(5, { n: 1 }),
    "invalid-options": (sites) => sites.delete("b", null),
    "not-cloneable": (sites) => sites.create({ id: "b", run() {} }),
  };
  for (const [code, write] of Object.entries(refused)) {
    const stored = [];
    const run = runTransaction(managerOf(stored), new Map(), async (tx) => {
      const sites = tx.collection("sites");
      sites.put({ id: "a" });
      try {
        await write(sites);
      } catch {
        // The app goes on.
      }
    });
    const error = await run.catch((it) => it);
    assert.deepEqual([error?.code, stored], [code, []]);
  }
});

test("what a transaction reads of its own writes is not what it stores", async () => {
  const stored = [];
  await runTransaction(managerOf(stored), new Map(), async (tx) => {
    const sites = tx.collection("sites");
    sites.put({ id: "a", n: 1 });
    const record = { ...(await sites.get("a")) };
    assert.deepEqual(record, { id: "a", n: 1 });
    Reflect.set(await sites.get("a"), "n", new Date());
    sites.delete("b");
    assert.equal(await sites.get("b"), undefined);
  });
  assert.deepEqual(
    stored.map(([, , item]) => item),
    [{ id: "a", n: 1 }, "b"],
  );
});
