#!/usr/bin/env node
// node bench.mjs [--only a,b] [--workload W1,W3] [--reps 5] [--json file] [--help]
import { parseArgs } from "node:util";
import { existsSync } from "node:fs";
import { mkdtemp, mkdir, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { launch } from "./lib/browser.mjs";
import { chance, inPage, shuffle, whole } from "./lib/driver.mjs";
import { loadRecords } from "./lib/dataset.mjs";
import { startServer } from "./lib/server.mjs";
import { verifyLandfallPushes } from "./lib/landfall-protocol.mjs";
import { adapterNames, buildAdapter, externalAdapter, sizeOf, ROOT, DIST } from "./lib/build.mjs";
import { medians, toMarkdown } from "./lib/report.mjs";

// Launch 1 writes; launch 2 (same profile, new browser process) starts with the cold open.
const LAUNCHES = [
  ["W1", "W2", "W6", "W9", "W3"],
  ["W7", "W4", "W5", "W8"],
];
const NEEDS_W3 = new Set(LAUNCHES[1]);
const CHECKED_AFTER_RELOAD = new Set(["W1", "W2", "W6"]);
const ALL = LAUNCHES.flat();

const HELP = `node bench.mjs [options]      measures offline-first stores; see README.md

  --only a,b            these contenders (default: all)
  --workload W1,W3      these workloads (default: all)
  --reps 5              repetitions
  --n 20000             records in the bulk workloads
  --limit name=W1,W2    only these workloads for one contender; repeatable
  --contender name=dir  a contender that is already built; repeatable
  --chromium path       the browser (default: $CHROMIUM, then /usr/bin/chromium)
  --timeout 180         seconds for one workload of one contender
  --seed 1              of the random order
  --out path            the report, without extension (default: results/<time>)
  --json file           medians per item in ms, as {"W1": {"landfall": ms, ...}, ...}`;

const args = parse();
if (args.help) {
  console.log(HELP);
  process.exit(0);
}

const reps = wholeNumber("reps");
const bulk = wholeNumber("n");
const timeout = wholeNumber("timeout");
if (bulk < 100) fail("--n: W6 needs 100 records");
const sizes = {
  W1: Math.min(1000, bulk),
  W2: Math.min(1000, bulk),
  W3: bulk,
  W4: 2000,
  W6: 5000,
  W9: bulk,
};
const wanted = new Set(args.workload ? args.workload.split(",") : ALL);
for (const w of wanted)
  if (!ALL.includes(w)) fail(`--workload: there is no ${w}, only ${[...ALL].sort().join(", ")}`);
if (!existsSync(args.chromium)) fail(`--chromium: there is no browser at ${args.chromium}`);
const random = chance(Number(args.seed));

// --limit rxdb=W1,W2 runs only these workloads for that contender.
const limits = new Map(
  args.limit.map((s) => s.split("=")).map(([name, list]) => [name, new Set(list.split(","))]),
);

const contenders = [];
const only = args.only?.split(",");
const known = await adapterNames();
const named = [...known, ...args.contender.map((spec) => spec.split("=")[0])];
for (const name of only ?? [])
  if (!named.includes(name)) fail(`--only: there is no ${name}, only ${named.join(", ")}`);
for (const name of known)
  if (!only || only.includes(name))
    contenders.push(await buildAdapter(name).catch((err) => fail(err.message)));
for (const spec of args.contender) {
  const [name, dir] = spec.split("=");
  if (!name || !dir) fail(`--contender ${spec}: expected name=directory`);
  contenders.push(await externalAdapter(name, dir).catch((err) => fail(err.message)));
}
if (!contenders.length) fail("no contender selected");
for (const name of limits.keys())
  if (!contenders.some((c) => c.name === name)) fail(`--limit: ${name} does not run`);

const records = loadRecords(bulk);
const roots = { page: path.join(ROOT, "page"), dist: DIST };
for (const c of contenders) if (c.external) roots["ext-" + c.name] = c.dir;
const server = await startServer({ records, roots });

const runs = [];
let browserVersion = "";
const startedAt = new Date().toISOString();
const out = args.out ?? path.join(ROOT, "results", startedAt.replace(/[:.]/g, "-"));
for (const file of [out, args.json]) if (file) await mkdir(path.dirname(file), { recursive: true });
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

let markdown = "";
for (let rep = 1; rep <= reps; rep++) {
  for (const c of shuffle(contenders, random)) {
    const t0 = Date.now();
    const results = await runContender(c, rep);
    for (const r of results) {
      runs.push({ contender: c.name, rep, ...r });
      if (r.error) console.error(`  ${c.name} ${r.workload}: ${r.error}`);
    }
    console.error(
      `rep ${rep} ${c.name}: ${((Date.now() - t0) / 1000).toFixed(1)} s, load ${os.loadavg()[0].toFixed(2)}`,
    );
  }
  markdown = await save(rep); // after every repetition, so that a long run can be read or stopped early
}
server.close();
console.log(markdown);
const failed = runs.filter((r) => r.error);
if (failed.length) console.error(`${failed.length} of ${runs.length} runs failed`);
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
    records: records.length,
    seed: args.seed,
    contenders: described,
    runs,
  };
  const md = toMarkdown(report);
  await writeFile(out + ".json", JSON.stringify(report, null, 1));
  await writeFile(out + ".md", md);
  if (args.json) await writeFile(args.json, JSON.stringify(medians(report), null, 1) + "\n");
  return md;
}

async function runContender(c, rep) {
  const profile = await mkdtemp(path.join(os.tmpdir(), "landfall-bench-"));
  const results = [];
  const mine = { ...sizes, ...c.meta.sizes };
  mine.W3 = Math.min(mine.W3, bulk);
  mine.W9 = Math.min(mine.W9, bulk);
  try {
    for (const phase of LAUNCHES) {
      const supported = (w) => !c.meta.unsupported?.[w] && (limits.get(c.name)?.has(w) ?? true);
      const chosen = phase.filter((w) => wanted.has(w) && supported(w));
      const setup =
        phase === LAUNCHES[0] &&
        !wanted.has("W3") &&
        [...NEEDS_W3].some((w) => wanted.has(w) && supported(w))
          ? ["W3"]
          : [];
      if (!chosen.length && !setup.length) continue;
      const browser = await launch(profile, args.chromium);
      browserVersion = browser.version;
      try {
        for (const w of [...chosen, ...setup]) {
          const r = await runWorkload(browser, c, w, rep, mine);
          if (!setup.includes(w)) results.push(r);
          if (w === "W3" && r.error) return results;
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

async function runWorkload(browser, c, workload, rep, mySizes) {
  // One origin per database, so that workloads do not share a backing store.
  const dbOwner = NEEDS_W3.has(workload) ? "W3" : workload;
  const ns = `${c.name}-${rep}-${workload}`;
  server.namespace(ns).total = workload === "W9" ? mySizes.W9 : 0; // a pull finds records only where pulling is timed
  const origin = `http://${dbOwner.toLowerCase()}.localhost:${server.port}`;
  const opts = {
    workload,
    adapterUrl: c.url,
    dbName: "bench",
    api: `${origin}/ns/${ns}/api/v1`,
    sizes: mySizes,
  };
  try {
    const result = await inPage(browser, origin, "runWorkload", opts, timeout);
    if (CHECKED_AFTER_RELOAD.has(workload) && !c.meta.acksInMemory) {
      const { pendingAfter } = result;
      await inPage(browser, origin, "runCheck", { ...opts, pendingAfter }, timeout);
    }
    if (workload === "W8" || workload === "W9") {
      const seen = server.namespace(ns);
      result.requests = seen.requests;
      result.bytes = seen.bytes;
      if (workload === "W8") verifyPushed(seen, mySizes.W3);
    }
    return { workload, load: os.loadavg()[0], ...result };
  } catch (err) {
    return { workload, error: String(err.message ?? err).split("\n")[0] };
  } finally {
    server.drop(ns);
  }
}

function verifyPushed(ns, n) {
  verifyLandfallPushes(ns);
  if (ns.received.size !== n)
    throw new Error(`server received ${ns.received.size} ids, expected ${n}`);
  for (const r of records.slice(0, n)) {
    const got = ns.received.get(r.id)?.data;
    for (const f of Object.keys(r))
      if (got?.[f] !== r[f]) throw new Error(`server has the wrong ${f} for ${r.id}`);
  }
}

function parse() {
  const text = { type: "string" };
  const list = { type: "string", multiple: true, default: [] };
  const chromium = process.env.CHROMIUM ?? "/usr/bin/chromium";
  const options = {
    only: text,
    workload: text,
    contender: list,
    limit: list,
    out: text,
    json: text,
    reps: { ...text, default: "5" },
    n: { ...text, default: "20000" },
    seed: { ...text, default: "1" },
    timeout: { ...text, default: "180" },
    chromium: { ...text, default: chromium },
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

function wholeNumber(option) {
  const n = whole(args[option]);
  return n ?? fail(`--${option}: ${args[option]} is not a whole number above 0`);
}
