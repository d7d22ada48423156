import assert from "node:assert/strict";
import test from "node:test";
import { checkOptions, databaseName } from "../../npm/options.js";

const good = {
  name: "app",
  user: "u",
  collections: { sites: { key: "id", indexes: ["a", ["b", "c"]] } },
};

test("good options come out as the core takes them", () => {
  assert.deepEqual(checkOptions(good).core.collections.sites.indexes, [["a"], ["b", "c"]]);
});

test("the message names the field that is wrong", () => {
  const wrong = [
    [undefined, "options"],
    [{ ...good, name: 7 }, "name"],
    [{ ...good, user: undefined }, "user"],
    [{ ...good, user: "" }, "user"],
    [{ ...good, name: "n".repeat(129) }, "name"],
    [{ ...good, user: "é".repeat(65) }, "user"],
    [{ ...good, user: "\ud800" }, "user: well-formed"],
    [{ ...good, intervall: 5 }, "intervall"],
    [{ ...good, interval: "5" }, "interval"],
    [{ ...good, autoStart: 1 }, "autoStart"],
    [{ ...good, persist: "yes" }, "persist"],
    [{ ...good, backend: { subscribe: true } }, "subscribe"],
    [{ ...good, version: 0 }, "version"],
    [{ ...good, version: "2" }, "version"],
    [{ ...good, migrate: () => {} }, "migrate"],
    [{ ...good, migrate: { sites: 7 } }, "migrate.sites"],
    [{ ...good, migrate: { nowhere: () => {} } }, "migrate.nowhere"],
    [{ ...good, collections: { sites: { key: "id", localOnly: 1 } } }, "sites.localOnly"],
    [{ ...good, collections: { sites: { key: "id", optimistic: "no" } } }, "sites.optimistic"],
    [{ ...good, collections: { sites: { key: "id", schema: {} } } }, "sites.schema"],
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

test("names of app and user cannot collide", () => {
  assert.notEqual(databaseName("a:b", "c"), databaseName("a", "b:c"));
  assert.notEqual(databaseName("a%3Ab", "c"), databaseName("a:b", "c"));
  const { core, name, user } = checkOptions({ ...good, name: "\ufeffa:b", user: "é".repeat(64) });
  assert.equal(core.database, `landfall:\ufeffa%3Ab:${"é".repeat(64)}`);
  assert.deepEqual([name, user], ["\ufeffa:b", "é".repeat(64)]);
});

test("a schema stays outside of the core's options", () => {
  const schema = { "~standard": { version: 1, vendor: "test", validate: (value) => ({ value }) } };
  const collections = { sites: { key: "id", schema, localOnly: true } };
  const { core, schemas } = checkOptions({ ...good, collections });
  assert.deepEqual([...schemas.keys()], ["sites"]);
  assert.equal("schema" in core.collections.sites, false);
  assert.equal(core.collections.sites.localOnly, true);
});

test("a migration works on copies, and records without one stay as they are", () => {
  const migrate = {
    sites: (record, from) => {
      record.tags.push(from);
      return record;
    },
  };
  const step = checkOptions({ ...good, version: 2, migrate }).migrate;
  const record = { id: "a", tags: [] };
  assert.deepEqual(step("sites", record, 1), { id: "a", tags: [1] });
  assert.deepEqual(record.tags, []);
  assert.equal(step("elsewhere", record, 1), record);
  const wrong = checkOptions({ ...good, migrate: { sites: () => ({ id: "a", at: new Date() }) } });
  assert.throws(() => wrong.migrate("sites", record, 1), { code: "not-cloneable" });
});

test("a conflict function stays outside of the core's options", () => {
  const conflict = ({ local }) => local;
  const { core, handlers } = checkOptions({
    ...good,
    collections: { sites: { key: "id", conflict }, notes: { key: "id", conflict: "manual" } },
  });
  assert.equal(core.collections.sites.conflict, "function");
  assert.equal(core.collections.notes.conflict, "manual");
  assert.deepEqual([...handlers], [["sites", conflict]]);
  for (const wrong of ["function", "mine", 7, null, {}]) {
    const collections = { sites: { key: "id", conflict: wrong } };
    const message = (error) => error.code === "invalid-options" && /sites\.conflict/.test(error);
    assert.throws(() => checkOptions({ ...good, collections }), message, String(wrong));
  }
});
