#!/usr/bin/env node
// node probe.mjs [reps]   Unit costs of IndexedDB, OPFS, workers and HTTP in this browser on this machine.
import { mkdtemp, mkdir, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { launch } from "./lib/browser.mjs";
import { loadRecords } from "./lib/dataset.mjs";
import { startServer } from "./lib/server.mjs";
import { ROOT } from "./lib/build.mjs";
import { median } from "./lib/report.mjs";

const reps = Number(process.argv[2] ?? 5);
const server = await startServer({
  records: loadRecords(20000),
  roots: { page: path.join(ROOT, "page") },
});
const runs = [];
for (let i = 0; i < reps; i++) {
  const profile = await mkdtemp(path.join(os.tmpdir(), "landfall-probe-"));
  const browser = await launch(profile, process.env.CHROMIUM);
  try {
    const origin = `http://probe.localhost:${server.port}`;
    const page = await browser.open(`${origin}/page/probe.html`);
    const opts = { api: `${origin}/ns/probe${i}/api/v1` };
    const run = await page.evaluate((o) => window.runProbe(o), opts);
    // As most automation libraries leave it: the driver is told of every request.
    await page.send("Network.enable");
    const watched = await page.evaluate((o) => window.runHttp(o), opts);
    for (const [what, ms] of Object.entries(watched)) run[`${what}, watched by the driver`] = ms;
    runs.push(run);
  } finally {
    await browser.close();
    await rm(profile, { recursive: true, force: true, maxRetries: 5 });
  }
}
const lines = ["| what | median ms | min ms |", "|---|--:|--:|"];
for (const key of Object.keys(runs[0])) {
  const xs = runs.map((r) => r[key]);
  lines.push(`| ${key} | ${median(xs).toFixed(3)} | ${Math.min(...xs).toFixed(3)} |`);
}
await mkdir(path.join(ROOT, "results"), { recursive: true });
await writeFile(path.join(ROOT, "results", "probe.json"), JSON.stringify(runs, null, 1));
await writeFile(path.join(ROOT, "results", "probe.md"), lines.join("\n") + "\n");
console.log(lines.join("\n"));
process.exit(0);
