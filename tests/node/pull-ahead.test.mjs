// The page after the one that a backend has given is asked for before anybody wants it.
import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { callPull } from "../../src/web/glue.js";

/** A backend of so many pages that notes what it is asked; `fails` has the pages that it refuses. */
function backendOf(count, fails = []) {
  const asked = [];
  return {
    asked,
    async pull(checkpoint, limit, { signal, clientId, refresh }) {
      asked.push({ checkpoint, limit, clientId, refresh, signal });
      const page = Number(checkpoint ?? 0) + 1;
      if (fails.includes(page)) throw new Error(`no page ${page}`);
      return { changes: [], checkpoint: String(page), hasMore: page < count };
    },
  };
}

function pull(backend, checkpoint, { client = "c", refresh = false } = {}) {
  const controller = new AbortController();
  return { controller, page: callPull(backend, checkpoint, 10, controller, client, refresh) };
}

const checkpoints = ({ asked }) => asked.map(({ checkpoint }) => checkpoint);

test("each page is asked for once, and the next one right after it", async () => {
  const backend = backendOf(3);
  assert.equal((await pull(backend, undefined).page).checkpoint, "1");
  assert.deepEqual(checkpoints(backend), [null, "1"], "nobody has wanted it yet");
  assert.equal((await pull(backend, "1").page).checkpoint, "2");
  const last = await pull(backend, "2").page;
  assert.deepEqual([last.checkpoint, last.hasMore], ["3", false]);
  assert.deepEqual(checkpoints(backend), [null, "1", "2"], "there is nothing after the last");
  await pull(backend, "3").page;
  assert.deepEqual(checkpoints(backend), [null, "1", "2", "3"]);
});

test("whoever wants something else asks for it, and gives up what was asked ahead", async () => {
  const cases = [
    ["0", {}],
    ["1", { client: "d" }],
    ["1", { refresh: true }],
  ];
  for (const [checkpoint, how] of cases) {
    const backend = backendOf(9);
    await pull(backend, null).page;
    await pull(backend, checkpoint, how).page;
    const [, ahead, own] = backend.asked;
    assert.equal(ahead.signal.aborted, true);
    const { client = "c", refresh = false } = how;
    assert.deepEqual([own.checkpoint, own.clientId, own.refresh], [checkpoint, client, refresh]);
  }
});

test("who gives a page up gives up the request for it", async () => {
  const backend = backendOf(9);
  await pull(backend, null).page;
  const { controller } = pull(backend, "1");
  assert.equal(backend.asked[1].signal.aborted, false);
  controller.abort();
  assert.equal(backend.asked[1].signal.aborted, true);
});

test("a page that nobody wants within a second is given up", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    const backend = backendOf(9);
    await pull(backend, null).page;
    mock.timers.tick(999);
    assert.equal(backend.asked[1].signal.aborted, false);
    mock.timers.tick(1);
    assert.equal(backend.asked[1].signal.aborted, true);
    assert.equal((await pull(backend, "1").page).checkpoint, "2");
    assert.equal(backend.asked[2].checkpoint, "1", "asked for once more");
  } finally {
    mock.timers.reset();
  }
});

test("a page that fails ahead fails for who wants it, and for nobody else", async () => {
  const unhandled = [];
  const note = (reason) => unhandled.push(reason);
  process.on("unhandledRejection", note);
  const backend = backendOf(9, [2]);
  await pull(backend, null).page;
  await new Promise((resolve) => setTimeout(resolve, 5));
  await assert.rejects(pull(backend, "1").page, /no page 2/);
  assert.deepEqual(checkpoints(backend), [null, "1"]);
  process.off("unhandledRejection", note);
  assert.deepEqual(unhandled, []);
});

test("answers that are none are nobody's business here", async () => {
  for (const answer of [null, 1, {}, { hasMore: true }, { hasMore: true, checkpoint: 7 }]) {
    let asked = 0;
    const backend = { pull: () => ((asked += 1), answer) };
    assert.equal(await pull(backend, null).page, answer);
    assert.equal(asked, 1);
  }
  const still = {
    asked: 0,
    pull: async () => ((still.asked += 1), { hasMore: true, checkpoint: "a" }),
  };
  await pull(still, "a").page;
  assert.equal(still.asked, 1, "a checkpoint that stands still leads nowhere");
  const thrown = { pull: () => assert.fail("thrown at once") };
  await assert.rejects(pull(thrown, null).page, /thrown at once/);
});
