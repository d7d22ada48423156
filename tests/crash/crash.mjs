// The crash test: see README.md. `cargo xtask crash` runs it.
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { printReport, summaryLine, toJson } from "./lib/report.mjs";
import { Run } from "./lib/run.mjs";
import { TITLES } from "./lib/subject.mjs";

const HERE = dirname(fileURLToPath(import.meta.url));
const ROOT = join(HERE, "../..");

const { values } = parseArgs({
  options: {
    chromium: { type: "string" },
    rounds: { type: "string", default: "40" },
    seed: { type: "string" },
    wipe: { type: "boolean", default: false },
    durability: { type: "string", default: "relaxed" },
    json: { type: "string" },
    out: { type: "string", default: join(ROOT, "target/crash") },
    // The package under test: another folder to see that a broken one is noticed.
    package: { type: "string", default: join(ROOT, "npm") },
    // The first is landfall; the others are there to compare.
    stores: { type: "string", default: Object.keys(TITLES).join(",") },
    // Only rounds of this kind.
    kind: { type: "string" },
    verbose: { type: "boolean", default: false },
  },
});

function usage(message) {
  console.error(`${message}; see tests/crash/README.md`);
  process.exit(2);
}

const number = (name, text) => {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) usage(`--${name}: not a number: ${text}`);
  return value;
};

if (!values.chromium) usage("--chromium is missing");
if (!["relaxed", "strict"].includes(values.durability)) usage("--durability: relaxed or strict");

const options = {
  chromium: values.chromium,
  rounds: number("rounds", values.rounds),
  seed: values.seed === undefined ? Date.now() % 1_000_000 : number("seed", values.seed),
  wipe: values.wipe,
  durability: values.durability,
  out: resolve(values.out),
  stores: values.stores.split(","),
  kind: values.kind ?? null,
  verbose: values.verbose,
  folders: {
    page: join(HERE, "page"),
    landfall: resolve(values.package),
    "dexie.mjs": join(ROOT, "bench/node_modules/dexie/dist"),
  },
};
if (options.stores[0] !== "landfall" || !options.stores.every((name) => name in TITLES)) {
  usage(`--stores: landfall, and any of ${Object.keys(TITLES).slice(1).join(", ")}`);
}
if (options.rounds < 1) usage("--rounds: at least 1");

const run = new Run(options);
const started = Date.now();
console.log(
  `${options.rounds} rounds, seed ${options.seed}, durability ${options.durability}` +
    (options.wipe ? ", the browser's files damaged after most kills" : ""),
);
try {
  await run.all();
} catch (error) {
  console.error(error);
  process.exit(2);
}
const took = Math.round((Date.now() - started) / 1_000);
if (values.json) {
  const path = resolve(values.json);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, `${JSON.stringify(toJson(run, options, took), null, 1)}\n`);
}
const { failed } = printReport(run, took);
console.log(summaryLine(run.subjects.get("landfall").totals));
process.exitCode = failed > 0 ? 1 : 0;
