// A server that fails, hangs or talks nonsense: nothing is lost, nothing is marked done.
import assert from "node:assert/strict";
import { BATCH, json, PULL } from "../lib/fault-proxy.mjs";
import { sleep } from "../lib/within.mjs";

const site = { id: "s1", name: "Brunnen" };
const problem = { "content-type": "application/problem+json" };

async function begin(rig, more) {
  const page = await rig.tab();
  await rig.open(page, more);
  await page.evaluate(() => window.lab.synced());
  return page;
}

const create = (page, record = site) => page.evaluate((r) => window.lab.sites.create(r), record);

/** Still queued, not blamed for it, and nothing of it on the server. */
async function stillQueued(rig, page, onServer = 0) {
  const [entry, ...others] = await page.evaluate(() => window.db.outbox.list());
  assert.equal(others.length, 0);
  assert.equal(entry?.key, site.id);
  assert.equal(entry.attempts, 0, "a fault of the server costs no attempt");
  assert.ok(["pending", "syncing"].includes(entry.state), `it is ${entry.state}`);
  assert.equal((await rig.records()).size, onServer);
}

async function arrivesOnce(rig, page) {
  await page.evaluate(() =>
    window.lab.waitFor("s.outbox.pending + s.outbox.syncing === 0", 30_000),
  );
  await page.evaluate(() => window.lab.synced());
  const records = await rig.records();
  assert.deepEqual(records.get("sites/s1")?.data, site);
  assert.equal(records.get("sites/s1").versionNumber, 1);
  const status = await page.evaluate(() => window.db.status);
  assert.equal(status.phase, "idle");
  assert.equal(status.error, null, "an error that is over is gone from the status");
}

async function serverErrors(rig) {
  const page = await begin(rig);
  const rule = rig.faults.on(BATCH, ({ answer }) =>
    answer(500, problem, JSON.stringify({ title: "Internal", status: 500, code: "internal" })),
  );
  await create(page);
  await page.evaluate(() => window.lab.waitFor("s.error?.code === 'server-error'"));
  await sleep(3_000);
  const { phase, nextSyncAt, error } = await page.evaluate(() => window.db.status);
  assert.ok(["error", "syncing"].includes(phase), `phase ${phase}`);
  assert.ok(phase === "syncing" || nextSyncAt !== null, "the next try has a time");
  assert.ok(error.message && error.hint && error.retryable);
  // Full jitter on 1, 2, 4 s: a handful of tries in three seconds, not hundreds.
  assert.ok(rule.used >= 1 && rule.used <= 10, `${rule.used} tries in 3 s`);
  await stillQueued(rig, page);
  rule.stop();
  await arrivesOnce(rig, page);
}

async function neverAnswers(rig) {
  const page = await begin(rig, { timeout: 400 });
  const rule = rig.faults.on(BATCH, () => {});
  await create(page);
  const status = await page.evaluate(() => window.lab.waitFor("s.error?.code === 'timeout'"));
  assert.ok(status.error.message && status.error.hint && status.error.retryable);
  await stillQueued(rig, page);
  rule.stop();
  await arrivesOnce(rig, page);
}

async function notJson(rig) {
  const page = await begin(rig);
  const rule = rig.faults.on(BATCH, ({ answer }) =>
    answer(
      200,
      { "content-type": "text/html" },
      "<!doctype html><p>Sign in to the hotel’s network",
    ),
  );
  await create(page);
  await page.evaluate(() => window.lab.waitFor("s.error?.code === 'protocol-error'"));
  await stillQueued(rig, page);
  rule.stop();
  await arrivesOnce(rig, page);
}

/** Answers for other mutations than were asked about, though the server has applied these. */
async function mismatched(rig) {
  const page = await begin(rig);
  const nonsense = [
    (answer) => answer.results.forEach((result) => (result.id = "someone-else")),
    (answer) => (answer.results = []),
    (answer) => answer.results.push(answer.results[0]),
    (answer) => answer.results.forEach((result) => (result.status = "splendid")),
  ];
  const rules = [];
  await page.evaluate(() => window.db.pause());
  await create(page);
  for (const spoil of nonsense) {
    const rule = rig.faults.on(BATCH, async ({ forward, answer }) => {
      const body = JSON.parse((await forward()).body);
      spoil(body);
      answer(200, json, JSON.stringify(body));
    });
    rules.push(rule);
    await page.evaluate(() => window.db.resume());
    const code = await page.evaluate(
      async () => (await window.lab.errorOf(() => window.db.sync()))?.code,
    );
    assert.equal(code, "protocol-error", String(spoil));
    await stillQueued(rig, page, 1);
  }
  for (const rule of rules) rule.stop();
  await arrivesOnce(rig, page);
}

async function brokenPull(rig) {
  const page = await begin(rig);
  const rule = rig.faults.on(PULL, ({ answer }) =>
    answer(200, json, JSON.stringify({ changes: "many", checkpoint: 7 })),
  );
  const error = await page.evaluate(() => window.lab.errorOf(() => window.db.sync()));
  assert.equal(error?.code, "protocol-error");
  rule.stop();
  await create(page);
  await arrivesOnce(rig, page);
}

async function throttled(rig) {
  const page = await begin(rig);
  const rule = rig.faults.on(
    BATCH,
    ({ answer }) =>
      answer(429, { ...problem, "retry-after": "2" }, JSON.stringify({ status: 429 })),
    1,
  );
  await create(page);
  await page.evaluate(() => window.lab.waitFor("s.error?.code === 'throttled'"));
  await stillQueued(rig, page);
  await arrivesOnce(rig, page);
  assert.equal(rule.used, 1);
  const [first, second] = rig.faults.requests.filter(({ path }) => path.endsWith("/batch"));
  assert.ok(second.at - first.at >= 1_900, `asked again after ${second.at - first.at} ms`);
}

async function pauseResume(rig) {
  const page = await begin(rig);
  await page.evaluate(() => window.db.pause());
  await page.evaluate(() => window.lab.waitFor("s.phase === 'paused'"));
  const before = rig.faults.requests.length;
  await create(page);
  const refused = await page.evaluate(() => window.lab.errorOf(() => window.db.sync()));
  assert.ok(refused, "sync() while paused says so");
  await sleep(1_500);
  assert.equal(rig.faults.requests.length, before, "paused means no requests");
  await stillQueued(rig, page);
  await page.evaluate(() => window.db.resume());
  await arrivesOnce(rig, page);
}

/** A server's time in microseconds is no time: what is written after it is stored so that it can be read. */
async function microseconds(rig) {
  const page = await rig.tab();
  const open = (more) =>
    page.evaluate(
      async ([user, more]) => {
        const serverTime = Date.now() * 1_000;
        const pull = async () => {
          if (window.down) throw new TypeError("offline");
          return { changes: [], checkpoint: "1", hasMore: false, serverTime };
        };
        const push = async (changes) => {
          if (window.down) throw new TypeError("offline");
          const result = ({ id, offlineId }) => ({ id, offlineId, versionNumber: 1 });
          const results = changes.map((c) => ({ ...result(c), status: "success" }));
          return { results, serverTime };
        };
        const options = { name: "micros", user, backend: { push, pull }, rescue: false, ...more };
        window.db = await window.landfall.open({
          ...options,
          collections: { sites: { key: "id" } },
        });
        window.sites = window.db.collection("sites");
      },
      [rig.user, more],
    );
  await open();
  await page.evaluate(async () => {
    await window.sites.put({ id: "a", name: "one" });
    await window.db.whenSynced();
    window.down = true;
    await window.sites.update("a", { name: "two" });
    await window.db.compact();
    await window.db.close();
  });
  await rig.goToLab(page);
  await open({ autoStart: false });
  const seen = await page.evaluate(async () => {
    const { name } = await window.sites.get("a");
    return [name, window.db.status.outbox.pending, window.db.status.error];
  });
  assert.deepEqual(seen, ["two", 1, null]);
}

export const backendFaults = [
  { name: "500s: backoff, nothing lost", run: serverErrors },
  { name: "no answer: a time-out in the status, the queue kept", run: neverAnswers },
  { name: "an answer that is not JSON: protocol-error, nothing marked done", run: notJson },
  { name: "an answer that does not match: protocol-error, applied once", run: mismatched },
  { name: "a pull that makes no sense: protocol-error, then on", run: brokenPull },
  { name: "a server's time in microseconds: ignored, nothing lost", run: microseconds },
  { name: "429 with Retry-After: waits as told", run: throttled },
  { name: "pause and resume", run: pauseResume },
];
