import assert from "node:assert/strict";
import test from "node:test";
import * as glue from "../../src/web/glue.js";

const BROKEN = '{"id":"b","n":x}';
const text = (n) => `{"id":"r${n}"}`;

test("a damaged record is null and has no fields, and the others are whole", () => {
  for (const count of [3, 40]) {
    const texts = Array.from({ length: count }, (_, n) => text(n));
    texts[1] = BROKEN;
    const rows = glue.rowsOfJoined(glue.joinedRows(texts));
    const all = [];
    glue.pushObjects(all, rows, 0, count);
    assert.deepEqual(
      all.map((record) => record?.id ?? null),
      texts.map((text, n) => (text === BROKEN ? null : `r${n}`)),
    );
    assert.equal(glue.rowObject(rows, 1), null);
    assert.equal(glue.rowJson(rows, 1), BROKEN, "its text stays");
  }
  assert.deepEqual(glue.names(null), []);
  assert.deepEqual(glue.picked(null, ["n"]), {});
  assert.equal(glue.same(null, { n: 1 }, "n"), false);
});

test("two texts in the place of one do not move those behind them", () => {
  const texts = Array.from({ length: 40 }, (_, n) => text(n));
  texts[1] = '{"id":"x"},{"id":"y"}';
  const all = [];
  glue.pushObjects(all, glue.rowsOfJoined(glue.joinedRows(texts)), 0, 40);
  assert.deepEqual([all.length, all[1], all[2]], [40, null, { id: "r2" }]);
});

test("a text with line breaks is stored in one line, also where it is damaged", () => {
  const stored = glue.joinedRows(['{\n "id": "a"\n}', null, '{"id":\nb}']);
  assert.deepEqual(stored.split(",\n"), ['{"id":"a"}', "null", '{"id": b}']);
});

test("a damaged change is refused before a backend gets it, so that it is parked", () => {
  const backend = { push: () => assert.fail("it was called") };
  const push = () => glue.callPush(backend, [`{"data":${BROKEN}}`], new AbortController());
  assert.throws(push, { status: 400, code: "database-damaged" });
});
