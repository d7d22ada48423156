import assert from "node:assert/strict";
import test from "node:test";
import { checkFilter, checkQuery } from "../../npm/query.js";

const refused = (check, wrong) => {
  for (const [asked, what] of wrong) {
    const told = new RegExp(what);
    assert.throws(() => check(asked), { code: "invalid-options", message: told }, what);
  }
};

/** Without what is undefined. */
const plain = (value) => value && JSON.parse(JSON.stringify(value));

test("a query that says what it wants passes as it is, as a copy", () => {
  const fine = [
    undefined,
    {},
    { equals: "a" },
    { equals: ["a"] },
    { index: ["n", "m"], equals: 2, range: { from: 1 } },
    { index: ["a", "b"], equals: ["x"], prefix: "p", order: "desc", limit: 0, offset: 1 },
    { range: { from: "a", to: undefined }, prefix: undefined, order: undefined, after: undefined },
    { index: undefined, equals: undefined, range: undefined, after: { id: "x" } },
  ];
  for (const query of fine) assert.deepEqual(plain(checkQuery(query)), plain(query));
  const query = { index: ["a", "b"], equals: ["x"], range: { from: [1] }, limit: 1 };
  const copy = checkQuery(query);
  query.index.pop();
  query.equals.length = 0;
  query.range.from[0] = 2;
  query.limit = 2;
  assert.deepEqual(copy, { index: ["a", "b"], equals: ["x"], range: { from: [1] }, limit: 1 });
});

test("what would select everything is refused, with its name", () => {
  refused(checkQuery, [
    [null, "query: an object"],
    ["a", "query: an object"],
    [["a"], "query: an object"],
    [{ equal: "a" }, 'no option "equal"'],
    [{ index: "n", equals: null }, "equals takes"],
    [{ equals: 2 }, "without an index equals"],
    [{ equals: ["1", "2"] }, "without an index equals"],
    [{ range: { to: 2 } }, "without an index range.to"],
    [{ index: "n", range: { from: null } }, "range.from takes"],
    [{ index: "n", range: { until: 2 } }, 'no option "until"'],
    [{ index: "n", range: "2" }, "range: an object"],
    [{ index: "n", range: null }, "range: an object"],
    [{ index: "n", prefix: 2 }, "prefix is a string"],
    [{ index: "n", prefix: null }, "prefix is a string"],
    [{ index: "n", order: -1 }, "order is"],
    [{ index: "n", order: "descending" }, "order is"],
    [{ after: null }, "after takes"],
    [{ equals: [] }, "equals is an empty list"],
    [{ index: "n", equals: [] }, "equals is an empty list"],
    [{ index: ["a", "b"], equals: "a", range: { from: [] } }, "range.from is an empty list"],
    [{ index: "n", range: { to: [] } }, "range.to is an empty list"],
  ]);
});

test("what no record of the index can be is refused", () => {
  refused(checkQuery, [
    [{ index: "n", equals: [1, 2] }, "more values than"],
    [{ index: "n", equals: 1, range: { from: 2 } }, "more values than"],
    [{ index: "n", equals: "a", prefix: "a" }, "more values than"],
    [{ index: ["a", "b"], range: { from: 1, to: [1, 2, 3] } }, "more values than"],
  ]);
  const both = { index: ["a", "b"], equals: 1, range: { from: 2, to: [3] } };
  assert.deepEqual(plain(checkQuery(both)), both);
});

test("a list is asked for by what it knows", () => {
  const names = ["state", "collection", "limit"];
  const fine = [{}, { limit: 0 }, { limit: Infinity }, { state: "failed", collection: undefined }];
  for (const filter of fine) assert.deepEqual(plain(checkFilter(filter, names)), plain(filter));
  assert.deepEqual(checkFilter(undefined, names), {});
  refused(
    (filter) => checkFilter(filter, names),
    [
      [null, "list: an object"],
      [{ limits: 1 }, 'no option "limits"'],
      [{ limit: -1 }, "limit takes"],
      [{ limit: 1.5 }, "limit takes"],
      [{ limit: "3" }, "limit takes"],
      [{ limit: null }, "limit takes"],
      [{ collection: null }, "collection is a string"],
      [{ state: "parked" }, "state is one of"],
    ],
  );
});
