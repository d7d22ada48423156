import assert from "node:assert/strict";
import test from "node:test";
import { Collection } from "../../npm/collection.js";

/** A manager whose reads come later; the core answers what it was asked. */
function world(schema) {
  const asked = [];
  const core = {
    find: (_, query) => (asked.push(query), []),
    count: (_, query) => (asked.push(query), 0),
    get: (_, key) => void asked.push(key),
    write(name, kind, items, options, done) {
      asked.push(options ? [items, options] : items);
      done(null);
    },
  };
  const live = { addRows: (name, read) => (live.read = read) };
  const manager = {
    live,
    accept() {},
    now: (use) => use(core),
    async read(use) {
      await null;
      return use(core);
    },
  };
  return { asked, live, sites: new Collection("sites", manager, "id", true, schema) };
}

test("what is asked for is what it was when it was asked", async () => {
  const { asked, live, sites } = world();
  const query = { index: "n", equals: [1], limit: 10, offset: 0 };
  const pages = [];
  for (const offset of [0, 10]) pages.push(sites.find(Object.assign(query, { offset })));
  pages.push(sites.count(query));
  sites.subscribe(query, () => {});
  Object.assign(query, { offset: 20, equals: [] });
  await Promise.all(pages);
  await live.read();
  const of = (offset) => ({ index: "n", equals: [1], limit: 10, offset });
  assert.deepEqual(asked.splice(0), [of(0), of(10), of(10), of(10)]);
  const keys = ["a", "b"];
  const records = sites.getMany(keys);
  keys.length = 0;
  assert.equal((await records).length, 2);
  assert.deepEqual(asked, ["a", "b"]);
});

test("what is wrong with it is told by the promise", async () => {
  const { sites } = world();
  const wrong = [sites.find({ equal: 1 }), sites.count(null), sites.getMany("a")];
  for (const one of wrong) await assert.rejects(one, { code: "invalid-options" });
  await assert.rejects(sites.deleteMany([1]), { code: "invalid-key" });
});

test("what is written and deleted under a schema is what was handed in, and how", async () => {
  const validate = async (value) => ({ value });
  const { asked, sites } = world({ "~standard": { version: 1, vendor: "test", validate } });
  const keys = ["a", "b"];
  const deleted = sites.deleteMany(keys);
  keys.length = 0;
  const how = { localOnly: true };
  const draft = sites.put({ id: "c" }, how);
  how.localOnly = false;
  await Promise.all([deleted, draft]);
  const local = { localOnly: true, optimistic: undefined };
  assert.deepEqual(asked, [
    ["a", "b"],
    [['{"id":"c"}'], local],
  ]);
  await assert.rejects(sites.delete("a", { local: true }), { code: "invalid-options" });
});
