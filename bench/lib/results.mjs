// RESULTS.md from a report of bench.mjs and one of scale.mjs.
import { pairedRatio } from "./paired.mjs";
import { PANELS, compact, series, valueOf } from "./plot.mjs";
import { median, medians } from "./report.mjs";

const OURS = "landfall";
const BASE = "raw-idb";

/** What landfall is meant to reach, as a share of raw IndexedDB's time, and for the package in KB. */
export const TARGETS = {
  W1: 1.0,
  W2: 0.03,
  W3: 0.03,
  W4: 0.02,
  W5: 0.1,
  W6: 0.01,
  W7: 0.5,
  W8: 0.4,
  W9: 0.1,
};
export const SIZE_TARGET_KB = 80;

const TITLES = {
  W1: ["creates one after the other, each awaited", "ms per 1,000", 1000],
  W2: ["creates issued at once", "ms per 1,000", 1000],
  W3: ["creates in one bulk call", "ms per 20,000", 20_000],
  W4: ["point reads, one after the other", "ms per 2,000", 2000],
  W5: ["records read in one call", "ms per 20,000", 20_000],
  W6: ["updates to 100 records, issued at once", "ms per 5,000", 5000],
  W7: ["cold open to the pending count", "ms", 1],
  W8: ["entries pushed", "ms per 20,000", 20_000],
  W9: ["records pulled into an empty store", "ms per 20,000", 20_000],
};

const share = (x) => (x < 0.1 ? x.toFixed(3) : compact(x));
const count = (x) => x.toLocaleString("en-US");
const kb = (bytes) => (bytes / 1000).toFixed(1);
const table = (head, align, rows) =>
  [head, align, ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");

function machine({ date, browser, node, cpu, cores, reps }) {
  const times = reps === 1 ? "1 repetition" : `${reps} repetitions`;
  return `${date.slice(0, 10)}, Chromium ${browser}, Node ${node}, ${cores} × ${cpu}, ${times}`;
}

/** How much a fixed piece of CPU work varied: `{ low, middle, p90, high }` in ms. */
export function noise({ runs }) {
  const times = runs.map((r) => r.calibrationMs).filter(Number.isFinite);
  times.sort((a, b) => a - b);
  if (!times.length) return undefined;
  const p90 = times[Math.floor(times.length * 0.9)];
  return { low: times[0], middle: median(times), p90, high: times.at(-1) };
}

function noiseText(report) {
  const found = noise(report);
  if (!found) return "";
  const [low, middle, p90, high] = Object.values(found).map(compact);
  return (
    `A fixed piece of CPU work, done before every run, took ${low} to ${high} ms, ` +
    `median ${middle}, 90 % below ${p90}: differences of that size mean nothing.`
  );
}

function targets(report, workloads) {
  const rows = workloads.map((w) => {
    const found = pairedRatio(report.runs, OURS, BASE, w);
    const [title] = TITLES[w];
    const items = report.runs.find((r) => r.workload === w && r.contender === OURS && !r.error)?.n;
    const what = w === "W7" ? title : `${items ? `${count(items)} ` : ""}${title}`;
    if (!found) return [w, what, TARGETS[w].toFixed(2), "–", "–", "not measured"];
    const verdict = found.ratio <= TARGETS[w] ? "met" : "**missed**";
    // Fewer pairs have no interval worth the name.
    const interval = found.pairs < 3 ? "–" : `${share(found.low)} to ${share(found.high)}`;
    return [w, what, TARGETS[w].toFixed(2), share(found.ratio), interval, verdict];
  });
  const size = report.contenders.find(({ name }) => name === OURS)?.size;
  if (size) {
    const verdict = size.gzip <= SIZE_TARGET_KB * 1000 ? "met" : "**missed**";
    const shipped = `${kb(size.gzip)} KB`;
    rows.push(["S1", "bytes to ship, gzip", `${SIZE_TARGET_KB} KB`, shipped, "", verdict]);
  }
  const head = ["", "what", "at most", "landfall", "95 % interval", ""];
  return table(head, ["---", "---", "--:", "--:", "--:", "---"], rows);
}

function ratios(report, workloads) {
  const costs = medians(report);
  const sizeOf = (name, w) =>
    report.runs.find((r) => r.contender === name && r.workload === w && !r.error)?.n;
  const rows = report.contenders.map(({ name, meta }) => [
    name === OURS ? `**${name}**` : name,
    ...workloads.map((w) => {
      if (meta.unsupported?.[w]) return "n/a";
      const ratio = costs[w]?.[name] / costs[w]?.[BASE];
      if (Number.isNaN(ratio)) return costs[w]?.[name] === undefined ? "–" : "?";
      return share(ratio) + (sizeOf(name, w) === sizeOf(BASE, w) ? "" : " \\*");
    }),
  ]);
  return table(["contender", ...workloads], ["---", ...workloads.map(() => "--:")], rows);
}

/** Who was measured less often than the report says: runs of a few contenders may have been joined to it. */
function fewer({ contenders, runs, reps }) {
  const times = ({ name }) =>
    new Set(runs.filter((r) => r.contender === name).map((r) => r.rep)).size;
  const less = contenders.filter((c) => times(c) < reps).map((c) => `${c.name} ${times(c)}`);
  return less.length ? `Measured in fewer repetitions: ${less.join(", ")}.` : "";
}

function absolutes(report, workloads) {
  const costs = medians(report);
  const rows = report.contenders.map(({ name }) => [
    name === OURS ? `**${name}**` : name,
    ...workloads.map((w) => {
      const cost = costs[w]?.[name];
      return cost === undefined ? "–" : compact(cost * TITLES[w][2]);
    }),
  ]);
  const head = ["contender", ...workloads.map((w) => `${w}, ${TITLES[w][1]}`)];
  return table(head, ["---", ...workloads.map(() => "--:")], rows);
}

function versions(report) {
  const rows = report.contenders.map(({ name, meta, versions: packages, size }) => [
    name,
    Object.entries(packages)
      .map(([p, v]) => `${p} ${v}`)
      .join(", ") || "–",
    meta.durability,
    meta.ack,
    `${kb(size.gzip)} KB`,
    meta.notes ?? "",
  ]);
  const head = ["contender", "versions", "durability", "acknowledges when", "gzip", "notes"];
  return table(head, ["---", "---", "---", "---", "--:", "---"], rows);
}

function scaling(scale) {
  const names = scale.contenders.map(({ name }) => name);
  const sizes = [...scale.sizes].sort((a, b) => a - b);
  const rows = [];
  for (const { workload, title, unit } of PANELS) {
    for (const name of names) {
      const found = new Map(series(scale, name, workload).map(({ size, value }) => [size, value]));
      const cells = sizes.map((size) => {
        if (!found.has(size)) return "–";
        const all = scale.runs
          .filter((r) => r.contender === name && r.workload === workload)
          .filter((r) => r.size === size && !r.error)
          .map(valueOf);
        const range = `${compact(Math.min(...all))}–${compact(Math.max(...all))}`;
        return `${compact(found.get(size))}${all.length > 1 ? ` (${range})` : ""}`;
      });
      const [first, last] = [found.get(sizes[0]), found.get(sizes.at(-1))];
      const grown = first && last ? `${compact(last / first)} ×` : "–";
      rows.push([`${title}, ${unit}`, name, ...cells, grown]);
    }
  }
  const more = `from ${count(sizes[0])} to ${count(sizes.at(-1))}`;
  const head = ["what", "contender", ...sizes.map(count), more];
  return table(head, ["---", "---", ...sizes.map(() => "--:"), "--:"], rows);
}

function failures(...reports) {
  const failed = reports.flatMap((report) => report.runs.filter((r) => r.error));
  if (!failed.length) return [];
  const lines = failed.map(
    (r) =>
      `- ${r.contender} ${r.workload}${r.size ? ` at ${count(r.size)}` : ""}, repetition ${r.rep}: ${r.error}`,
  );
  return ["## Failures", lines.join("\n")];
}

/** The text of RESULTS.md. */
export function resultsMd(report, scale) {
  const workloads = Object.keys(TITLES).filter((w) => report.runs.some((r) => r.workload === w));
  const parts = [
    "# Results",
    "Written by `node results-md.mjs`; [README.md](README.md) tells what is measured and what the " +
      "numbers do not say. Times are ratios to `raw-idb`, IndexedDB by hand with one transaction a " +
      "call, in the same run: below 1 is faster.",
    `Measured ${machine(report)}. ${noiseText(report)}`.trim(),
    "## landfall against its targets",
    targets(report, workloads),
    "## All contenders",
    `Ratio of medians, per item; \\* with fewer items than \`raw-idb\`; – without a run. ${fewer(report)}`.trim(),
    ratios(report, workloads),
    "## Medians",
    absolutes(report, workloads),
    "## Versions",
    versions(report),
  ];
  if (scale) {
    parts.push(
      "## Against the number of records",
      `Measured ${machine(scale)}. ${noiseText(scale)}`.trim(),
      "![Time and memory against the number of records, both axes logarithmic](scaling.svg)",
      scaling(scale),
      "Medians, with the lowest and highest in brackets. W6 updates 100 records of a database that " +
        "holds as many as the column says. Memory is what a page holds that has opened the store, read " +
        "everything once and come to rest: JavaScript heap, buffers and wasm memory after a garbage " +
        "collection, with landfall's default memory budget.",
    );
  }
  parts.push(...failures(report, ...(scale ? [scale] : [])));
  parts.push(
    "## How to repeat",
    [
      `    cargo xtask bench --reps ${report.reps} --out bench/results/main`,
      ...(scale ? [`    cargo xtask bench --scale --reps ${scale.reps}`] : []),
      `    node bench/results-md.mjs bench/results/main.json${scale ? " bench/results/scale.json" : ""} > bench/RESULTS.md`,
    ].join("\n"),
  );
  return parts.join("\n\n") + "\n";
}
