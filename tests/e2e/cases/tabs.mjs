// One device in several tabs: one database, one leader, the same counts.
import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";
import { eventually } from "../lib/within.mjs";

const each = 20;

const facts = (page) =>
  page.evaluate(async () => ({
    keys: (await window.lab.sites.all()).map(({ id }) => id),
    stats: await window.db.outbox.stats(),
    outbox: window.db.status.outbox,
    leader: window.db.status.leader,
  }));

async function twoTabs(rig) {
  const context = await rig.device();
  const tabs = [await rig.tab(context), await rig.tab(context)];
  for (const page of tabs) await rig.open(page);
  for (const page of tabs) await page.evaluate(() => window.lab.synced());
  await rig.proxy.cut();
  const write = (page, name) =>
    page.evaluate(
      async ([prefix, count]) => {
        const work = [];
        for (let index = 0; index < count; index += 1) {
          const id = `${prefix}-${String(index).padStart(2, "0")}`;
          work.push(window.lab.sites.create({ id, name: id }));
          if (index % 3 === 0) await Promise.all(work);
        }
        await Promise.all(work);
      },
      [name, each],
    );
  await Promise.all([write(tabs[0], "first"), write(tabs[1], "second")]);
  // A try to send may begin between the two looks, so they agree soon rather than at once.
  const [one, two] = await eventually(
    "both tabs see what both wrote, and count the same",
    async () => {
      const both = [await facts(tabs[0]), await facts(tabs[1])];
      const seen = both.every(
        ({ keys, stats }) => keys.length === stats.total && stats.total === 2 * each,
      );
      return seen && isDeepStrictEqual(both[0].outbox, both[1].outbox) && both;
    },
  );
  assert.deepEqual(one.keys, two.keys);
  assert.equal(one.stats.oldest, two.stats.oldest);
  assert.deepEqual([one.leader, two.leader].sort(), [false, true], "one leader");

  await rig.proxy.heal();
  await Promise.all(tabs.map((page) => page.evaluate(() => window.lab.synced(20_000))));
  const records = await rig.records();
  assert.equal(records.size, 2 * each);
  for (const [name, { versionNumber }] of records) assert.equal(versionNumber, 1, name);

  // The leader goes; the other takes over and syncs.
  const leader = one.leader ? 0 : 1;
  await tabs[leader].close();
  const left = tabs[1 - leader];
  await eventually("the tab that is left leads", async () => (await facts(left)).leader);
  await left.evaluate(() => window.lab.sites.create({ id: "third", name: "third" }));
  await left.evaluate(() => window.lab.synced());
  assert.equal((await rig.records()).get("sites/third")?.versionNumber, 1);
}

/** The same record from both tabs at once: one of them is told, or both end up the same. */
async function sameRecord(rig) {
  const context = await rig.device();
  const tabs = [await rig.tab(context), await rig.tab(context)];
  for (const page of tabs) await rig.open(page, { autoStart: false });
  const outcomes = await Promise.all(
    tabs.map((page, index) =>
      page.evaluate(
        (name) => window.lab.errorOf(() => window.lab.sites.create({ id: "same", name })),
        `tab ${index}`,
      ),
    ),
  );
  const refused = outcomes.filter(Boolean);
  assert.equal(refused.length, 1, "create refuses a key that exists, in the other tab as well");
  assert.equal(refused[0].code, "already-exists");
  const winner = outcomes.findIndex((outcome) => outcome === null);
  await eventually("both tabs see the same record", async () => {
    const names = await Promise.all(
      tabs.map((page) => page.evaluate(async () => (await window.lab.sites.get("same"))?.name)),
    );
    return names.every((name) => name === `tab ${winner}`);
  });
  for (const page of tabs) assert.equal((await facts(page)).stats.total, 1);
}

/** Any tab can wait, ask and see, whether it leads or not. */
async function anyTab(rig) {
  const context = await rig.device();
  const tabs = [await rig.tab(context), await rig.tab(context)];
  for (const page of tabs) await rig.open(page);
  for (const page of tabs) await page.evaluate(() => window.lab.synced());
  const follower = (await facts(tabs[0])).leader ? tabs[1] : tabs[0];
  await follower.evaluate(() => {
    window.seen = [];
    window.lab.sites.subscribe({}, (rows) => window.seen.push(rows.length));
    return window.lab.sites.create({ id: "f", name: "made by the follower" });
  });
  await follower.evaluate(() => window.lab.synced());
  assert.equal((await rig.records()).size, 1);
  await follower.evaluate(() => window.db.pause());
  for (const page of tabs) await page.evaluate(() => window.lab.waitFor("s.phase === 'paused'"));
  await follower.evaluate(() => window.db.resume());
  for (const page of tabs) await page.evaluate(() => window.lab.waitFor("s.phase === 'idle'"));
  assert.equal(await follower.evaluate(() => window.seen.at(-1)), 1);
  // Whoever leads next goes on as the last one did.
  const leader = tabs.find((page) => page !== follower);
  await follower.evaluate(() => window.db.pause());
  await leader.evaluate(() => window.lab.waitFor("s.phase === 'paused'"));
  await leader.evaluate(() => window.db.resume());
  await leader.evaluate(() => window.db.close());
  await follower.evaluate(() => window.lab.waitFor("s.leader && s.phase !== 'paused'"));
  await follower.evaluate(() => window.lab.synced());
  await rig.open(leader);
  await follower.evaluate(() => window.db.pause());
  await leader.evaluate(() => window.lab.waitFor("s.phase === 'paused'"));
  await follower.evaluate(() => window.db.close());
  await leader.evaluate(() => window.lab.waitFor("s.leader"));
  assert.equal(await leader.evaluate(() => window.db.status.phase), "paused");
}

/** Two tabs update the same 50 records a thousand times each; every update leaves a field of its own. */
async function twoThousandUpdates(rig) {
  const context = await rig.device();
  const open = [await rig.tab(context), await rig.tab(context)];
  for (const page of open) await rig.open(page, { autoStart: false });
  await open[0].evaluate(() =>
    window.lab.sites.putMany(Array.from({ length: 50 }, (_, i) => ({ id: `k${i}`, name: "" }))),
  );
  const update = (page, prefix) =>
    page.evaluate(async (tab) => {
      // They are a tab's own writes only once it has heard of the records.
      for (let there = 0; there < 50; there = await window.lab.sites.count())
        await new Promise((resolve) => setTimeout(resolve, 5));
      let acknowledged = 0;
      const all = [];
      for (let n = 0; n < 1_000; n += 1) {
        const one = window.lab.sites.update(`k${(n * 7) % 50}`, { [tab + n]: 1 });
        all.push(one.then(() => (acknowledged += 1)));
        if (n % 3 === 0) await one;
      }
      await Promise.all(all);
      return acknowledged;
    }, prefix);
  const acknowledged = await Promise.all([update(open[0], "a"), update(open[1], "b")]);
  assert.deepEqual(acknowledged, [1_000, 1_000]);
  const third = await rig.tab(context);
  await rig.open(third, { autoStart: false });
  const all = (page) => page.evaluate(() => window.lab.sites.all());
  const truth = await all(third);
  const fields = truth.map((record) => Object.keys(record).length - 2);
  assert.equal(
    fields.reduce((sum, n) => sum + n),
    2_000,
  );
  for (const page of open) {
    await eventually("both tabs show the same", async () =>
      isDeepStrictEqual(await all(page), truth),
    );
    assert.equal((await page.evaluate(() => window.db.outbox.stats())).total, 50);
  }
}

/** Whoever has just written is the faster one to write again: both come to their turn all the same. */
async function bothInTurn(rig) {
  const context = await rig.device();
  const open = [await rig.tab(context), await rig.tab(context)];
  for (const page of open) await rig.open(page, { autoStart: false });
  const write = (page) =>
    page.evaluate(async () => {
      const over = new BroadcastChannel("over");
      let [count, isOver] = [0, false];
      over.onmessage = () => (isOver = true);
      const one = async () => {
        for (; !isOver && count < 1_000; count += 1)
          await window.lab.sites.put({ id: `${count % 100}`, name: "" });
      };
      await Promise.all([one(), one(), one()]);
      over.postMessage("over");
      return count;
    });
  const counts = await Promise.all(open.map(write));
  assert.ok(Math.min(...counts) > 300, `${counts} writes in the same time`);
}

/** A tab that thinks itself alone tells nobody of its writes; who comes then still misses none. */
async function lateTab(rig) {
  const context = await rig.device();
  const first = await rig.tab(context);
  await rig.open(first, { autoStart: false });
  const second = await rig.tab(context);
  // Written again and again while the second one opens, and read there without asking for it.
  await first.evaluate(() => {
    window.writing = (async () => {
      let n = 0;
      for (const end = Date.now() + 1_500; Date.now() < end; n += 1)
        await window.lab.sites.put({ id: `w${String(n).padStart(5, "0")}`, name: "" });
      return n;
    })();
  });
  await rig.open(second, { autoStart: false });
  await second.evaluate(() => {
    window.seen = 0;
    window.lab.sites.subscribe((records) => (window.seen = records.length));
  });
  const written = await first.evaluate(() => window.writing);
  assert.ok(written > 10, `${written} writes`);
  await eventually("it has seen all of them", async () => {
    return (await second.evaluate(() => window.seen)) === written;
  });
  // And the other way: it has been told of the first one, so it tells in its turn.
  await first.evaluate(() => {
    window.lab.sites.subscribe((records) => (window.seen = records.length));
  });
  await second.evaluate(() => window.lab.sites.put({ id: "x", name: "" }));
  await eventually("the first one has seen the second's", async () => {
    return (await first.evaluate(() => window.seen)) === written + 1;
  });
}

async function tooOld(rig) {
  const context = await rig.device();
  const [old, young] = [await rig.tab(context), await rig.tab(context)];
  await rig.open(old, { interval: 0 });
  await old.evaluate(() => window.lab.waitFor("s.leader"));
  await old.evaluate(async () => {
    await window.lab.sites.put({ id: "a", name: "a" });
    await window.lab.synced();
  });
  await rig.open(young, { interval: 0, version: 2 });
  await young.evaluate(async () => {
    await window.lab.sites.put({ id: "b", name: "b" });
    await window.lab.synced();
  });
  assert.deepEqual([...(await rig.records()).keys()].sort(), ["sites/a", "sites/b"]);
  const seen = (page) =>
    page.evaluate(async () => {
      const sync = await window.lab.errorOf(() => window.db.sync());
      const { phase, leader, error } = window.db.status;
      return [phase, leader, error?.code, sync?.code];
    });
  assert.deepEqual(await seen(young), ["idle", true, undefined, undefined]);
  assert.deepEqual(await seen(old), ["error", false, "database-newer", "database-newer"]);
  // One that comes later, from a cache, does not take the lead either.
  await old.evaluate(() => window.db.close());
  await rig.open(old, { interval: 0 });
  await old.evaluate(() => window.lab.waitFor("s.error?.code === 'database-newer'"));
  await young.evaluate(() => window.db.close());
  await rig.open(young, { interval: 0, version: 2 });
  await young.evaluate(() => window.lab.synced());
  assert.deepEqual(await seen(old), ["error", false, "database-newer", "database-newer"]);
}

export const tabs = [
  { name: "tabs: two thousand updates of the same records", run: twoThousandUpdates },
  { name: "tabs: who writes all the time leaves the others their turn", run: bothInTurn },
  { name: "tabs: who comes late misses nothing", run: lateTab },
  { name: "two tabs: each sees both, counts agree, one leader, applied once", run: twoTabs },
  { name: "two tabs create the same key: one is told", run: sameRecord },
  { name: "a tab that does not lead can wait, pause and resume", run: anyTab },
  { name: "tabs: one that is too old for the data leaves the lead to another", run: tooOld },
];
