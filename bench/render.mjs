#!/usr/bin/env node
// node render.mjs results/x.json   Writes the Markdown of a report again.
import { readFileSync, writeFileSync } from "node:fs";
import { toMarkdown } from "./lib/report.mjs";

const file = process.argv[2];
const markdown = toMarkdown(JSON.parse(readFileSync(file, "utf8")));
writeFileSync(file.replace(/\.json$/, ".md"), markdown);
console.log(markdown);
