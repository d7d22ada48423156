// Realtime: the server's stream pokes, and a pull follows. No interval here, so that nothing else pulls.
import assert from "node:assert/strict";
import { PULL, STREAM, json } from "../lib/fault-proxy.mjs";
import { eventually, sleep } from "../lib/within.mjs";

const live = { realtime: true, interval: 0, rescue: false };

const state = (page) => page.evaluate(() => window.db.status.realtime);
const becomes = (page, wanted, limitMs = 12_000) =>
  page.evaluate(([it, ms]) => window.lab.waitFor(`s.realtime === "${it}"`, ms), [wanted, limitMs]);
const has = (page, key) =>
  page.evaluate(async (id) => (await window.lab.sites.get(id)) !== undefined, key);
const create = (page, key) => page.evaluate((id) => window.lab.sites.create({ id, name: id }), key);
const streams = (rig) =>
  rig.faults.requests.filter(({ method, path, open }) => `${method} ${path}` === STREAM && open);
const pulls = (rig) =>
  rig.faults.requests.filter(({ method, path }) => `${method} ${path}` === PULL).length;

/** One device writes, the other has it, without asking. */
async function otherDevice(rig) {
  const [one, two] = [await rig.tab(), await rig.tab()];
  for (const page of [one, two]) {
    await rig.open(page, live);
    await becomes(page, "live");
  }
  await create(one, "s1");
  await eventually("the other device has it", () => has(two, "s1"), 3_000);
  await two.evaluate(() => window.lab.sites.delete("s1"));
  await eventually("and the deletion comes back", async () => !(await has(one, "s1")), 3_000);

  // What a poke tells is known already when the pull after the push has brought it.
  await sleep(1_500);
  const before = pulls(rig);
  await sleep(1_500);
  assert.equal(pulls(rig), before, "pokes do not feed themselves");

  await one.evaluate(() => window.db.pause());
  assert.equal(await state(one), "off");
  await eventually("a paused device lets go", () => streams(rig).length === 1);
  await one.evaluate(() => window.db.resume());
  await becomes(one, "live");
  await one.evaluate(() => window.db.close());
  assert.equal(await state(one), "off");
  await eventually("so does a closed one", () => streams(rig).length === 1);
}

/** What happened while the connection was down is not missed. */
async function interrupted(rig) {
  const page = await rig.tab();
  await rig.open(page, live);
  await becomes(page, "live");
  // Each beginning of a stream leads to a pull. Cut off, that would be told as "offline", and "off".
  await sleep(1_500);
  await rig.proxy.cut();
  await becomes(page, "polling");
  await rig.server.write(rig.user, "s1");
  assert.equal(await has(page, "s1"), false);
  await rig.proxy.heal();
  await becomes(page, "live", 30_000);
  await eventually("what came meanwhile is there", () => has(page, "s1"), 5_000);
  await rig.server.write(rig.user, "s2");
  await eventually("and what came later", () => has(page, "s2"), 3_000);
}

/** Of several tabs, the one that syncs listens; all show it. */
async function oneForAllTabs(rig) {
  const context = await rig.device();
  const tabs = [await rig.tab(context), await rig.tab(context)];
  for (const page of tabs) {
    await rig.open(page, live);
    await becomes(page, "live");
  }
  await sleep(500);
  assert.equal(streams(rig).length, 1);
  await rig.server.write(rig.user, "s1");
  for (const page of tabs) await eventually("each tab has it", () => has(page, "s1"), 3_000);

  const leads = await Promise.all(tabs.map((page) => page.evaluate(() => window.db.status.leader)));
  await tabs[leads.indexOf(true)].close();
  const left = tabs[leads.indexOf(false)];
  await left.evaluate(() => window.lab.waitFor("s.leader && s.realtime === 'live'"));
  await eventually("still one stream", () => streams(rig).length === 1);
  await rig.server.write(rig.user, "s2");
  await eventually("the tab that is left has it", () => has(left, "s2"), 3_000);
}

/** A server without a stream, one that refuses the credentials, and one that talks nonsense. */
async function noStream(rig) {
  const page = await rig.tab();
  const rule = rig.faults.on(STREAM, ({ answer }) => answer(404, json, '{"code":"not-found"}'));
  await rig.open(page, { ...live, interval: 1_000 });
  await becomes(page, "polling");
  await rig.server.write(rig.user, "s1");
  await eventually("the interval goes on", () => has(page, "s1"), 5_000);
  assert.equal(await page.evaluate(() => window.db.status.error), null, "this is no error");
  rule.stop();
  await becomes(page, "live", 30_000);

  const other = await rig.tab();
  const refuse = rig.faults.on(STREAM, ({ answer }) => answer(401, json, "{}"), 1);
  await rig.open(other, live);
  await becomes(other, "live");
  assert.equal(refuse.used, 1);
  assert.ok(await other.evaluate(() => window.lab.asked.includes(true)), "asked for a fresh token");

  const odd = await rig.tab();
  const nonsense = rig.faults.on(
    STREAM,
    ({ answer }) => answer(200, { "content-type": "text/event-stream" }, "\0<html>\n\n{}\n"),
    1,
  );
  await rig.open(odd, live);
  await eventually("it was read", () => nonsense.used === 1);
  await rig.server.write(rig.user, "s2");
  await becomes(odd, "live", 30_000);
  await eventually("and the next try was better", () => has(odd, "s2"), 5_000);
}

export const realtime = [
  { name: "realtime: a change on one device shows on the other at once", run: otherDevice },
  { name: "realtime: a broken stream comes back, and nothing is missed", run: interrupted },
  { name: "realtime: several tabs share one stream", run: oneForAllTabs },
  { name: "realtime: without a stream the interval goes on", run: noStream },
];
