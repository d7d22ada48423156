import assert from "node:assert/strict";
import test from "node:test";
import { copyRecord } from "../../npm/record.js";

const refused = (record, code, part) => {
  assert.throws(
    () => copyRecord(record),
    (error) =>
      error.name === "LandfallError" && error.code === code && error.message.includes(part),
  );
};

test("a copy shares nothing with what was handed over", () => {
  const record = { id: "a", tags: ["x", { deep: [1, null, true] }], nested: { n: 1.5 } };
  const copy = copyRecord(record);
  assert.deepEqual(copy, record);
  record.tags[1].deep.push(2);
  record.nested.n = 9;
  assert.deepEqual(copy, { id: "a", tags: ["x", { deep: [1, null, true] }], nested: { n: 1.5 } });
});

test("undefined fields are left out, at any depth", () => {
  assert.deepEqual(copyRecord({ id: "a", gone: undefined, in: { gone: undefined } }), {
    id: "a",
    in: {},
  });
});

test("what JSON cannot carry is refused with its path", () => {
  refused({ id: "a", when: new Date() }, "not-cloneable", "when");
  refused({ id: "a", list: [1, { photo: new Blob([]) }] }, "not-cloneable", "list[1].photo");
  refused({ id: "a", map: new Map() }, "not-cloneable", "map");
  refused({ id: "a", score: NaN }, "invalid-record", "score");
  refused({ id: "a", score: -Infinity }, "invalid-record", "score");
  refused({ id: "a", big: 1n }, "invalid-record", "big");
  refused({ id: "a", list: [undefined] }, "invalid-record", "list[0]");
  refused({ id: "a", run() {} }, "not-cloneable", "run");
  refused({ id: "a", sign: Symbol("s") }, "not-cloneable", "sign");
  refused(new (class Point {})(), "not-cloneable", "Point");
});

test("a field's name that is cut inside of an emoji is refused", () => {
  refused({ id: "a", ["x\ud83d"]: 1 }, "invalid-record", "half a surrogate pair");
  assert.deepEqual(copyRecord({ "x\ud83d\ude00": "\ud83d" }), { "x\ud83d\ude00": "\ud83d" });
});

test("a cycle ends at a depth, not in a stack overflow", () => {
  const record = { id: "a" };
  record.self = record;
  refused(record, "not-cloneable", "cycle");
});

test("what is no object is refused", () => {
  for (const record of [null, undefined, 7, "x", [], true])
    refused(record, "invalid-record", "plain object");
});

test("a field called __proto__ is data and pollutes nothing", () => {
  const copy = copyRecord(JSON.parse('{"id":"a","__proto__":{"polluted":true}}'));
  assert.equal(Object.getPrototypeOf(copy), Object.prototype);
  assert.equal({}.polluted, undefined);
  assert.equal(JSON.stringify(copy), '{"id":"a","__proto__":{"polluted":true}}');
});

test("objects without a prototype are plain", () => {
  assert.deepEqual(copyRecord(Object.assign(Object.create(null), { id: "a" })), { id: "a" });
});
