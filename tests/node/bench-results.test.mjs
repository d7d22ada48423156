// What is written about measurements: the plot and RESULTS.md, from reports made up here.
import assert from "node:assert/strict";
import test from "node:test";
import { loadRecords } from "../../bench/lib/dataset.mjs";
import { pairedRatio } from "../../bench/lib/paired.mjs";
import { scalingPlot, series } from "../../bench/lib/plot.mjs";
import { noise, resultsMd } from "../../bench/lib/results.mjs";

const meta = { durability: "relaxed", ack: "transaction complete" };
const contenders = ["landfall", "raw-idb", "peer <2>"].map((name) => ({
  name,
  meta: name === "peer <2>" ? { ...meta, unsupported: { W3: "no bulk" } } : meta,
  versions: { [name]: "1.2.3" },
  size: { raw: 1, wasmRaw: 0, gzip: name === "landfall" ? 79_000 : 5_000, brotli: 1 },
}));
const head = {
  date: "2026-01-02T03:04:05.000Z",
  browser: "156.0",
  node: "v20.0.0",
  cpu: "Some CPU",
  cores: 2,
};
const run = (contender, rep, workload, ms, n = 1000) => ({
  ...{ contender, rep, workload, ms, n },
  calibrationMs: 30 + rep,
});
const report = {
  ...head,
  reps: 3,
  contenders,
  runs: [1, 2, 3].flatMap((rep) => [
    run("raw-idb", rep, "W1", 1000 * rep),
    run("landfall", rep, "W1", 900 * rep),
    run("peer <2>", rep, "W1", 100 * rep, 100),
    run("raw-idb", rep, "W3", 2000, 20_000),
    run("landfall", rep, "W3", 80, 20_000),
    run("raw-idb", rep, "W7", 100, 20_000),
    rep === 2
      ? { contender: "landfall", rep, workload: "W7", error: "timeout 180 s" }
      : run("landfall", rep, "W7", 50, 20_000),
  ]),
};
const sizes = [2000, 20_000, 200_000];
const scale = {
  ...head,
  reps: 1,
  sizes,
  contenders: contenders.slice(0, 2),
  runs: sizes.flatMap((size) =>
    ["landfall", "raw-idb"].flatMap((contender, index) => [
      ...["W3", "W4", "W6n", "W7"].map((workload) => ({
        ...run(contender, 1, workload, (size / 100) * (index * 9 + 1)),
        size,
      })),
      { contender, size, rep: 1, workload: "memory", bytes: size * 1024 },
    ]),
  ),
};

const row = (markdown, start) => markdown.split("\n").find((line) => line.startsWith(start));

test("RESULTS.md tells which targets are met, from paired ratios", () => {
  const markdown = resultsMd(report, scale);
  assert.match(row(markdown, "| W1 |"), /\| 1\.00 \| 0\.90 \| 0\.90 to 0\.90 \| met \|$/);
  assert.match(row(markdown, "| W3 |"), /\| 0\.03 \| 0\.040 \| .* \| \*\*missed\*\* \|$/);
  assert.match(row(markdown, "| W7 |"), /\| 0\.50 \| 0\.50 \| .* \| met \|$/);
  assert.match(row(markdown, "| S1 |"), /\| 80 KB \| 79\.0 KB \| .* \| met \|$/);
});

test("RESULTS.md has every contender, version, failure, the noise and how to repeat", () => {
  const markdown = resultsMd(report, scale);
  assert.equal(row(markdown, "| peer <2> |"), "| peer <2> | 1.00 \\* | n/a | – |");
  assert.match(markdown, /\| landfall \| landfall 1\.2\.3 \|/);
  assert.match(markdown, /- landfall W7, repetition 2: timeout 180 s/);
  assert.match(markdown, /took 31\.0 to 33\.0 ms/);
  assert.match(markdown, /cargo xtask bench --reps 3/);
  assert.match(markdown, /!\[[^\]]+\]\(scaling\.svg\)/);
  assert.deepEqual(noise(report), { low: 31, middle: 32, p90: 33, high: 33 });
  assert.equal(resultsMd(report, scale), markdown, "the same text every time");
  assert.doesNotMatch(resultsMd(report), /scaling|NaN|undefined/);
  assert.doesNotMatch(markdown, /NaN|undefined/);
});

test("RESULTS.md says who was measured less often", () => {
  assert.doesNotMatch(resultsMd(report), /fewer repetitions/);
  const runs = report.runs.filter((r) => r.contender !== "peer <2>" || r.rep === 1);
  assert.match(resultsMd({ ...report, runs }), /fewer repetitions: peer <2> 1\./);
});

test("RESULTS.md shows how cost and memory grow", () => {
  const markdown = resultsMd(report, scale);
  assert.equal(
    row(markdown, "| W3 bulk create, ms | landfall |"),
    "| W3 bulk create, ms | landfall | 20.0 | 200 | 2,000 | 100 × |",
  );
  assert.match(row(markdown, "| memory"), /\| 1\.95 \| 19\.5 \| 195 \| 100 × \|$/);
});

test("ratios are paired by repetition, and repeat", () => {
  const found = pairedRatio(report.runs, "landfall", "raw-idb", "W7");
  assert.equal(found.pairs, 2, "the repetition that failed has no pair");
  assert.equal(pairedRatio(report.runs, "landfall", "nobody", "W1"), undefined);
  const per = pairedRatio(report.runs, "peer <2>", "raw-idb", "W1");
  assert.equal(per.ratio, 1, "per item");
});

test("the plot has both lines in every panel, inside its frame, and no broken numbers", () => {
  const svg = scalingPlot(scale);
  assert.equal(svg.match(/stroke-width="2"\/>\n/g).length, 10, "5 panels, 2 lines");
  assert.doesNotMatch(svg, /NaN|undefined|Infinity/);
  for (const [, x, y] of svg.matchAll(/<circle cx="([^"]+)" cy="([^"]+)"/g)) {
    assert.ok(+x >= 0 && +x <= 320 && +y >= 0 && +y <= 250, `${x},${y}`);
  }
  assert.match(svg, />200,000<\/text>/);
  assert.ok(svg.length < 30_000);
  const odd = { ...scale, contenders: contenders.slice(2), runs: [] };
  assert.match(scalingPlot(odd), /peer &lt;2&gt;/);
  assert.match(scalingPlot(odd), /no runs/);
  assert.deepEqual(
    series(scale, "raw-idb", "W3").map(({ value }) => value),
    [200, 2000, 20_000],
  );
});

test("there are as many records as are asked for, all different", () => {
  const records = loadRecords(200_000);
  assert.equal(new Set(records.map(({ id }) => id)).size, 200_000);
  const { id, ...first } = records[0];
  assert.equal(id, "city-000000");
  const again = records.filter(({ name }) => name === `${first.name} 2`);
  assert.ok(again.length > 0, "beyond the cities they come again under other names");
  const few = loadRecords(100);
  assert.deepEqual([few.length, few.some(({ name }) => / 2$/.test(name))], [100, false]);
});
