// The promise of the demo, from end to end, in real Chromium with the real server: a device pulls
// 20,000 sites, loses the network, makes 900 changes, is reloaded, gets the network back; then both
// devices and the server hold the same, each change applied once. See README.md.
import { readFile } from "node:fs/promises";
import { stripVTControlCharacters } from "node:util";
import { install, launchOnDisk } from "./lib/chromium.mjs";
import { differences, living } from "./lib/compare.mjs";
import { startCutProxy } from "./lib/cut-proxy.mjs";
import {
  assess,
  devicesReady,
  findSite,
  openDemo,
  queueOf,
  recordsOf,
  synced,
  writeNote,
} from "./lib/demo-page.mjs";
import {
  countEffects,
  CREATES,
  DELETES,
  EDITS,
  expectedQueue,
  expectedRecords,
  planFieldwork,
} from "./lib/fieldwork.mjs";
import { readOptions } from "./lib/options.mjs";
import { startServer } from "./lib/server.mjs";
import { within } from "./lib/within.mjs";

const WHOLE_LIMIT_MS = 120_000;
const SHOWN_MAX = 20;
const USER = "demo";

const options = readOptions();
const started = Date.now();
const undo = [];

function step(text) {
  console.log(`${((Date.now() - started) / 1_000).toFixed(1).padStart(5)} s  ${text}`);
}

function demand(ok, message) {
  if (!ok) throw new Error(message);
}

function demandNone(faults, what) {
  if (faults.length === 0) return;
  const more = faults.length > SHOWN_MAX ? `\n  and ${faults.length - SHOWN_MAX} more` : "";
  throw new Error(`${what}:\n  ${faults.slice(0, SHOWN_MAX).join("\n  ")}${more}`);
}

/** The bulk of the work, through the managers: one by one, all at once, and many in one call. */
async function workInBulk(page, bulk) {
  await page.evaluate(async ({ creates, edits, deletes }) => {
    const db = window.fieldbook.a;
    const [sites, assessments] = [db.collection("sites"), db.collection("assessments")];
    for (const record of creates.slice(0, 50)) await assessments.create(record);
    await Promise.all(creates.slice(50).map((record) => assessments.create(record)));
    for (const { id, patch } of edits.slice(0, 50)) await sites.update(id, patch);
    await Promise.all(edits.slice(50).map(({ id, patch }) => sites.update(id, patch)));
    for (const id of deletes.slice(0, 20)) await sites.delete(id);
    await sites.deleteMany(deletes.slice(20));
  }, bulk);
}

/** What the page stored of the assessments made by hand; they must be as they were typed. */
async function writtenByHand(page, hand) {
  const written = [];
  for (const { site, assessment } of hand) {
    const rows = await page.evaluate(
      (equals) => window.fieldbook.a.collection("assessments").find({ index: "siteId", equals }),
      site.id,
    );
    const found = rows.find(({ title }) => title === assessment.title);
    demand(found, `the assessment typed for ${site.name} is not there`);
    for (const [field, value] of Object.entries(assessment)) {
      demand(found[field] === value, `typed ${field} ${value}, stored ${found[field]}`);
    }
    written.push(found);
  }
  return written;
}

/** All 900 must be queued, and every record as it was left. */
async function demandQueued(page, queue, expected, when) {
  const { stats, entries } = await queueOf(page, "a");
  const faults = [];
  if (stats.total !== queue.size) faults.push(`stats say ${stats.total}, not ${queue.size}`);
  for (const [name, action] of queue) {
    const entry = entries.get(name);
    if (!entry) faults.push(`${action} of ${name} is not queued`);
    else if (entry.action !== action) faults.push(`${name}: ${entry.action}, not ${action}`);
    else if (entry.state !== "pending") faults.push(`${name} is ${entry.state}, not pending`);
  }
  for (const name of entries.keys()) {
    if (!queue.has(name)) faults.push(`${name} is queued, but was not changed`);
  }
  demandNone(faults, `the queue ${when}`);
  demandNone(differences(expected, await recordsOf(page, "a"), "device A"), `the records ${when}`);
}

async function run() {
  const seed = JSON.parse(await readFile(options.seed, "utf8"));
  const plan = planFieldwork(seed);
  const server = await startServer(options);
  undo.push(server.stop);
  const proxy = await startCutProxy(server.port);
  undo.push(proxy.stop);
  const browser = await launchOnDisk(options, { viewport: { width: 1440, height: 900 } });
  undo.push(browser.stop);
  const { context } = browser;
  const page = context.pages()[0] ?? (await context.newPage());
  const pageErrors = [];
  page.on("pageerror", (error) => pageErrors.push(error.message));
  const before = await server.records(USER);
  demand(before.size === seed.length, `the server has ${before.size} of ${seed.length} sites`);

  await openDemo(page, proxy.origin);
  await synced(page, "a");
  const pulled = await page.evaluate(() => window.fieldbook.a.collection("sites").count());
  demand(pulled === seed.length, `device A has ${pulled} of ${seed.length} sites`);
  step(`device A has all ${pulled} sites`);

  await proxy.cut();
  await context.setOffline(true);
  for (const { site, note, assessment } of plan.hand) {
    await findSite(page, "a", site);
    await writeNote(page, "a", note);
    await assess(page, "a", assessment);
  }
  step(`offline; ${plan.hand.length} sites edited and assessed by hand`);
  await within(20_000, "the changes in bulk", workInBulk(page, plan.bulk));
  const written = await writtenByHand(page, plan.hand);
  const queue = expectedQueue(plan, written);
  const expected = expectedRecords(seed, plan, written);
  demand(queue.size === CREATES + EDITS + DELETES, `the plan has ${queue.size} changes`);
  await demandQueued(page, queue, expected, "before the reload");
  const queued = (await queueOf(page, "a")).stats.total;
  step(`${queued} changes queued`);

  const uninstall = await install(context, proxy.origin, options.static);
  await page.reload();
  await devicesReady(page);
  await demandQueued(page, queue, expected, "after the reload");
  await uninstall();
  step("reloaded without a network: all of them are there, every record as it was left");

  await proxy.heal();
  await context.setOffline(false);
  await synced(page, "a", 30_000);
  step("device A is synced");
  await synced(page, "b", 30_000);
  step("device B is synced");

  const after = await server.records(USER);
  const { lost, duplicated } = countEffects(queue, before, after);
  const rest = (await queueOf(page, "a")).stats.total;
  if (rest > 0) lost.push(`device A still has ${rest} changes queued`);
  const differing = [
    ...differences(expected, living(after), "server"),
    ...differences(expected, await recordsOf(page, "a"), "device A"),
    ...differences(expected, await recordsOf(page, "b"), "device B"),
  ];
  for (const fault of [...lost, ...duplicated, ...differing].slice(0, SHOWN_MAX)) {
    console.log(`       ${fault}`);
  }
  demandNone(pageErrors, "errors on the page");
  console.log(
    `sites ${pulled} · queued ${queued} · pushed ${queued - rest} · requests ${proxy.requests} · ` +
      `lost ${lost.length} · duplicated ${duplicated.length} · differing ${differing.length}`,
  );
  return lost.length + duplicated.length + differing.length === 0;
}

let fine = false;
try {
  fine = await within(WHOLE_LIMIT_MS, "the whole check", run);
  step(fine ? "done" : "the replicas are not as they must be");
} catch (error) {
  step(`failed: ${stripVTControlCharacters(error.message)}`);
} finally {
  for (const stop of undo.reverse()) await within(10_000, "clearing up", stop).catch(() => {});
}
process.exit(fine ? 0 : 1);
