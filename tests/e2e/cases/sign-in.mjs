// Tokens that have expired, and tokens that are no good at all.
import assert from "node:assert/strict";
import { sleep } from "../lib/within.mjs";

async function expired(rig) {
  const page = await rig.tab();
  // Beyond the leeway that the server gives to clocks.
  const token = rig.server.token(rig.user, -120);
  await rig.open(page, { token, fresh: rig.server.token(rig.user) });
  await page.evaluate(() => window.lab.sites.create({ id: "s1", name: "Gate" }));
  await page.evaluate(() => window.lab.synced());
  const asked = await page.evaluate(() => window.lab.asked);
  assert.equal(asked.filter(Boolean).length, 1, `asked: ${asked}`);
  assert.equal(asked[0], false);
  const [status, phases] = await page.evaluate(() => [window.db.status, window.lab.phases]);
  assert.equal(status.error, null);
  assert.ok(!phases.includes("needs-auth"), `phases: ${phases}`);
  assert.equal((await rig.records()).get("sites/s1").versionNumber, 1);
}

async function noGood(rig) {
  const page = await rig.tab();
  await rig.open(page, { token: "nonsense", fresh: "nonsense" });
  await page.evaluate(() => window.lab.sites.create({ id: "s1", name: "Gate" }));
  const status = await page.evaluate(() => window.lab.waitFor("s.phase === 'needs-auth'"));
  assert.equal(status.error.code, "needs-auth");
  assert.ok(status.error.message && status.error.hint);
  assert.equal(status.outbox.pending, 1);
  // It stops asking; a person has to do something.
  await sleep(300);
  const before = rig.faults.requests.length;
  await page.evaluate(() => window.lab.sites.create({ id: "s2", name: "Wall" }));
  await sleep(2_000);
  assert.ok(rig.faults.requests.length <= before + 2, "no hammering without a good token");
  const entries = await page.evaluate(() => window.db.outbox.list());
  assert.deepEqual(
    entries.map(({ key, state, attempts }) => ({ key, state, attempts })),
    [
      { key: "s1", state: "pending", attempts: 0 },
      { key: "s2", state: "pending", attempts: 0 },
    ],
  );
  await page.evaluate((token) => {
    window.lab.token = window.lab.fresh = token;
    window.db.resume();
  }, rig.server.token(rig.user));
  await page.evaluate(() => window.lab.synced());
  const records = await rig.records();
  assert.equal(records.size, 2);
  for (const { versionNumber } of records.values()) assert.equal(versionNumber, 1);
  assert.equal(await page.evaluate(() => window.db.status.error), null);
}

export const signIn = [
  { name: "an expired token: asked for a fresh one once, then on", run: expired },
  { name: "no good token: needs-auth, the queue kept, on after the fix", run: noGood },
];
