#!/usr/bin/env node
// node compare.mjs report.json A B   Ratio A/B per workload, paired by repetition, 95 % bootstrap interval.
import { readFileSync } from "node:fs";
import { median } from "./lib/report.mjs";

const [file, a, b] = process.argv.slice(2);
const { runs } = JSON.parse(readFileSync(file, "utf8"));
const per = (c, w) =>
  new Map(
    runs
      .filter((r) => r.contender === c && r.workload === w && !r.error)
      .map((r) => [r.rep, w === "W7" ? r.ms : r.ms / r.n]),
  );

console.log(`| workload | pairs | ${a} / ${b} | 95 % interval |\n|---|--:|--:|--:|`);
for (const w of [...new Set(runs.map((r) => r.workload))].sort()) {
  const [xs, ys] = [per(a, w), per(b, w)];
  const ratios = [...xs].filter(([rep]) => ys.has(rep)).map(([rep, x]) => x / ys.get(rep));
  if (!ratios.length) continue;
  const boots = Array.from({ length: 2000 }, () =>
    median(ratios.map(() => ratios[Math.floor(Math.random() * ratios.length)])),
  ).sort((p, q) => p - q);
  console.log(
    `| ${w} | ${ratios.length} | ${median(ratios).toFixed(2)}× | ${boots[50].toFixed(2)}–${boots[1949].toFixed(2)} |`,
  );
}
