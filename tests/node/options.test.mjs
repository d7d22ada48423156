import assert from "node:assert/strict";
import test from "node:test";
import { checkOptions } from "../../npm/options.js";

const good = {
  name: "app",
  user: "u",
  collections: { sites: { key: "id", indexes: ["a", ["b", "c"]] } },
};

test("good options come out as the core takes them", () => {
  assert.deepEqual(checkOptions(good).collections.sites.indexes, [["a"], ["b", "c"]]);
});

test("the message names the field that is wrong", () => {
  const wrong = [
    [undefined, "options"],
    [{ ...good, name: 7 }, "name"],
    [{ ...good, user: undefined }, "user"],
    [{ ...good, intervall: 5 }, "intervall"],
    [{ ...good, interval: "5" }, "interval"],
    [{ ...good, autoStart: 1 }, "autoStart"],
    [{ ...good, persist: "yes" }, "persist"],
    [{ ...good, collections: [] }, "collections"],
    [{ ...good, collections: { sites: "id" } }, "collections.sites"],
    [{ ...good, collections: { sites: {} } }, "collections.sites.key"],
    [{ ...good, collections: { sites: { key: "id", keys: 1 } } }, "collections.sites.keys"],
    [
      { ...good, collections: { sites: { key: "id", indexes: [[]] } } },
      "collections.sites.indexes",
    ],
    [{ ...good, collections: { sites: { key: "id", references: { a: 1 } } } }, "references.a"],
  ];
  for (const [options, part] of wrong) {
    assert.throws(
      () => checkOptions(options),
      (error) => {
        assert.equal(error.code, "invalid-options");
        assert.ok(error.message.includes(part), `${part}: ${error.message}`);
        return true;
      },
    );
  }
});
