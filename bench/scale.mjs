#!/usr/bin/env node
// node scale.mjs [--reps 3] [--sizes 2000,20000,200000] [--help]
import { parseArgs } from "node:util";
import { existsSync } from "node:fs";
import { mkdtemp, mkdir, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { launch } from "./lib/browser.mjs";
import { loadRecords } from "./lib/dataset.mjs";
import { chance, inPage, shuffle, whole } from "./lib/driver.mjs";
import { startServer } from "./lib/server.mjs";
import { adapterNames, buildAdapter, sizeOf, ROOT, DIST } from "./lib/build.mjs";
import { scalingPlot } from "./lib/plot.mjs";

// As in bench.mjs: the browser is started anew between the two, so that the open is cold. The
// updates come last, for they change the database.
const LAUNCHES = [["W3"], ["W7", "W4", "memory", "W6n"]];
const POINT_READS = 2000;
const UPDATES = 5000;
const IDLE_MS = 2000;

const HELP = `node scale.mjs [options]      cost and memory against the number of records; see README.md

  --sizes 2000,20000,200000   records in the database
  --only landfall,raw-idb     these contenders
  --reps 3                    repetitions
  --chromium path             the browser (default: $CHROMIUM, then /usr/bin/chromium)
  --timeout 900               seconds for one workload of one contender
  --seed 1                    of the random order
  --out path                  the report (default: results/scale.json)
  --svg path                  the plot (default: scaling.svg)`;

const args = parse();
if (args.help) {
  console.log(HELP);
  process.exit(0);
}
const number = (option, text = args[option]) =>
  whole(text) ?? fail(`--${option}: ${text} is not a whole number above 0`);
const [reps, timeout] = [number("reps"), number("timeout")];
const sizes = args.sizes.split(",").map((text) => number("sizes", text));
if (Math.min(...sizes) < 100) fail("--sizes: W6 needs 100 records");
if (!existsSync(args.chromium)) fail(`--chromium: there is no browser at ${args.chromium}`);
const random = chance(Number(args.seed));

const known = await adapterNames();
const contenders = [];
for (const name of args.only.split(",")) {
  if (!known.includes(name)) fail(`--only: there is no ${name}, only ${known.join(", ")}`);
  contenders.push(await buildAdapter(name).catch((err) => fail(err.message)));
}
const described = await Promise.all(
  contenders.map(async ({ name, meta, versions, dir }) => ({
    name,
    meta,
    versions,
    size: await sizeOf(dir),
  })),
);

// So that the browser is ended as well.
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1));

const runs = [];
let browserVersion = "";
const startedAt = new Date().toISOString();
for (const file of [args.out, args.svg]) await mkdir(path.dirname(file), { recursive: true });
for (let rep = 1; rep <= reps; rep++) {
  for (const size of sizes) {
    const server = await startServer({
      records: loadRecords(size),
      roots: { page: path.join(ROOT, "page"), dist: DIST },
    });
    for (const c of shuffle(contenders, random)) {
      const t0 = Date.now();
      for (const r of await runContender(server, c, size, rep)) {
        runs.push({ contender: c.name, size, rep, ...r });
        if (r.error) console.error(`  ${c.name} ${r.workload}: ${r.error}`);
      }
      const took = ((Date.now() - t0) / 1000).toFixed(1);
      console.error(`rep ${rep} ${size} ${c.name}: ${took} s, load ${os.loadavg()[0].toFixed(2)}`);
    }
    server.close();
    await save(rep); // so that a long run can be read or stopped early
  }
}
const failed = runs.filter((r) => r.error);
if (failed.length) console.error(`${failed.length} of ${runs.length} runs failed`);
console.log(`${args.out}\n${args.svg}`);
process.exit(failed.length ? 1 : 0);

async function save(repsDone) {
  const report = {
    date: startedAt,
    browser: browserVersion,
    node: process.version,
    cpu: os.cpus()[0].model,
    cores: os.cpus().length,
    reps: repsDone,
    sizes,
    seed: args.seed,
    contenders: described,
    runs,
  };
  await writeFile(args.out, JSON.stringify(report, null, 1) + "\n");
  await writeFile(args.svg, scalingPlot(report));
}

async function runContender(server, c, size, rep) {
  const profile = await mkdtemp(path.join(os.tmpdir(), "landfall-bench-"));
  const results = [];
  try {
    for (const workloads of LAUNCHES) {
      const browser = await launch(profile, args.chromium);
      browserVersion = browser.version;
      try {
        for (const workload of workloads) {
          const r = await runWorkload(server, browser, c, workload, size, rep);
          results.push(r);
          if (workload === "W3" && r.error) return results;
        }
      } finally {
        await browser.close();
      }
    }
  } finally {
    await rm(profile, { recursive: true, force: true, maxRetries: 5 });
  }
  return results;
}

async function runWorkload(server, browser, c, workload, size, rep) {
  const origin = `http://scale.localhost:${server.port}`;
  const ns = `${c.name}-${rep}-${workload}`;
  const opts = {
    workload,
    adapterUrl: c.url,
    dbName: "bench",
    api: `${origin}/ns/${ns}/api/v1`,
    sizes: { W3: size, W4: POINT_READS, W6: UPDATES },
  };
  try {
    if (workload === "memory") {
      const bytes = await inPage(browser, origin, "runMemory", opts, timeout, memoryOf);
      return { workload, ...bytes };
    }
    const result = await inPage(browser, origin, "runWorkload", opts, timeout);
    if (workload === "W6n") await inPage(browser, origin, "runCheck", opts, timeout);
    return { workload, load: os.loadavg()[0], ...result };
  } catch (err) {
    return { workload, error: String(err.message ?? err).split("\n")[0] };
  } finally {
    server.drop(ns);
  }
}

/** What the page holds once it is idle and its garbage is collected. */
async function memoryOf(page) {
  await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
  for (let turn = 0; turn < 2; turn++) await page.send("HeapProfiler.collectGarbage");
  const { usedSize, backingStorageSize = 0 } = await page.send("Runtime.getHeapUsage");
  const wasmBytes = await page.evaluate(() => window.wasmBytes());
  // Memory of wasm may or may not be among the backing stores; it is counted once.
  const heapBytes = usedSize + Math.max(0, backingStorageSize - wasmBytes);
  return { heapBytes, wasmBytes, bytes: heapBytes + wasmBytes };
}

function parse() {
  const text = (value) => ({ type: "string", default: value });
  const options = {
    sizes: text("2000,20000,200000"),
    only: text("landfall,raw-idb"),
    reps: text("3"),
    seed: text("1"),
    timeout: text("900"),
    chromium: text(process.env.CHROMIUM ?? "/usr/bin/chromium"),
    out: text(path.join(ROOT, "results/scale.json")),
    svg: text(path.join(ROOT, "scaling.svg")),
    help: { type: "boolean", short: "h" },
  };
  try {
    return parseArgs({ options }).values;
  } catch (err) {
    return fail(`${err.message}\n\n${HELP}`);
  }
}

function fail(message) {
  console.error(message);
  process.exit(2);
}
