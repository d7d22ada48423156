#!/usr/bin/env node
// node compare.mjs report.json A B   Ratio A/B per workload, paired by repetition, 95 % bootstrap interval.
import { readFileSync } from "node:fs";
import { pairedRatio } from "./lib/paired.mjs";

const [file, a, b] = process.argv.slice(2);
const { runs } = JSON.parse(readFileSync(file, "utf8"));

console.log(`| workload | pairs | ${a} / ${b} | 95 % interval |\n|---|--:|--:|--:|`);
for (const w of [...new Set(runs.map((r) => r.workload))].sort()) {
  const found = pairedRatio(runs, a, b, w);
  if (!found) continue;
  const [ratio, low, high] = [found.ratio, found.low, found.high].map((x) => x.toFixed(2));
  console.log(`| ${w} | ${found.pairs} | ${ratio}× | ${low}–${high} |`);
}
