// Faults that users meet, in real Chromium with the real server. See README.md.
import { launch } from "./lib/chromium.mjs";
import { readOptions } from "./lib/options.mjs";
import { makeRig } from "./lib/rig.mjs";
import { startServer } from "./lib/server.mjs";
import { runTests } from "./lib/tests.mjs";
import { within } from "./lib/within.mjs";
import { api } from "./cases/api.mjs";
import { backendFaults } from "./cases/backend-faults.mjs";
import { connection } from "./cases/bad-days-connection.mjs";
import { damage } from "./cases/bad-days-damage.mjs";
import { pages } from "./cases/bad-days-page.mjs";
import { room } from "./cases/bad-days-room.mjs";
import { silence } from "./cases/bad-days-silence.mjs";
import { conflictChoices } from "./cases/conflict-choices.mjs";
import { conflicts } from "./cases/conflicts.mjs";
import { durability } from "./cases/durability.mjs";
import { golden } from "./cases/golden.mjs";
import { leaving } from "./cases/leaving.mjs";
import { memory } from "./cases/memory.mjs";
import { opening } from "./cases/opening.mjs";
import { realtime } from "./cases/realtime.mjs";
import { refusals } from "./cases/refusals.mjs";
import { rekey } from "./cases/rekey.mjs";
import { rescue } from "./cases/rescue.mjs";
import { signIn } from "./cases/sign-in.mjs";
import { tabs } from "./cases/tabs.mjs";

const options = readOptions();
const tests = [
  ...durability,
  ...backendFaults,
  ...signIn,
  ...realtime,
  ...refusals,
  ...conflicts,
  ...conflictChoices,
  ...tabs,
  ...golden,
  ...opening,
  ...leaving,
  ...memory,
  ...rekey,
  ...rescue,
  ...room,
  ...connection,
  ...damage,
  ...pages,
  ...silence,
  ...api,
].filter(({ name }) => name.includes(options.only));

let result = { passed: 0, failed: 1 };
let server;
let browser;
try {
  server = await startServer(options);
  browser = await launch(options);
  result = await runTests(tests, () => makeRig({ options, server, browser }));
} catch (error) {
  console.log(`not ok set-up: ${error.message}`);
} finally {
  if (browser) await within(10_000, "closing the browser", () => browser.close()).catch(() => {});
  if (server) await server.stop();
}
console.log(`${result.passed} passed, ${result.failed} failed`);
process.exit(result.failed > 0 || result.passed === 0 ? 1 : 0);
