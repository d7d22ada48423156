#!/usr/bin/env node
// node merge.mjs out.json a.json b.json ...   Joins the repetitions of several runs into one report.
import { readFileSync, writeFileSync } from "node:fs";

const [out, ...files] = process.argv.slice(2);
const reports = files.map((f) => JSON.parse(readFileSync(f, "utf8")));
const merged = { ...reports[0], contenders: [], runs: [], reps: 0, merged: files };
const seen = new Set();
for (const r of reports) {
  for (const c of r.contenders)
    if (!seen.has(c.name)) {
      seen.add(c.name);
      merged.contenders.push(c);
    }
  merged.runs.push(...r.runs.map((run) => ({ ...run, rep: run.rep + merged.reps })));
  // A run that was cut off has fewer than it was asked for.
  merged.reps += new Set(r.runs.map((run) => run.rep)).size;
}
writeFileSync(out, JSON.stringify(merged, null, 1));
