import assert from "node:assert/strict";
import test from "node:test";
import { Realtime } from "../../npm/realtime.js";
import { readEvents } from "../../npm/stream.js";

/** A backend whose connections are answered and cut by hand. */
function world() {
  const it = { calls: [], stopped: 0, pokes: 0, states: [] };
  const subscribe = (poke, lost) =>
    new Promise((resolve, reject) => {
      it.calls.push({ poke, lost, up: () => resolve(() => it.stopped++), fail: reject });
    });
  const poke = () => it.pokes++;
  it.realtime = new Realtime(subscribe, poke, () => it.states.push(it.realtime.state));
  return it;
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

test("connects where it is wanted, pokes when it is up, lets go where it is not", async () => {
  const it = world();
  it.realtime.follow(false);
  assert.equal(it.calls.length, 0);
  it.realtime.follow(true);
  it.realtime.follow(true);
  assert.equal(it.calls.length, 1);
  assert.equal(it.pokes, 0);
  it.calls[0].up();
  await turn();
  assert.equal(it.pokes, 1, "what happened before is pulled");
  it.calls[0].poke();
  assert.equal(it.pokes, 2);
  it.realtime.follow(false);
  assert.equal(it.stopped, 1);
  it.calls[0].poke();
  it.calls[0].lost();
  assert.equal(it.pokes, 2, "what was let go is not heard");
  assert.deepEqual(it.states, ["connecting", "live", "off"]);
});

test("a connection that comes up too late is closed", async () => {
  const it = world();
  it.realtime.follow(true);
  it.realtime.follow(false);
  it.calls[0].up();
  await turn();
  assert.equal(it.stopped, 1);
  assert.equal(it.realtime.state, "off");
  assert.equal(it.pokes, 0);
});

test("what opens and ends at once is asked for ever more rarely; what has told something is not", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  t.mock.method(Math, "random", () => 1);
  const it = world();
  it.realtime.follow(true);
  const end = async (waitMs, tells = false) => {
    const call = it.calls.at(-1);
    call.up();
    await turn();
    if (tells) call.poke();
    call.lost();
    const before = it.calls.length;
    t.mock.timers.tick(waitMs - 1);
    assert.equal(it.calls.length, before, `not before ${waitMs} ms`);
    t.mock.timers.tick(1);
    assert.equal(it.calls.length, before + 1);
  };
  for (const waitMs of [1000, 2000, 4000, 8000]) await end(waitMs);
  await end(1000, true);
});

test("lost or refused, it tries again, later each time, and starts anew once it has lasted", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  t.mock.method(Math, "random", () => 1);
  const it = world();
  it.realtime.follow(true);
  for (const waitMs of [1000, 2000, 4000]) {
    it.calls.at(-1).fail(new Error("refused"));
    await turn();
    assert.equal(it.realtime.state, "polling");
    const before = it.calls.length;
    t.mock.timers.tick(waitMs - 1);
    assert.equal(it.calls.length, before, `not before ${waitMs} ms`);
    t.mock.timers.tick(1);
    assert.equal(it.calls.length, before + 1);
  }
  it.calls.at(-1).up();
  await turn();
  assert.equal(it.realtime.state, "live");
  t.mock.timers.tick(30_000);
  it.calls.at(-1).lost();
  t.mock.timers.tick(1000);
  assert.equal(it.calls.length, 5);
  // Let go while it waits: nothing comes any more.
  it.calls.at(-1).fail(new Error("refused"));
  await turn();
  it.realtime.follow(false);
  t.mock.timers.tick(600_000);
  assert.equal(it.calls.length, 5);
  // Wanted again: at once.
  it.realtime.follow(true);
  assert.equal(it.calls.length, 6);
});

test("a connection whose end cannot be told is let go all the same, and tried again", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  t.mock.method(Math, "random", () => 1);
  let lost;
  let calls = 0;
  const subscribe = async (_, ended) => {
    calls += 1;
    lost = ended;
    return () => {
      throw new Error("it has ended already");
    };
  };
  const realtime = new Realtime(
    subscribe,
    () => {},
    () => {},
  );
  realtime.follow(true);
  await turn();
  lost();
  assert.equal(realtime.state, "polling");
  t.mock.timers.tick(1_000);
  await turn();
  assert.deepEqual([calls, realtime.state], [2, "live"]);
  realtime.follow(false);
  assert.equal(realtime.state, "off");
  realtime.follow(true);
  assert.equal(calls, 3);
});

test("never waits longer than five minutes", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  t.mock.method(Math, "random", () => 1);
  const it = world();
  it.realtime.follow(true);
  for (let i = 0; i < 20; i++) {
    it.calls.at(-1).fail(new Error("refused"));
    await turn();
    t.mock.timers.tick(300_000);
    assert.equal(it.calls.length, i + 2);
  }
});

/** A body that hands out these texts, whatever they break in the middle. */
const body = (...texts) => ReadableStream.from(texts.map((text) => new TextEncoder().encode(text)));

async function heard(...texts) {
  const ids = [];
  await readEvents(body(...texts), (id) => ids.push(id));
  return ids;
}

test("events are read wherever the bytes are cut", async () => {
  const text = ": hello\n\nid: a.1\nevent: poke\ndata: {}\n\nevent:poke\r\nid:b\r\n\r\n";
  assert.deepEqual(await heard(text), ["a.1", "b"]);
  assert.deepEqual(await heard(...text), ["a.1", "b"]);
});

test("other events, comments and unfinished events say nothing", async () => {
  assert.deepEqual(await heard("event: other\n\n: poke\n\ndata: poke\n\nevent: poke\n"), []);
});

test("what JSON takes for a letter and a pattern for the end of a line ends nothing", async () => {
  const text = ': \u2028\n\nid: a\u2029\nevent: poke\ndata: "\u2028"\n\n';
  assert.deepEqual(await heard(text), ["a\u2029"]);
});

test("a line without an end does not fill the memory", async () => {
  let given = 0;
  const endless = new ReadableStream({
    pull(controller) {
      given += 16_384;
      if (given > 10_000_000) return controller.close();
      controller.enqueue(new Uint8Array(16_384).fill(97));
    },
  });
  await readEvents(endless, () => assert.fail("no event"));
  assert.ok(given < 200_000, `${given} bytes were read`);
});

test("a stream that falls silent ends", async () => {
  const silent = new ReadableStream({
    start: (c) => c.enqueue(new TextEncoder().encode(": hi\n")),
  });
  await readEvents(silent, () => assert.fail("no event"), 30);
});

test("a connection that never comes up is given up, and ended where it comes too late", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  t.mock.method(Math, "random", () => 1);
  const it = world();
  it.realtime.follow(true);
  for (let second = 0; second <= 30; second++) t.mock.timers.tick(1_000);
  await turn();
  assert.equal(it.realtime.state, "polling");
  t.mock.timers.tick(1_000);
  assert.equal(it.calls.length, 2);
  it.calls[1].up();
  await turn();
  it.calls[0].up();
  await turn();
  assert.deepEqual([it.realtime.state, it.stopped, it.pokes], ["live", 1, 1]);
  it.realtime.follow(false);
});
