// A small runner: named tests, one line each, a limit on each.
import { stripVTControlCharacters } from "node:util";
import { within } from "./within.mjs";

const TEST_LIMIT_MS = 60_000;

/** Runs `tests` (`{ name, run(rig) }`) one after another; answers how many passed and failed. */
export async function runTests(tests, makeRig) {
  let [passed, failed] = [0, 0];
  for (const { name, run } of tests) {
    const from = Date.now();
    let fault = null;
    let rig = null;
    try {
      rig = await within(10_000, "the set-up", makeRig);
      await within(TEST_LIMIT_MS, "the test", () => run(rig));
      if (rig.pageErrors.length > 0) throw new Error(`uncaught: ${rig.pageErrors.join("; ")}`);
    } catch (error) {
      fault = error;
    }
    try {
      if (rig) await within(15_000, "the clearing up", () => rig.stop());
    } catch (error) {
      fault ??= error;
    }
    const took = `${((Date.now() - from) / 1_000).toFixed(1)} s`;
    if (fault) {
      failed += 1;
      const text = stripVTControlCharacters(String(fault.stack ?? fault));
      console.log(`not ok ${name} (${took})\n${text.replace(/^/gm, "    ")}`);
    } else {
      passed += 1;
      console.log(`ok ${name} (${took})`);
    }
  }
  return { passed, failed };
}
