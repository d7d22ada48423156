import assert from "node:assert/strict";
import test from "node:test";
import { conflictsOf, decide } from "../../npm/conflicts.js";

const sides = [{ id: "x", n: 1 }, { id: "x", n: 2 }, null];
const ask = (handler, schema) => decide(handler, schema, "sites", "x", sides);

/** Doubles `n`, and refuses where it is negative. */
const doubling = {
  "~standard": {
    version: 1,
    vendor: "test",
    validate: async (value) =>
      value.n < 0
        ? { issues: [{ message: "negative", path: ["n"] }] }
        : { value: { ...value, n: value.n * 2 } },
  },
};

test("a conflict function is given both sides, and its answer becomes text", async () => {
  const seen = [];
  const answer = await ask((given) => {
    seen.push(given);
    return { ...given.local, n: 5 };
  });
  assert.equal(answer, '{"id":"x","n":5}');
  const [base, local, remote] = sides;
  assert.deepEqual(seen, [{ base, local, remote, collection: "sites", key: "x" }]);
  assert.equal(await ask(() => null), null);
  assert.equal(await ask(async () => "park"), "park");
  assert.equal(await ask(({ local }) => local, doubling), '{"id":"x","n":4}');
});

test("what a conflict function does wrong is said in a sentence", async () => {
  const wrong = [
    [() => undefined, /"sites" answered neither .*undefined/],
    [() => "local", /answered neither .*a string/],
    [() => [sides[0]], /answered neither .*a list/],
    [() => ({ id: "x", at: new Date() }), /answered neither .*at: .*Date/],
    [() => Promise.reject(new Error("no net")), /"sites" threw: no net/],
    [
      () => {
        throw "words";
      },
      /"sites" threw: words/,
    ],
  ];
  for (const [handler, message] of wrong) await assert.rejects(ask(handler), { message });
  await assert.rejects(
    ask(() => ({ id: "x", n: -1 }), doubling),
    { message: /n: negative/ },
  );
});

test("conflicts are copies: a side that is changed in place is not the store's", async () => {
  const stored = { id: "c.1", collection: "sites", key: "x", remote: { id: "x", parts: [1] } };
  const core = { conflicts: () => [{ ...stored }] };
  const conflicts = conflictsOf({ read: async (use) => use(core) });
  for (const one of [(await conflicts.list())[0], await conflicts.get("c.1")]) {
    one.remote.parts.push(2);
    one.remote.n = 1;
  }
  assert.deepEqual(stored.remote, { id: "x", parts: [1] });
  assert.equal(await conflicts.get("c.2"), undefined);
});
