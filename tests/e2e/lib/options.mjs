// The flags that all scripts of this folder share.
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { parseArgs } from "node:util";

const USAGE = `usage: node tests/e2e/<script>.mjs --server BIN --static DIR --seed FILE --chromium PATH
  --server BIN      the landfall-server program
  --static DIR      the built demo (www/dist)
  --seed FILE       a JSON array of sites
  --chromium PATH   the browser
  --headed          show the browser
  --only WORD       (e2e.mjs) only tests whose name contains WORD
  --minutes N       (soak.mjs) how long it goes on; default 1
  --out DIR         (screenshots.mjs) where the pictures go; default test-results`;

/** Reads the command line; ends the process with the usage where it is wrong. */
export function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        server: { type: "string" },
        static: { type: "string" },
        seed: { type: "string" },
        chromium: { type: "string" },
        headed: { type: "boolean", default: false },
        only: { type: "string", default: "" },
        minutes: { type: "string", default: "1" },
        out: { type: "string", default: "test-results" },
      },
    });
    for (const name of ["server", "static", "seed", "chromium"]) {
      if (!values[name]) throw new Error(`--${name} is missing`);
      values[name] = resolve(values[name]);
      if (!existsSync(values[name])) throw new Error(`--${name}: ${values[name]} is not there`);
    }
    values.minutes = Number(values.minutes);
    if (!(values.minutes > 0)) throw new Error("--minutes: not a number above 0");
    return values;
  } catch (error) {
    console.error(`${error.message}\n${USAGE}`);
    process.exit(2);
  }
}
