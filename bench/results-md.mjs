#!/usr/bin/env node
// node results-md.mjs main.json [scale.json] > RESULTS.md
import { readFileSync } from "node:fs";
import { resultsMd } from "./lib/results.mjs";

const files = process.argv.slice(2);
if (files.length < 1 || files.length > 2) {
  console.error("usage: node results-md.mjs main.json [scale.json] > RESULTS.md");
  process.exit(2);
}
const [report, scale] = files.map((file) => JSON.parse(readFileSync(file, "utf8")));
process.stdout.write(resultsMd(report, scale));
