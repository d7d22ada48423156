#!/usr/bin/env node
// node rescue/measure.mjs [reps]   What a batch costs in each place of the rescue copy, and in plain
// IndexedDB, in Chromium ($CHROMIUM) and, where $FIREFOX and $GECKODRIVER name them, in Firefox.
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { launch } from "../lib/browser.mjs";
import { ROOT } from "../lib/build.mjs";
import { median } from "../lib/report.mjs";

const reps = Number(process.argv[2] ?? 5);
const ROOTS = { npm: path.join(ROOT, "../npm"), bench: path.join(ROOT, "rescue") };
const RUNS = {
  indexedDB: ["indexedDB"],
  bucket: ["bucket"],
  "bucket, strict": ["bucket", { durability: "strict" }],
  opfs: ["opfs"],
  cache: ["cache"],
};
const DRIVER_PORT = 4_799;

const server = http.createServer(async (request, response) => {
  const [, root, name] = request.url.split("/");
  const body =
    request.url === "/"
      ? '<!doctype html><script src="/bench/page.js"></script>'
      : await readFile(path.join(ROOTS[root] ?? ROOTS.bench, path.basename(name ?? ""))).catch(
          () => "",
        );
  const type = request.url.endsWith(".js") ? "text/javascript" : "text/html";
  response.writeHead(body ? 200 : 404, { "content-type": type }).end(body);
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const url = `http://127.0.0.1:${server.address().port}/`;

async function inChromium(given) {
  const profile = await mkdtemp(path.join(os.tmpdir(), "landfall-rescue-"));
  const chromium = await launch(profile, process.env.CHROMIUM);
  try {
    const page = await chromium.open(url);
    return await page.evaluate((args) => window.measure(...args), given);
  } finally {
    await chromium.close();
    await rm(profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

async function driver(method, route, body) {
  const response = await fetch(`http://127.0.0.1:${DRIVER_PORT}${route}`, {
    method,
    headers: { "content-type": "application/json" },
    body: body && JSON.stringify(body),
  });
  const { value } = await response.json();
  if (value?.error) throw new Error(value.message);
  return value;
}

async function inFirefox(given) {
  const firefox = { binary: process.env.FIREFOX, args: ["-headless"] };
  const { sessionId } = await driver("POST", "/session", {
    capabilities: {
      alwaysMatch: { "moz:firefoxOptions": firefox, timeouts: { script: 120_000 } },
    },
  });
  try {
    await driver("POST", `/session/${sessionId}/url`, { url });
    const script = `const done = arguments[arguments.length - 1];
      window.measure(...arguments[0]).then(done, (error) => done({ error: String(error) }));`;
    const result = await driver("POST", `/session/${sessionId}/execute/async`, {
      script,
      args: [given],
    });
    if (result.error) throw new Error(result.error);
    return result;
  } finally {
    await driver("DELETE", `/session/${sessionId}`);
  }
}

async function report(browser, run) {
  for (const [name, given] of Object.entries(RUNS)) {
    const results = [];
    try {
      for (let i = 0; i < reps; i++) results.push(await run(given));
    } catch (error) {
      console.log(`${browser} | ${name} | ${error.message.split("\n")[0]}`);
      continue;
    }
    const cells = Object.keys(results[0]).map(
      (key) => `${key} ${median(results.map((result) => result[key])).toFixed(2)}`,
    );
    console.log(`${browser} | ${name} | ${cells.join(" | ")}`);
  }
}

await report("Chromium", inChromium);
if (process.env.FIREFOX && process.env.GECKODRIVER) {
  const child = spawn(process.env.GECKODRIVER, ["--port", String(DRIVER_PORT)], {
    stdio: "ignore",
  });
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  await report("Firefox", inFirefox).finally(() => child.kill());
}
server.close();
