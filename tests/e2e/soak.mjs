// A soak: two tabs and a second device write without a rest, the network goes and comes, a tab is loaded
// anew now and then. In the end everybody must have the same, and everything that was acknowledged. See README.md.
import { launch } from "./lib/chromium.mjs";
import { readOptions } from "./lib/options.mjs";
import { makeRig } from "./lib/rig.mjs";
import { startServer } from "./lib/server.mjs";
import { writeOn } from "./lib/soak-page.mjs";
import { sleep, within } from "./lib/within.mjs";

/** How long one turn of writing, without a network, and writing again takes. */
const TURN_MS = 20_000;
const CUT_MS = 3_000;
const SYNC_LIMIT_MS = 120_000;

const options = readOptions();
const failures = [];
const expect = (holds, what) => holds || failures.push(what);

async function begin(rig, tab, me) {
  await rig.open(tab, { realtime: true });
  await tab.evaluate(writeOn, me);
}

async function halt(tab) {
  const soak = await tab.evaluate(async () => {
    window.soak.halt = true;
    await window.soak.ended;
    const { writes, told, errors } = window.soak;
    return { writes, told, errors };
  });
  for (const [code, message] of Object.entries(soak.errors)) {
    expect(false, `a write failed: ${code}: ${message}`);
  }
  expect(soak.told > 0, "a live query was never told of anything");
  return soak.writes;
}

/** All records, each as one text, in order. */
const textOf = (records) =>
  records.map((record) => JSON.stringify(Object.entries(record).sort())).sort();

const everything = (tab) =>
  tab.evaluate(async () => [
    ...(await window.lab.sites.all()),
    ...(await window.lab.assessments.all()),
  ]);

function compare(what, one, other) {
  const there = new Set(other);
  const differs = one.filter((text) => !there.has(text));
  const same = differs.length === 0 && one.length === other.length;
  expect(same, `${what}: ${one.length} and ${other.length} records, such as ${differs[0]}`);
}

async function soak(rig) {
  const acknowledged = new Set();
  const [first, second] = [await rig.device(), await rig.device()];
  const tabs = [await rig.tab(first), await rig.tab(first), await rig.tab(second)];
  for (const tab of tabs) await tab.exposeFunction("journal", (id) => acknowledged.add(id));
  await Promise.all(tabs.map((tab, at) => begin(rig, tab, `t${at}`)));

  const writes = [0, 0, 0];
  const turns = Math.max(1, Math.round((options.minutes * 60_000) / TURN_MS));
  for (let turn = 0; turn < turns; turn += 1) {
    await sleep(TURN_MS - CUT_MS);
    await rig.proxy.cut();
    await sleep(CUT_MS);
    await rig.proxy.heal();
    const before = [...writes];
    for (const [at, tab] of tabs.entries()) {
      writes[at] = await tab.evaluate(() => window.soak.writes);
    }
    const [one, other] = [0, 1].map((at) => writes[at] - before[at]);
    expect(one > 0 && other > 0, `turn ${turn}: one tab wrote ${one} times, the other ${other}`);
    console.log(`# turn ${turn + 1} of ${turns}: ${writes.join(", ")} writes`);
    if (turn === turns - 1) break;
    // What was not acknowledged when the page went may be there or not.
    await rig.goToLab(tabs[1]);
    await begin(rig, tabs[1], `t1-${turn}`);
    writes[1] = 0;
  }

  for (const tab of tabs) await halt(tab);
  // What a device pushes last, the other ones pull.
  for (let round = 0; round < 2; round += 1) {
    for (const tab of tabs) {
      await tab.evaluate(() => window.db.sync());
      await tab.evaluate((limitMs) => window.lab.synced(limitMs), SYNC_LIMIT_MS);
    }
  }
  const outboxes = await Promise.all(
    tabs.map((tab) => tab.evaluate(() => window.db.outbox.list())),
  );
  for (const outbox of outboxes) {
    expect(outbox.length === 0, `left in an outbox: ${JSON.stringify(outbox[0])}`);
  }
  const server = await rig.records();
  const held = [...server].filter(([, { data }]) => data);
  const texts = await Promise.all(tabs.map(async (tab) => textOf(await everything(tab))));
  compare("two tabs", texts[0], texts[1]);
  compare("two devices", texts[0], texts[2]);
  compare("device and server", texts[0], textOf(held.map(([, { data }]) => data)));
  const entry = (id) => server.get(`assessments/${id}`);
  const lost = [...acknowledged].filter((id) => !entry(id));
  expect(lost.length === 0, `${lost.length} acknowledged and lost, such as ${lost[0]}`);
  const twice = [...acknowledged].filter((id) => entry(id)?.versionNumber > 1);
  expect(twice.length === 0, `${twice.length} took effect twice, such as ${twice[0]}`);
  for (const message of rig.pageErrors) expect(false, `uncaught: ${message}`);
  const acked = acknowledged.size;
  console.log(`# ${held.length} records · ${acked} entries acknowledged · lost ${lost.length}`);
}

let server;
let browser;
let rig;
try {
  server = await startServer(options);
  browser = await launch(options);
  rig = await makeRig({ options, server, browser });
  await soak(rig);
} catch (error) {
  failures.push(error.stack ?? String(error));
} finally {
  await within(10_000, "clearing up", async () => {
    await rig?.stop();
    await browser?.close();
  }).catch(() => {});
  await server?.stop();
}
for (const failure of failures) console.log(`not ok ${failure}`);
if (failures.length === 0) console.log("ok everybody has the same");
console.log(`${failures.length > 0 ? 0 : 1} passed, ${failures.length} failed`);
process.exit(failures.length > 0 ? 1 : 0);
