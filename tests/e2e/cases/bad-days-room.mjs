// No room left: what does not fit is refused whole, what was stored goes on.
import assert from "node:assert/strict";
import { fillUp, limitStorage, look } from "../lib/storage.mjs";
import { sleep } from "../lib/within.mjs";

const NONE = 1;
/** Room for an app's small records, not for a large one. */
const SOME = 2_000_000;
const LARGE = 4_000_000;

const facts = (page) =>
  page.evaluate(async () => ({
    records: await window.lab.sites.all(),
    queue: (await window.db.outbox.list()).map(({ id, key, action, state }) => [
      id,
      key,
      action,
      state === "syncing" ? "pending" : state,
    ]),
  }));

const errorOf = (page, work, argument) =>
  page.evaluate(
    ([text, given]) => window.lab.errorOf(() => new Function("given", `return ${text}`)(given)),
    [work, argument],
  );

/** Pauses after failures are drawn by lot, up to a limit that doubles; here they are all long. */
function longPauses() {
  Math.random = () => 0.95;
}

/** Three creates and an edit in the queue; nothing has been tried with them yet. */
async function queued(rig) {
  const page = await rig.tab(undefined, [longPauses]);
  await limitStorage(page, SOME);
  await rig.open(page);
  await page.evaluate(() => window.lab.synced());
  await page.evaluate(async () => {
    window.db.pause();
    for (const id of ["a", "b", "c"]) await window.lab.sites.create({ id, name: `Site ${id}` });
    await window.lab.sites.update("a", { name: "Site A" });
  });
  return page;
}

function demandQuotaError(error) {
  assert.equal(error?.code, "quota-exceeded");
  assert.equal(error.retryable, true);
  assert.ok(error.proper && error.message && error.hint, "a real error with a hint");
}

async function nothingHalfWritten(rig) {
  const page = await queued(rig);
  const before = await facts(page);
  const stored = await look(page, rig.user);
  assert.equal(before.queue.length, 3);
  await fillUp(page);
  const works = [
    "lab.sites.create({ id: 'd', name: 'one too many' })",
    "lab.sites.update('a', { name: 'changed' })",
    "lab.sites.delete('b')",
    "lab.sites.putMany([{ id: 'c', name: 'changed' }, { id: 'e', name: 'new' }])",
    "Promise.all(['f', 'g'].map((id) => lab.sites.create({ id, name: id })))",
  ];
  for (const work of works) {
    demandQuotaError(await errorOf(page, work));
    assert.deepEqual(await facts(page), before, work);
  }
  const { error } = await page.evaluate(() => window.db.status);
  assert.equal(error.code, "quota-exceeded");
  assert.ok(error.hint && error.retryable);
  assert.deepEqual((await look(page, rig.user)).stores, stored.stores, "the database is as it was");

  // The same after a reload, for which there must be no need of room either.
  await rig.goToLab(page);
  await rig.open(page, { autoStart: false });
  assert.deepEqual(await facts(page), before);
  demandQuotaError(await errorOf(page, works[0]));

  await limitStorage(page);
  await page.evaluate(() => window.lab.sites.create({ id: "d", name: "now it fits" }));
  await page.evaluate(() => window.db.resume());
  await page.evaluate(() => window.lab.synced());
  const records = await rig.records();
  assert.deepEqual([...records.keys()].sort(), ["sites/a", "sites/b", "sites/c", "sites/d"]);
  assert.equal(records.get("sites/a").data.name, "Site A");
}

/** A record too large, but room for the small writes of a push: the queue drains all the same. */
async function syncGoesOn(rig) {
  const page = await queued(rig);
  const large = { id: "large", name: "x".repeat(LARGE) };
  demandQuotaError(await errorOf(page, "lab.sites.create(given)", large));
  await page.evaluate(() => window.db.resume());
  await page.evaluate(() => window.lab.synced());
  const records = await rig.records();
  assert.equal(records.size, 3, "what was queued is sent, without any more room");
  for (const [name, { versionNumber }] of records) assert.equal(versionNumber, 1, name);
  const { error, outbox } = await page.evaluate(() => window.db.status);
  assert.deepEqual(outbox, { pending: 0, syncing: 0, conflict: 0, failed: 0 });
  assert.equal(error, null, "small writes fit again, so the error is over");
}

/** Not even a sent mark fits: nothing is sent, nothing lost, and it goes on when there is room. */
async function noRoomForMarks(rig) {
  const page = await queued(rig);
  await fillUp(page);
  await page.evaluate(() => window.db.resume());
  const failed = await errorOf(page, "db.sync()");
  demandQuotaError(failed);
  const status = await page.evaluate(() => window.db.status);
  assert.equal(status.phase, "error");
  assert.equal(status.network, "online", "a full disk is no fault of the network");
  assert.equal(status.outbox.pending + status.outbox.syncing, 3);
  assert.equal((await rig.records()).size, 0);
  // It tries again and again, after longer and longer pauses; in one of those there is room again.
  await page.evaluate(() => window.lab.waitFor("s.nextSyncAt - Date.now() > 3_000"));
  await limitStorage(page);
  await page.evaluate(() => window.lab.sites.create({ id: "d", name: "there is room" }));
  await page.evaluate(() => window.lab.waitFor("s.outbox.pending + s.outbox.syncing === 0", 2_000));
  await page.evaluate(() => window.lab.synced());
  assert.equal((await rig.records()).size, 4);
  const { error, phase } = await page.evaluate(() => window.db.status);
  assert.deepEqual([phase, error], ["idle", null], "the error is gone, without a reload");
}

/** The server has answered, but the verdicts do not fit: asked again later, applied once. */
async function noRoomForVerdicts(rig) {
  const page = await queued(rig);
  const rule = rig.faults.on("POST /api/v1/sync/batch", async ({ forward, answer }) => {
    const { status, headers, body } = await forward();
    await fillUp(page);
    rule.stop();
    answer(status, headers, body);
  });
  await page.evaluate(() => window.db.resume());
  await page.evaluate(() => window.lab.waitFor("s.error?.code === 'quota-exceeded'"));
  assert.equal((await rig.records()).size, 3, "the server has them");
  const { outbox } = await page.evaluate(() => window.db.status);
  assert.equal(outbox.pending + outbox.syncing, 3, "but this device does not know for good");
  await sleep(1_500);
  const asked = rig.faults.requests.filter(({ path }) => path.endsWith("/batch")).length;
  assert.ok(asked <= 3, `asked again after pauses, not ${asked} times at once`);
  await limitStorage(page);
  await page.evaluate(() => window.lab.synced(30_000));
  const records = await rig.records();
  for (const [name, { versionNumber }] of records) assert.equal(versionNumber, 1, name);
  assert.equal((await facts(page)).queue.length, 0);
  assert.equal((await page.evaluate(() => window.db.status)).error, null);
}

/** The first visit of all finds no room. */
async function noRoomToBegin(rig) {
  const page = await rig.tab();
  await limitStorage(page, NONE);
  const given = { user: rig.user, token: rig.server.token(rig.user) };
  const error = await page.evaluate((g) => window.lab.errorOf(() => window.lab.open(g)), given);
  demandQuotaError(error);
  await limitStorage(page);
  await rig.open(page);
  await page.evaluate(() => window.lab.sites.create({ id: "a", name: "a" }));
  await page.evaluate(() => window.lab.synced());
  assert.equal((await rig.records()).size, 1);
}

export const room = [
  {
    name: "bad day, quota: a write is refused whole, now and after a reload",
    run: nothingHalfWritten,
  },
  {
    name: "bad day, quota: what was queued is sent while a large record does not fit",
    run: syncGoesOn,
  },
  { name: "bad day, quota: no room for sent marks, then room again", run: noRoomForMarks },
  { name: "bad day, quota: no room for verdicts, then room again", run: noRoomForVerdicts },
  { name: "bad day, quota: no room to begin with", run: noRoomToBegin },
];
