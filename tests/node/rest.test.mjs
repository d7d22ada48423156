import assert from "node:assert/strict";
import http from "node:http";
import test from "node:test";
import { gunzipSync } from "node:zlib";
import { rest, retryAfter } from "../../npm/rest.js";
import { callPush } from "../../src/web/glue.js";

const context = () => ({ signal: new AbortController().signal, clientId: "c", refresh: false });

/** Runs `use` with a backend on a server that answers by `handle`. */
async function withServer(handle, use, options = {}) {
  const server = http.createServer(handle);
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    await use(rest({ url: `http://127.0.0.1:${server.address().port}/sync/`, ...options }));
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

const failing = (promise, wanted) =>
  assert.rejects(promise, (error) => {
    for (const [name, value] of Object.entries(wanted)) assert.equal(error[name], value, name);
    return error.name === "BackendError";
  });

const body = async (request) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks);
};

test("a push is as the protocol says, compressed when it is large", async () => {
  let seen;
  const answer = async (request, response) => {
    seen = { url: request.url, headers: request.headers, body: await body(request) };
    response.setHeader("content-type", "application/json");
    response.end('{"results":[]}');
  };
  await withServer(
    answer,
    async (backend) => {
      const small = await backend.push([{ id: "c.1" }], context());
      assert.deepEqual(JSON.parse(seen.body), {
        protocol: 1,
        clientId: "c",
        changes: [{ id: "c.1" }],
      });
      assert.equal(seen.url, "/sync/batch");
      assert.equal(seen.headers.authorization, "Bearer t");
      assert.ok(Math.abs(small.serverTime - Date.now()) < 5_000);
      await backend.push([{ id: "x".repeat(5_000) }], context());
      assert.equal(seen.headers["content-encoding"], "gzip");
      assert.equal(JSON.parse(gunzipSync(seen.body)).changes[0].id.length, 5_000);
    },
    { headers: async () => ({ authorization: "Bearer t" }) },
  );
});

test("a pull escapes its checkpoint", async () => {
  let url;
  const answer = (request, response) => {
    url = request.url;
    response.end('{"changes":[],"checkpoint":"x","hasMore":false}');
  };
  await withServer(answer, async (backend) => {
    await backend.pull("a&b=c/ü", 10, context());
    assert.equal(new URL(url, "http://h").searchParams.get("since"), "a&b=c/ü");
    await backend.pull(null, 10, context());
    assert.equal(new URL(url, "http://h").searchParams.has("since"), false);
  });
});

test("refusals carry status, code, message and Retry-After", async () => {
  const answer = (request, response) => {
    response.writeHead(429, { "retry-after": "7", "content-type": "application/problem+json" });
    response.end('{"title":"Slow down","detail":"too many requests","code":"rate-limited"}');
  };
  await withServer(answer, (backend) =>
    failing(backend.pull(null, 1, context()), {
      status: 429,
      code: "rate-limited",
      message: "too many requests",
      retryAfterMs: 7_000,
    }),
  );
});

test("answers that are no answers are told apart", async () => {
  const html = (request, response) => response.end("<!doctype html><h1>Sign in to the Wi-Fi</h1>");
  await withServer(html, (backend) =>
    failing(backend.pull(null, 1, context()), { code: "protocol-error" }),
  );
  const nothing = (request, response) => response.end("null");
  await withServer(nothing, (backend) =>
    failing(backend.pull(null, 1, context()), { code: "protocol-error" }),
  );
  const cut = (request) => request.socket.destroy();
  await withServer(cut, (backend) => failing(backend.pull(null, 1, context()), { status: 0 }));
});

test("an answer that says that it is too large is not waited for", async () => {
  let ended;
  const over = new Promise((resolve) => (ended = resolve));
  const answer = (request, response) => {
    response.setHeader("content-length", String(100 * 1024 * 1024));
    response.write("{");
    response.on("close", ended);
  };
  await withServer(answer, async (backend) => {
    await failing(backend.pull(null, 1, context()), { code: "protocol-error" });
    const late = new Promise((resolve) => setTimeout(resolve, 2_000, "still open"));
    assert.equal(await Promise.race([over, late]), undefined);
  });
});

test("silence ends at the time limit, also with a fetch that ignores its signal", async () => {
  const silent = () => {};
  await withServer(
    silent,
    (backend) => failing(backend.pull(null, 1, context()), { code: "timeout" }),
    {
      timeout: 50,
    },
  );
  const deaf = { timeout: 50, fetch: () => new Promise(() => {}) };
  await withServer(
    silent,
    (backend) => failing(backend.pull(null, 1, context()), { code: "timeout" }),
    deaf,
  );
});

test("a cancelled request fails at once", async () => {
  await withServer(
    () => {},
    async (backend) => {
      const controller = new AbortController();
      const pending = backend.pull(null, 1, { ...context(), signal: controller.signal });
      setTimeout(() => controller.abort(), 20);
      await failing(pending, { status: 0 });
    },
  );
});

test("an app's own push in a copy of the backend takes its place", async () => {
  const asked = [];
  const answer = async (request, response) => {
    asked.push(JSON.parse(await body(request)).changes);
    response.end('{"results":[]}');
  };
  await withServer(answer, async (backend) => {
    const push = (backend) => callPush(backend, ['{"id":"1"}'], new AbortController(), "c", false);
    await push(backend);
    await push({
      ...backend,
      push: (changes, how) => backend.push([...changes, { id: "2" }], how),
    });
  });
  assert.deepEqual(asked, [[{ id: "1" }], [{ id: "1" }, { id: "2" }]]);
});

test("a stream that is none is refused", async () => {
  let type = "text/html";
  const answer = (request, response) => {
    response.setHeader("content-type", type);
    response.flushHeaders();
  };
  const options = { realtime: true };
  await withServer(
    answer,
    async ({ subscribe }) => {
      await failing(
        subscribe(
          () => {},
          () => {},
        ),
        { code: "protocol-error", status: 200 },
      );
      type = "text/event-stream; charset=utf-8";
      const ended = new Promise((resolve) => {
        subscribe(() => {}, resolve).then((stop) => stop());
      });
      await ended;
    },
    options,
  );
});

test("a poke that tells what a pull has brought is heard only if nobody wants that page after all", async () => {
  let stream;
  const body = new ReadableStream({ start: (controller) => (stream = controller) });
  const fetch = async (url) =>
    url.endsWith("/stream")
      ? new Response(body, { headers: { "content-type": "text/event-stream" } })
      : Response.json({ changes: [], checkpoint: "2", hasMore: false });
  const backend = rest({ url: "/sync", realtime: true, fetch });
  let pokes = 0;
  await backend.subscribe(
    () => (pokes += 1),
    () => {},
  );
  const tell = async (checkpoint) => {
    stream.enqueue(new TextEncoder().encode(`id: ${checkpoint}\nevent: poke\n\n`));
    await new Promise((resolve) => setTimeout(resolve, 5));
    return pokes;
  };
  assert.equal(await tell("2"), 1);
  const ahead = new AbortController();
  await backend.pull("1", 10, { ...context(), signal: ahead.signal });
  assert.equal(await tell("2"), 1, "it is there already");
  ahead.abort();
  assert.equal(pokes, 2, "it was not wanted");
  assert.equal(await tell("2"), 3);
  await backend.pull("1", 10, context());
  assert.equal(await tell("2"), 3);
  assert.equal(await tell("3"), 4);
  stream.close();
});

test("wrong options are refused", () => {
  const wrong = [undefined, {}, { url: 7 }, { url: "/x", headers: {} }, { url: "/x", timeout: 0 }];
  for (const options of wrong) {
    assert.throws(() => rest(options), { name: "LandfallError", code: "invalid-options" });
  }
});

test("Retry-After is seconds or a date", () => {
  assert.equal(retryAfter("3"), 3_000);
  assert.equal(retryAfter("Thu, 01 Jan 1970 00:00:10 GMT", 4_000), 6_000);
  assert.equal(retryAfter("Thu, 01 Jan 1970 00:00:10 GMT", 40_000), 0);
  assert.equal(retryAfter("soon"), undefined);
  assert.equal(retryAfter(null), undefined);
});

test("credentials that are no header are told, but not what they are", async () => {
  const told = async (run) => {
    const error = await run().then(
      () => assert.fail("it was sent"),
      (error) => error,
    );
    assert.equal(error.name, "BackendError");
    assert.match(error.message, /^headers: /);
    assert.ok(!/secret/.test(`${error.message} ${error.stack} ${error.cause}`), error.message);
  };
  for (const authorization of ["Bearer top\nsecret", "Bearer secret€"]) {
    const headers = () => ({ authorization });
    const backend = rest({ url: "http://127.0.0.1:9/sync", headers, realtime: true });
    await told(() => backend.pull(null, 10, context()));
    await told(async () => backend.subscribe(assert.fail, assert.fail));
  }
});

test("a time limit beyond what timers can count is none, not one of no time", async () => {
  const answer = (_, response) => setTimeout(() => response.end('{"changes":[]}'), 30);
  for (const timeout of [2 ** 31, 1e15]) {
    await withServer(answer, (backend) => backend.pull(null, 10, context()), { timeout });
  }
});
