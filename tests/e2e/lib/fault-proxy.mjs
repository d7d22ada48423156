// An HTTP proxy that does to requests what networks and servers do: loses answers, says 500, never
// answers, answers something else.
import http from "node:http";
import { gunzipSync } from "node:zlib";

/** Starts a proxy to `targetPort`; without rules it passes everything on. */
export async function startFaultProxy(targetPort) {
  /** Each: `{ match, left, act }`; the first that matches and is not used up acts. */
  const rules = [];
  /** What came: `{ method, path, at, body, open }`; `open` while an answer is under way. */
  const requests = [];
  const agent = new http.Agent({ keepAlive: true });

  const server = http.createServer(async (request, response) => {
    try {
      const body = await readAll(request);
      const path = new URL(request.url, "http://x").pathname;
      const seen = { method: request.method, path, at: Date.now(), body: decoded(request, body) };
      if (path.startsWith("/api/")) requests.push(seen);
      const rule = rules.find((one) => one.left > 0 && one.match === `${seen.method} ${path}`);
      if (!rule) return await relay(request, body, response, seen);
      rule.left -= 1;
      rule.used += 1;
      const plain = { ...request.headers, "accept-encoding": "identity" };
      await rule.act({
        ...seen,
        /** Lets the server have the request; answers what it said, not compressed. */
        forward: () => forward(request, body, plain),
        answer: (status, headers, text) => pass(response, { status, headers, body: text }),
        /** The connection breaks, with no answer. */
        drop: () => request.socket.destroy(),
      });
    } catch {
      request.socket.destroy();
    }
  });

  /** As it comes: a stream has no end to wait for. */
  function relay(request, body, response, seen) {
    return new Promise((resolve, reject) => {
      const { method, url: path, headers } = request;
      const upstream = http.request(
        { host: "127.0.0.1", port: targetPort, method, path, headers, agent },
        (answer) => {
          seen.open = true;
          response.writeHead(answer.statusCode, kept(answer.headers));
          // A stream's first event may be long in coming.
          response.flushHeaders();
          answer.on("error", reject);
          answer.pipe(response);
        },
      );
      upstream.on("error", reject);
      response.on("close", () => {
        seen.open = false;
        upstream.destroy();
        resolve();
      });
      upstream.end(body);
    });
  }

  function forward(request, body, headers) {
    return new Promise((resolve, reject) => {
      const { method, url: path } = request;
      const upstream = http.request(
        { host: "127.0.0.1", port: targetPort, method, path, headers, agent },
        async (answer) => {
          try {
            const { statusCode: status, headers: back } = answer;
            resolve({ status, headers: back, body: await readAll(answer) });
          } catch (error) {
            reject(error);
          }
        },
      );
      upstream.on("error", reject);
      upstream.end(body);
    });
  }

  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: server.address().port,
    requests,
    /** `"POST /api/v1/sync/batch"`; answers the rule, whose `used` counts and whose `stop` ends it. */
    on(match, act, times = Infinity) {
      const rule = { match, act, left: times, used: 0, stop: () => (rule.left = 0) };
      rules.unshift(rule);
      return rule;
    },
    async stop() {
      agent.destroy();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export const BATCH = "POST /api/v1/sync/batch";
export const PULL = "GET /api/v1/sync/pull";
export const STREAM = "GET /api/v1/sync/stream";

export const json = { "content-type": "application/json" };

async function readAll(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function decoded(request, body) {
  if (body.length === 0) return undefined;
  const plain = request.headers["content-encoding"] === "gzip" ? gunzipSync(body) : body;
  try {
    return JSON.parse(plain.toString("utf8"));
  } catch {
    return undefined;
  }
}

function pass(response, { status, headers, body }) {
  response.writeHead(status, kept(headers));
  response.end(body);
}

/** The headers without those that are about the connection. */
function kept(headers) {
  const end = { ...headers };
  for (const name of ["transfer-encoding", "connection", "content-length"]) delete end[name];
  return end;
}
