import assert from "node:assert/strict";
import test from "node:test";
import { WriteQueue } from "../../npm/queue.js";
import { UPDATE } from "../../npm/write.js";
import { patched, picked, same, splitPage, splitResults } from "../../src/web/glue.js";

/** What objects have without having it as a field of their own. */
const INHERITED = ["constructor", "toString", "__proto__"];

test("a field that every object inherits is removed, picked and compared as any other", () => {
  for (const name of INHERITED) {
    const record = Object.defineProperty({ id: "a" }, name, { value: "x", enumerable: true });
    assert.deepEqual(Object.keys(picked(record, ["id", name])), ["id", name]);
    assert.deepEqual(Object.keys(picked({ id: "a" }, ["id", name])), ["id"]);
    assert.deepEqual(Object.keys(patched(record, {}, [name])), ["id"]);
    assert.deepEqual(Object.keys(patched({ id: "a" }, record, [name])), ["id", name]);
    assert.equal(same({ id: "a" }, record, name), false);
    assert.equal(same({ id: "a" }, { id: "b" }, name), true);
    const empty = Object.defineProperty({}, name, { value: {}, enumerable: true });
    assert.equal(same({}, empty, name), false);
  }
});

test("updates of one turn remove it as well", async () => {
  const runs = [];
  const queue = new WriteQueue({ writeEach: (...run) => runs.push(run[2]) });
  for (const name of INHERITED) queue.add("sites", UPDATE, "a", "{}", [name], {});
  queue.flush();
  assert.deepEqual(runs[0].items, ["{}"]);
});

test("a key with half a character is no answer", () => {
  const fields = { sites: "id" };
  const change = (id) => ({ type: "sites", id, versionNumber: 1, data: { id } });
  const page = (id) => splitPage({ changes: [change(id)], checkpoint: "1" }, 10, fields);
  assert.equal(page("\u{1f331}").ids, "\u{1f331}\0");
  assert.equal(page("\ud83d"), "a change has no type or no id");
  const sent = [JSON.stringify({ type: "sites", offlineId: "a" })];
  const result = (serverId) => ({ id: "c.1", status: "success", versionNumber: 1, serverId });
  const answer = (serverId) => splitResults({ results: [result(serverId)] }, sent, fields);
  assert.equal(answer("b").others[0].key, "b");
  assert.equal(answer("\ud83d"), "a result: serverId is a string");
});
