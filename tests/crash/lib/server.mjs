// One HTTP server for all three pages, each under a host name of its own: `landfall.localhost`,
// `raw.localhost`, `dexie.localhost`. Same port in all rounds, for the browser keeps data by origin.
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { gunzipSync } from "node:zlib";
import { sleep } from "../../e2e/lib/within.mjs";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".wasm": "application/wasm",
};

const LATENCY_MS_MAX = 30;

/** How the network of a page is: what becomes of one request. */
function fate(mode, dice) {
  if (mode === "offline") return dice.chance(0.5) ? "refuse" : "cut";
  if (mode === "online" || dice.chance(0.8)) return "answer";
  return dice.pick(["refuse", "cut", "lose"]);
}

export class Server {
  #http = createServer((request, response) => {
    this.#serve(request, response).catch((error) => {
      // A killed browser hangs up in the middle; anything else is a fault of this script.
      if (error.code !== "ECONNRESET" && error.message !== "aborted") this.faults.push(error);
      response.destroy();
    });
  });
  #folders;
  /** Page → what `/plan` answers. */
  plans = new Map();
  /** User → its server. */
  backends = new Map();
  /** Page → "online", "offline" or "flaky". */
  modes = new Map();
  /** Requests that reached a backend. */
  requests = 0;
  faults = [];
  dice;

  constructor(folders, dice) {
    this.#folders = folders;
    this.dice = dice;
  }

  async listen() {
    await new Promise((resolve, reject) => {
      this.#http.once("error", reject);
      this.#http.listen(0, "127.0.0.1", resolve);
    });
    return this.#http.address().port;
  }

  close() {
    this.#http.closeAllConnections();
    this.#http.close();
  }

  async #serve(request, response) {
    const page = request.headers.host.split(".")[0];
    const url = new URL(request.url, "http://localhost");
    const [, first, user, what] = url.pathname.split("/");
    if (first === "plan") return json(response, this.plans.get(page) ?? []);
    if (first !== "api" && first !== "peer") return this.#file(url.pathname, response);

    const text = await body(request);
    const way = fate(this.modes.get(page), this.dice);
    if (way === "cut") return response.destroy();
    if (way === "refuse") return json(response, { title: "unavailable", code: "unavailable" }, 503);
    await sleep(this.dice.int(0, LATENCY_MS_MAX));
    this.requests += 1;
    const backend = this.backends.get(user);
    let answer = {};
    if (first === "peer") backend.push(JSON.parse(text));
    else if (what === "batch") answer = backend.push(JSON.parse(text));
    else {
      const { searchParams: query } = url;
      answer = backend.pull(Number(query.get("since") ?? 0), Number(query.get("limit") ?? 500));
    }
    // Some answers arrive only after a while, so that a kill falls between effect and answer.
    await sleep(this.dice.int(0, LATENCY_MS_MAX));
    if (way === "lose") return response.destroy();
    json(response, answer);
  }

  async #file(path, response) {
    const [, root, ...rest] = (path === "/" ? "/page/index.html" : path).split("/");
    const folder = this.#folders[root] ?? this.#folders.page;
    const name = normalize(rest.join("/") || root);
    try {
      const content = await readFile(join(folder, name));
      const type = TYPES[extname(name)] ?? "text/plain";
      response.writeHead(200, { "content-type": type, "cache-control": "no-store" }).end(content);
    } catch {
      response.writeHead(404).end();
    }
  }
}

async function body(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  const all = Buffer.concat(parts);
  return (request.headers["content-encoding"] === "gzip" ? gunzipSync(all) : all).toString();
}

function json(response, value, status = 200) {
  response.writeHead(status, { "content-type": "application/json", "cache-control": "no-store" });
  response.end(JSON.stringify(value));
}
