// The crash test's own judgement: it must see what is missing, mixed, halved or stored twice.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Backend } from "../crash/lib/backend.mjs";
import { check } from "../crash/lib/check.mjs";
import { Findings, Model } from "../crash/lib/model.mjs";
import { makePlan } from "../crash/lib/plan.mjs";
import { random } from "../crash/lib/random.mjs";
import { makePatch, makeRecord } from "../crash/page/record.js";

const NOW = 1_000_000;

/** A model in which `a` was created (1) and updated (2), acknowledged both, and updated again (3). */
function written() {
  const model = new Model();
  const first = makeRecord("a", 1, "text");
  const second = { ...first, ...makePatch(first, 2) };
  const third = { ...second, ...makePatch(second, 3) };
  for (const record of [first, second, third]) {
    model.plan({ n: record.n, id: "a", record, session: 1 });
  }
  model.acknowledge(1, NOW);
  model.acknowledge(2, NOW + 10);
  return { model, first, second, third };
}

function found(model, records, rules = {}) {
  const findings = new Findings();
  model.check(records, { findings, ...rules });
  const { lost, torn, inWindow } = findings;
  return { lost, torn, inWindow };
}

test("what was acknowledged must be there, what was not may be", () => {
  const { model, first, second, third } = written();
  assert.deepEqual(found(model, [second]), { lost: 0, torn: 0, inWindow: 0 });
  assert.deepEqual(found(model, [third]), { lost: 0, torn: 0, inWindow: 0 });
  assert.deepEqual(found(model, [first]), { lost: 1, torn: 0, inWindow: 0 });
  assert.deepEqual(found(model, []), { lost: 2, torn: 0, inWindow: 0 });
});

test("what was checked may not go, and what was deleted may not come back", () => {
  const { model, first, second } = written();
  model.settle([second]);
  assert.equal(found(model, []).lost, 1);
  assert.equal(found(model, [first]).lost, 1);
  model.plan({ n: 4, id: "a", record: null, session: 2 });
  model.acknowledge(4, NOW);
  assert.equal(found(model, [second]).lost, 1);
  model.settle([]);
  assert.equal(found(model, [second]).lost, 1);
});

test("what a wipe took within the window is told apart", () => {
  const { model } = written();
  const inWindow = ({ ackedAt }) => ackedAt > NOW + 5;
  assert.deepEqual(found(model, [], { inWindow }), { lost: 1, torn: 0, inWindow: 1 });
});

test("mixed and unknown records are torn", () => {
  const { model, second, third } = written();
  assert.equal(found(model, [{ ...second, b: third.b }]).torn, 1);
  assert.equal(found(model, [{ ...second, text: "other" }]).torn, 1);
  assert.equal(found(model, [makeRecord("a", 9, "text")]).torn, 1);
  assert.equal(found(model, [second, makeRecord("z", 9, "text")]).torn, 1);
  assert.equal(found(model, [{ ...second, schema: 4 }]).torn, 0);
});

test("half of a bulk is torn, unless the server has taken its first half", () => {
  const model = new Model();
  const bulk = ["a", "b", "c"].map((id, index) => makeRecord(id, index + 1, ""));
  for (const record of bulk) {
    model.plan({ n: record.n, id: record.id, record, bulk: "x", session: 1 });
  }
  assert.deepEqual(found(model, []), { lost: 0, torn: 0, inWindow: 0 });
  assert.deepEqual(found(model, bulk), { lost: 0, torn: 0, inWindow: 0 });
  assert.deepEqual(found(model, bulk.slice(1)), { lost: 0, torn: 1, inWindow: 0 });
  const atServer = (id) => (id === "b" ? 2 : undefined);
  assert.deepEqual(found(model, bulk.slice(1), { atServer }), { lost: 0, torn: 0, inWindow: 0 });
});

test("plans tell the model all that they do, and the same seed plans the same", () => {
  const plans = [1, 2].map(() => {
    const model = new Model();
    let n = 0;
    const next = () => (n += 1);
    const dice = random(5);
    return makePlan({ style: "mixed", dice, model, session: 1, next, version: null });
  });
  assert.deepEqual(plans[0], plans[1]);
  const ops = plans[0].flatMap((step) => step.ops);
  assert.deepEqual(
    new Set(ops.map(({ type }) => type)),
    new Set(["create", "update", "put", "delete"]),
  );
  for (const { how, ops: of } of plans[0]) {
    if (how === "bulk") assert.equal(of.at(-1).n - of[0].n, of.length - 1, "numbers follow");
  }
});

const change = (id, record, versionNumber, action = "create") => ({
  changes: [{ id, type: "records", action, offlineId: "a", versionNumber, data: record, at: "1" }],
});

test("the server applies a mutation once, and tells a state that was stored twice", () => {
  const backend = new Backend();
  const record = makeRecord("a", 1, "");
  const [first] = backend.push(change("m1", record, 0)).results;
  assert.deepEqual(backend.push(change("m1", record, 0)).results, [first]);
  assert.deepEqual(backend.takeDuplicates(), []);
  backend.push(change("m2", record, 1, "update"));
  assert.deepEqual(backend.takeDuplicates(), [{ id: "a", n: 1, times: 2 }]);
  assert.equal(backend.push(change("m3", record, 1, "update")).results[0].status, "conflict");
  assert.equal(backend.conflicts.length, 1);
});

/** A store with these contents under the real check, without a sync. */
async function checked({ model, backend, records, outbox, counts }) {
  const subject = {
    model,
    backend,
    hasRescue: true,
    version: null,
    kills: new Map(),
    network() {},
  };
  const dump = { records, feed: [], outbox, counts: counts ?? { ...NONE, pending: outbox.length } };
  const call = async () => JSON.stringify(dump);
  const { findings } = await check(subject, call, { durability: "relaxed", sync: false });
  return { lost: findings.lost, torn: findings.torn };
}
const NONE = { pending: 0, syncing: 0, conflict: 0, failed: 0 };
const entry = { id: "m1", key: "a", state: "pending" };

test("what the server has not got is queued, and nothing else", async () => {
  const run = (state) => {
    const { model, second } = written();
    const backend = new Backend();
    if (state.seen) backend.push(change(state.seen, second, 0));
    return checked({ model, backend, records: [second], ...state });
  };
  assert.deepEqual(await run({ outbox: [entry] }), { lost: 0, torn: 0 });
  assert.deepEqual(await run({ outbox: [] }), { lost: 1, torn: 0 });
  assert.deepEqual(await run({ outbox: [], seen: "m1" }), { lost: 0, torn: 0 });
  // Its answer was lost.
  assert.deepEqual(await run({ outbox: [entry], seen: "m1" }), { lost: 0, torn: 0 });
  assert.deepEqual(await run({ outbox: [entry], seen: "m0" }), { lost: 0, torn: 1 });
  assert.deepEqual(await run({ outbox: [{ ...entry, state: "failed" }] }), { lost: 0, torn: 1 });
  assert.deepEqual(await run({ outbox: [entry], counts: NONE }), { lost: 0, torn: 1 });
});
