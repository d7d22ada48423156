// A TCP proxy that can be cut: every connection is torn down and new ones are refused. A browser's
// own offline switch leaks (workers, open streams), so this is the cut that counts.
import net from "node:net";

const API_REQUEST = /^(GET|POST|PUT) \/api\/v1\/sync\//;

/** Starts a proxy to `targetPort` on this machine; `port` stays the same over cut and heal. */
export async function startCutProxy(targetPort) {
  const sockets = new Set();
  let server;
  let port = 0;
  let requests = 0;

  function connected(client) {
    const upstream = net.connect({ host: "127.0.0.1", port: targetPort });
    for (const socket of [client, upstream]) {
      socket.setNoDelay(true);
      sockets.add(socket);
      socket.on("close", () => {
        sockets.delete(socket);
        client.destroy();
        upstream.destroy();
      });
      socket.on("error", () => {});
    }
    client.on("data", (chunk) => {
      // Browsers do not pipeline: a request begins where a chunk does.
      if (API_REQUEST.test(chunk.subarray(0, 40).toString("latin1"))) requests += 1;
    });
    client.pipe(upstream);
    upstream.pipe(client);
  }

  async function heal() {
    if (server) return;
    const next = net.createServer(connected);
    await new Promise((resolve, reject) => {
      next.once("error", reject);
      next.listen(port, "127.0.0.1", resolve);
    });
    server = next;
    port = next.address().port;
  }

  async function cut() {
    if (!server) return;
    const closed = new Promise((resolve) => server.close(resolve));
    server = undefined;
    for (const socket of sockets) socket.destroy();
    await closed;
  }

  await heal();
  return {
    port,
    origin: `http://127.0.0.1:${port}`,
    cut,
    heal,
    stop: cut,
    /** Requests to the API that came this far. */
    get requests() {
      return requests;
    },
  };
}
