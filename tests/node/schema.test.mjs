import assert from "node:assert/strict";
import test from "node:test";
import { checkRecord, isChecking, updated } from "../../npm/schema.js";

const of = (validate) => ({ "~standard": { version: 1, vendor: "test", validate } });

test("what the schema answers is stored, now or later", async () => {
  const trim = ({ name, ...rest }) => ({ value: { ...rest, name: name.trim() } });
  for (const schema of [of(trim), of(async (value) => trim(value))]) {
    assert.deepEqual(await checkRecord(schema, { id: "a", name: " x " }), { id: "a", name: "x" });
  }
});

test("a fault is told with its path, of names, numbers and segments", async () => {
  const path = ["parts", { key: 0 }, "n"];
  const schema = of(() => ({ issues: [{ message: "too small", path }, { message: "more" }] }));
  await assert.rejects(checkRecord(schema, {}), {
    code: "invalid-record",
    message: "parts.0.n: too small",
    path: ["parts", 0, "n"],
  });
  const bare = of(() => ({ issues: [{ message: "no" }] }));
  await assert.rejects(checkRecord(bare, {}), { message: "the record: no", path: [] });
});

test("a schema that makes what cannot be stored is refused", async () => {
  const dates = of((value) => ({ value: { ...value, at: new Date() } }));
  await assert.rejects(checkRecord(dates, { id: "a" }), { code: "not-cloneable" });
  await assert.rejects(
    checkRecord(
      of(() => undefined),
      {},
    ),
    { code: "invalid-record" },
  );
  const throws = of(() => {
    throw new RangeError("a bug of the schema");
  });
  await assert.rejects(checkRecord(throws, {}), RangeError);
});

test("an update checks the whole record and sends what has changed", async () => {
  const counts = of((value) => ({ value: { ...value, size: value.parts.length } }));
  const record = { id: "a", parts: [1], size: 1, gone: true };
  const patch = { parts: [1, 2] };
  const result = await updated(counts, record, "a", patch, ["parts", "gone"]);
  assert.deepEqual(result.record, { id: "a", parts: [1, 2], size: 2 });
  assert.deepEqual(result.write, ["a", result.record, ["parts", "gone", "size"]]);
  assert.deepEqual(record, { id: "a", parts: [1], size: 1, gone: true }, "untouched");
});

test("without a record the core is asked, which knows what to say", async () => {
  const never = of(() => assert.fail("not called"));
  const { write } = await updated(never, undefined, "a", { n: 1 }, ["n"]);
  assert.deepEqual(write, ["a", { n: 1 }, ["n"]]);
});

test("what a schema does not answer in time is refused", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let code = null;
  const never = checkRecord(
    of(() => new Promise(() => {})),
    {},
  ).catch((error) => (code = error.code));
  for (let second = 0; second < 30; second++) t.mock.timers.tick(1_000);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(code, null);
  t.mock.timers.tick(1_000);
  await never;
  assert.equal(code, "invalid-record");
});

test("it is known whether a schema asks, also where it throws", async () => {
  const seen = [];
  const note = of((value) => {
    seen.push(isChecking());
    if (value.throws) throw new Error("a bug of the schema");
    return Promise.resolve({ value });
  });
  await checkRecord(note, {});
  await assert.rejects(checkRecord(note, { throws: true }));
  assert.deepEqual([...seen, isChecking()], [true, true, false]);
});
