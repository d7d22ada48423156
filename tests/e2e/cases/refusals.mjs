// What is refused: by landfall before it is stored, and by the server for good.
import assert from "node:assert/strict";
import { findSite, openDemo, synced, writeNote } from "../lib/demo-page.mjs";
import { BATCH, json } from "../lib/fault-proxy.mjs";

async function wrongOptions(rig) {
  const page = await rig.tab();
  const errors = await page.evaluate(async () => {
    const { open } = window.landfall;
    const fine = { name: "wrong", user: "u", collections: { sites: { key: "id" } } };
    const wrong = {
      "no options": undefined,
      "no name": { ...fine, name: undefined },
      "empty name": { ...fine, name: "" },
      "user not a string": { ...fine, user: 7 },
      "no collections": { ...fine, collections: undefined },
      "collection without key": { ...fine, collections: { sites: {} } },
      "unknown conflict strategy": {
        ...fine,
        collections: { sites: { key: "id", conflict: "biggest" } },
      },
      "reference to nowhere": {
        ...fine,
        collections: { sites: { key: "id", references: { parent: "nowhere" } } },
      },
      "interval below zero": { ...fine, interval: -1 },
      "interval not finite": { ...fine, interval: Number.NaN },
      "maxAttempts zero": { ...fine, maxAttempts: 0 },
      "unknown durability": { ...fine, durability: "eternal" },
      "backend without methods": { ...fine, backend: {} },
      "misspelt option": { ...fine, colections: {} },
    };
    const found = {};
    for (const [what, options] of Object.entries(wrong)) {
      found[what] = await window.lab.errorOf(async () => (await open(options)).close());
    }
    return found;
  });
  for (const [what, error] of Object.entries(errors)) {
    assert.equal(error?.code, "invalid-options", what);
    assert.ok(error.proper, `${what}: a LandfallError`);
    assert.ok(error.message && error.hint, `${what}: a message and a hint`);
  }
}

async function wrongRecords(rig) {
  const page = await rig.tab();
  await rig.open(page, { autoStart: false });
  const { errors, total, count } = await page.evaluate(async () => {
    const { sites } = window.lab;
    await sites.create({ id: "there", name: "There" });
    const tries = {
      "no key": () => sites.create({ name: "x" }),
      "key a number": () => sites.create({ id: 7, name: "x" }),
      "empty key": () => sites.create({ id: "", name: "x" }),
      "key too long": () => sites.create({ id: "k".repeat(513), name: "x" }),
      "one of many without key": () => sites.putMany([{ id: "ok", name: "x" }, { name: "y" }]),
      "a function": () => sites.put({ id: "f", name: () => "x" }),
      "a symbol": () => sites.put({ id: "f", name: Symbol("x") }),
      "a function, deep": () => sites.put({ id: "f", name: { of: [{ it: () => 1 }] } }),
      "a function in a patch": () => sites.update("there", { name: () => "x" }),
      "not an object": () => sites.put("record"),
      null: () => sites.put(null),
      "a key that exists": () => sites.create({ id: "there", name: "again" }),
      "update of nothing": () => sites.update("nowhere", { name: "x" }),
      "the key changed": () => sites.update("there", { id: "elsewhere" }),
    };
    const errors = {};
    for (const [what, work] of Object.entries(tries)) {
      errors[what] = await window.lab.errorOf(work);
    }
    errors["unknown collection"] = await window.lab.errorOf(() => window.db.collection("places"));
    errors["unknown index"] = await window.lab.errorOf(() => sites.find({ index: "colour" }));
    const { total } = await window.db.outbox.stats();
    return { errors, total, count: await sites.count() };
  });
  const codes = {
    "no key": "invalid-key",
    "key a number": "invalid-key",
    "empty key": "invalid-key",
    "key too long": "invalid-key",
    "one of many without key": "invalid-key",
    "a function": "not-cloneable",
    "a symbol": "not-cloneable",
    "a function, deep": "not-cloneable",
    "a function in a patch": "not-cloneable",
    "not an object": "invalid-record",
    null: "invalid-record",
    "a key that exists": "already-exists",
    "update of nothing": "not-found",
    "the key changed": "invalid-key",
    "unknown collection": "unknown-collection",
    "unknown index": "unknown-index",
  };
  for (const [what, code] of Object.entries(codes)) {
    assert.equal(errors[what]?.code, code, what);
    assert.ok(errors[what].proper, `${what}: a LandfallError`);
    assert.ok(errors[what].message && errors[what].hint, `${what}: a message and a hint`);
  }
  assert.equal(total, 1, "none of these left anything in the outbox");
  assert.equal(count, 1, "none of these left a record");
}

/** One mutation that the server will never take, in the middle of others. */
async function refusedForGood(rig) {
  const page = await rig.tab();
  await rig.open(page, { autoStart: false });
  const odd = "odd";
  await page.evaluate(async (id) => {
    const { sites } = window.lab;
    await sites.create({ id: "s1", name: "one" });
    await sites.create({ id, ["x".repeat(257)]: "a field's name that is too long for the server" });
    await sites.create({ id: "s2", name: "two" });
    window.parked = [];
    window.db.on("parked", (entry) => window.parked.push(entry.key));
    window.db.resume();
  }, odd);
  await page.evaluate(() => window.lab.synced());
  assert.deepEqual([...(await rig.records()).keys()].sort(), ["sites/s1", "sites/s2"]);
  const [entry, ...others] = await page.evaluate(() => window.db.outbox.list());
  assert.equal(others.length, 0);
  assert.equal(entry.key, odd);
  assert.equal(entry.state, "failed");
  assert.ok(entry.error?.message, "it says why");
  assert.equal(await page.evaluate((id) => window.lab.sites.state(id), odd), "failed");
  assert.deepEqual(await page.evaluate(() => window.parked), [odd]);
  assert.equal(await page.evaluate(() => window.db.status.outbox.failed), 1);

  // Trying again, under a new id, does not help; giving it up does.
  await page.evaluate((id) => window.db.outbox.retry(id), entry.id);
  await page.evaluate(async () => {
    await window.lab.waitFor("s.outbox.failed === 1");
    const [again] = await window.db.outbox.list({ state: "failed" });
    await window.db.outbox.discard(again.id);
  });
  const left = await page.evaluate(async (id) => {
    const { total } = await window.db.outbox.stats();
    return { total, record: (await window.lab.sites.get(id)) ?? null };
  }, odd);
  assert.deepEqual(left, { total: 0, record: null }, "the record is as the server has it");
}

/** Of a transaction the server takes all or nothing; what is left waits for the one that is refused. */
async function halfATransaction(rig) {
  const page = await rig.tab();
  await rig.open(page);
  const odd = "odd";
  await page.evaluate(async (id) => {
    await window.db.transaction((tx) => {
      tx.collection("sites").create({ id: "s1", name: "one" });
      tx.collection("sites").create({ id, ["x".repeat(257)]: "too long for the server" });
      tx.collection("assessments").create({ id: "a1", siteId: "s1", score: 3 });
    });
    await window.lab.sites.create({ id: "alone", name: "not of it" });
    await window.lab.waitFor("s.outbox.failed === 1 && s.outbox.syncing === 0");
    await window.lab.waitFor("s.outbox.pending === 2 && s.phase === 'idle'");
  }, odd);
  assert.deepEqual([...(await rig.records()).keys()], ["sites/alone"]);
  const entries = await page.evaluate(() => window.db.outbox.list());
  const refused = entries.find(({ state }) => state === "failed");
  assert.equal(refused.key, odd);
  for (const entry of entries.filter(({ state }) => state === "pending")) {
    assert.equal(entry.blockedBy, refused.id, entry.key);
    assert.equal(entry.error?.code, "aborted", entry.key);
  }
  await page.evaluate(async (id) => {
    await window.db.outbox.discard(id);
    await window.lab.synced();
  }, refused.id);
  const keys = [...(await rig.records()).keys()].sort();
  assert.deepEqual(keys, ["assessments/a1", "sites/alone", "sites/s1"]);
}

/** Refused by the server's rules, until the rules change. */
async function refusedThenAllowed(rig) {
  const page = await rig.tab();
  await rig.open(page);
  await page.evaluate(async () => {
    await window.lab.sites.create({ id: "s1", name: "before" });
    await window.lab.synced();
  });
  const rule = rig.faults.on(BATCH, ({ body, answer }) => {
    const results = body.changes.map(({ id, offlineId }) => {
      return { id, offlineId, status: "failed", code: "forbidden", message: "Not yours to edit." };
    });
    answer(200, json, JSON.stringify({ results }));
  });
  const edit = (name) =>
    page.evaluate(async (text) => {
      await window.lab.sites.update("s1", { name: text });
      await window.lab.waitFor("s.outbox.failed === 1");
      const [entry] = await window.db.outbox.list({ state: "failed" });
      return entry;
    }, name);
  const first = await edit("after");
  assert.match(first.error.message, /Not yours to edit/);
  await page.evaluate((id) => window.db.outbox.discard(id), first.id);
  const back = await page.evaluate(async () => ({
    name: (await window.lab.sites.get("s1")).name,
    state: window.lab.sites.state("s1"),
  }));
  assert.deepEqual(back, { name: "before", state: "synced" });

  const second = await edit("after all");
  rule.stop();
  // At once after a start, when the queue is not in memory yet.
  await page.evaluate(() => window.db.close());
  const again = { user: rig.user, token: rig.server.token(rig.user), rescue: false };
  const open = async ([given, id]) => {
    await window.lab.open(given);
    await window.db.outbox.retry(id);
  };
  await page.evaluate(open, [again, second.id]);
  await page.evaluate(() => window.lab.synced());
  const { total } = await page.evaluate(() => window.db.outbox.stats());
  assert.equal(total, 0);
  const record = (await rig.records()).get("sites/s1");
  assert.equal(record.data.name, "after all");
  assert.equal(record.versionNumber, 2);
}

/** A child is not sent before its parked parent; it says what it waits for. */
async function waitsForParent(rig) {
  const page = await rig.tab();
  await rig.open(page);
  await page.evaluate(() => window.lab.synced());
  const rule = rig.faults.on(
    BATCH,
    ({ body, answer }) => {
      const results = body.changes.map(({ id, offlineId }) => {
        return { id, offlineId, status: "failed", code: "invalid", message: "Not now." };
      });
      answer(200, json, JSON.stringify({ results }));
    },
    1,
  );
  await page.evaluate(async () => {
    await window.lab.sites.create({ id: "parent", name: "Parent" });
    await window.lab.waitFor("s.outbox.failed === 1");
    await window.lab.assessments.create({ id: "child", siteId: "parent", score: 3 });
    await window.lab.sites.create({ id: "other", name: "Other" });
    await window.lab.waitFor(
      "s.outbox.pending === 1 && s.outbox.syncing === 0 && s.phase === 'idle'",
    );
  });
  assert.equal(rule.used, 1);
  assert.deepEqual([...(await rig.records()).keys()], ["sites/other"]);
  const entries = await page.evaluate(() => window.db.outbox.list());
  const parent = entries.find(({ key }) => key === "parent");
  const child = entries.find(({ key }) => key === "child");
  assert.equal(parent.state, "failed");
  assert.equal(child.state, "pending");
  assert.equal(child.waitsFor, parent.id);
  await page.evaluate(() => window.db.outbox.retryAll());
  await page.evaluate(() => window.lab.synced());
  assert.equal((await rig.records()).size, 3);
}

/** In the demo, by hand: the queue says why, retries and discards. */
async function onTheScreen(rig) {
  const page = await (await rig.device({ viewport: { width: 1440, height: 900 } })).newPage();
  await openDemo(page, rig.proxy.origin);
  await synced(page, "a");
  const [site] = await page.evaluate(() =>
    window.fieldbook.a.collection("sites").find({ index: "name", limit: 1, offset: 1_000 }),
  );
  const rule = rig.faults.on(BATCH, ({ body, answer }) => {
    const results = body.changes.map(({ id, offlineId }) => {
      return { id, offlineId, status: "failed", code: "forbidden", message: "Not yours to edit." };
    });
    answer(200, json, JSON.stringify({ results }));
  });
  const view = page.locator('[data-device="a"]');
  const item = view.locator(".item").filter({ hasText: site.name });
  await findSite(page, "a", site);
  await writeNote(page, "a", "Ours now");
  await item.getByText("Not yours to edit.").waitFor();
  await view.locator(".badge", { hasText: "1 change not accepted" }).waitFor();
  await view.locator(".site-head .chip", { hasText: "Failed" }).waitFor();
  await item.getByRole("button", { name: "Discard" }).click();
  await item.getByRole("button", { name: "Discard for good?" }).click();
  await item.waitFor({ state: "detached" });
  await view.locator(".site-head .chip", { hasText: "Synced" }).waitFor();
  assert.equal(await view.getByLabel("Note").first().inputValue(), site.note ?? "");

  await writeNote(page, "a", "Ours after all");
  await item.getByText("Not yours to edit.").waitFor();
  rule.stop();
  await item.getByRole("button", { name: "Retry" }).click();
  await item.waitFor({ state: "detached" });
  await view.locator(".badge", { hasText: "All changes synced" }).waitFor();
  const record = (await rig.server.records("demo")).get(`sites/${site.id}`);
  assert.equal(record.data.note, "Ours after all");
}

async function halfACharacter(rig) {
  const page = await rig.tab();
  await rig.open(page, { autoStart: false });
  const got = await page.evaluate(async () => {
    const { db, lab } = window;
    const { sites, assessments } = lab;
    // Without a surrogate's other half there is nothing to tell these two apart by.
    const [half, other] = ["\ud83d", "\ud83e"];
    await sites.put({ id: "\ufffd", name: "a key as any other" });
    await assessments.put({ id: "of-none", siteId: half });
    const ways = [
      () => sites.put({ id: half }),
      () => sites.put({ id: other }, { localOnly: true }),
      () => sites.putMany([{ id: "fine" }, { id: half }]),
      () => sites.create({ id: half }),
      () => sites.update(half, { name: "b" }),
      () => sites.updateMany([{ key: other, patch: { name: "b" } }]),
      () => sites.delete(half),
      () => sites.deleteMany(["\ufffd", other]),
      () => sites.promote(half),
      () => sites.get(half),
      () => sites.getMany([half]),
      async () => sites.state(half),
      async () => sites.record(half),
      () => db.transaction((tx) => tx.collection("sites").put({ id: half })),
      () => db.transaction((tx) => tx.collection("sites").update(half, { name: "b" })),
      () => db.transaction((tx) => tx.collection("sites").delete(half)),
      () => db.transaction((tx) => tx.collection("sites").get(half)),
    ];
    const codes = [];
    for (const way of ways) codes.push((await lab.errorOf(way))?.code);
    // A patch of the key that only looks like it.
    codes.push((await lab.errorOf(() => sites.update("\ufffd", { id: half })))?.code);
    const waiting = (await db.outbox.list()).map(({ waitsFor }) => waitsFor);
    return { codes, waiting, all: await sites.all() };
  });
  assert.deepEqual(got.codes.slice(0, -1), Array(17).fill("invalid-key"));
  assert.ok(["invalid-key", "invalid-record"].includes(got.codes.at(-1)), got.codes.at(-1));
  assert.deepEqual(got.waiting, [null, null], "it refers to no record");
  assert.deepEqual(got.all, [{ id: "\ufffd", name: "a key as any other" }]);
}

export const refusals = [
  { name: "wrong options to open: invalid-options", run: wrongOptions },
  { name: "records that cannot be kept leave nothing behind", run: wrongRecords },
  { name: "a key with half a character is refused wherever it comes in", run: halfACharacter },
  { name: "refused for good: parked, the others go on, discard clears it", run: refusedForGood },
  { name: "half a transaction never takes effect", run: halfATransaction },
  { name: "refused by the rules: discard goes back, retry goes through", run: refusedThenAllowed },
  { name: "the demo shows what was refused, and retries and discards", run: onTheScreen },
  { name: "a child waits for its parked parent", run: waitsForParent },
];
