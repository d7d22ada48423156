import assert from "node:assert/strict";
import test from "node:test";
import { runTransaction } from "../../npm/transaction.js";

test("what a transaction reads of its own writes is not what it stores", async () => {
  const stored = [];
  const core = { present: (_, key) => key };
  const manager = {
    collection() {},
    keyOf: () => "id",
    accept() {},
    read: async (use) => use(core),
    transact: async (writes) => void stored.push(...writes),
  };
  await runTransaction(manager, new Map(), async (tx) => {
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
