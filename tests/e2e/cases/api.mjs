// What the JavaScript side adds to the core: transactions, schemas, drafts, confirmed writes,
// migrations, backups, the end of a database.
import assert from "node:assert/strict";
import { eventually } from "../lib/within.mjs";

const sites = { key: "id", indexes: ["name"] };

async function transactions(rig) {
  const page = await rig.tab();
  await rig.open(page, { autoStart: false });
  const got = await page.evaluate(async () => {
    const { db, lab } = window;
    await lab.sites.create({ id: "s", name: "one", visits: 1 });
    const out = {};
    out.answer = await db.transaction(async (tx) => {
      const site = await tx.collection("sites").get("s");
      tx.collection("sites").update("s", { visits: site.visits + 1 });
      tx.collection("assessments").create({ id: "a", siteId: "s", gone: true });
      tx.collection("assessments").update("a", { score: 3, gone: undefined });
      out.own = await tx.collection("assessments").getMany(["a", "none"]);
      out.outside = (await lab.sites.get("s")).visits;
      return (await tx.collection("sites").get("s")).visits;
    });
    out.stored = [await lab.sites.get("s"), await lab.assessments.all()];
    out.thrown = await lab.errorOf(() =>
      db.transaction(async (tx) => {
        await tx.collection("sites").delete("s");
        throw Object.assign(new Error("no"), { code: "mine" });
      }),
    );
    // A write that fails takes the rest with it, even if nobody looks.
    out.taken = await lab.errorOf(() =>
      db.transaction((tx) => {
        tx.collection("sites").put({ id: "t" });
        tx.collection("sites").create({ id: "s" });
      }),
    );
    out.find = await lab.errorOf(() => db.transaction((tx) => tx.collection("sites").find()));
    let late;
    await db.transaction((tx) => {
      late = tx.collection("sites");
    });
    out.late = await lab.errorOf(async () => late.put({ id: "late" }));
    out.keys = (await lab.sites.all()).map(({ id }) => id);

    // Ten at once read and add one: each sees what the others have stored, or runs again.
    let runs = 0;
    const add = () =>
      db.transaction(async (tx) => {
        runs += 1;
        const { visits } = await tx.collection("sites").get("s");
        await tx.collection("sites").update("s", { visits: visits + 1 });
      });
    await Promise.all(Array.from({ length: 6 }, add));
    out.visits = (await lab.sites.get("s")).visits;
    out.again = runs > 6;
    out.contention = await lab.errorOf(() =>
      db.transaction(async (tx) => {
        const { visits } = await tx.collection("sites").get("s");
        await lab.sites.update("s", { visits: visits + 1 });
        await tx.collection("sites").update("s", { visits });
      }),
    );
    return out;
  });
  assert.equal(got.answer, 2);
  assert.equal(got.outside, 1, "nothing is seen before the end");
  assert.deepEqual(got.own, [{ id: "a", siteId: "s", score: 3 }, undefined]);
  assert.deepEqual(got.stored, [
    { id: "s", name: "one", visits: 2 },
    [{ id: "a", siteId: "s", score: 3 }],
  ]);
  assert.equal(got.thrown.code, "mine");
  assert.equal(got.taken.code, "already-exists");
  assert.equal(got.find.code, "invalid-options");
  assert.equal(got.late.code, "closed");
  assert.deepEqual(got.keys, ["s"]);
  assert.deepEqual([got.visits, got.again], [8, true]);
  assert.equal(got.contention.code, "write-contention");
  await page.evaluate(() => window.db.resume());
  await page.evaluate(() => window.lab.synced());
  assert.equal((await rig.records()).get("assessments/a")?.data.score, 3);
}

async function schemas(rig) {
  const page = await rig.tab();
  const got = await page.evaluate(
    async ({ user, sites }) => {
      const { lab } = window;
      // As a schema library would have it: names are trimmed, visits are counted from 0.
      const schema = {
        "~standard": {
          version: 1,
          vendor: "test",
          validate: async (value) => {
            await new Promise((resolve) => setTimeout(resolve, value.slow ?? 0));
            if (typeof value.name !== "string")
              return { issues: [{ message: "needs a text", path: ["name"] }] };
            if (value.parts?.[0]?.n < 0)
              return { issues: [{ message: "too small", path: ["parts", { key: 0 }, "n"] }] };
            return { value: { visits: 0, ...value, name: value.name.trim() } };
          },
        },
      };
      const collections = { sites: { ...sites, schema } };
      window.db = await window.landfall.open({ name: "schemas", user, collections });
      const all = window.db.collection("sites");
      const out = {};
      const refusal = async (work) => {
        try {
          await work();
        } catch ({ code, message, path }) {
          return [code, message, path];
        }
      };
      out.create = await refusal(() => all.create({ id: "x", name: 7 }));
      out.many = await refusal(() =>
        all.putMany([
          { id: "x", name: "a" },
          { id: "y", name: "b", parts: [{ n: -1 }] },
        ]),
      );
      out.none = await all.count();
      // In order, although the first is checked for longer.
      const first = all.put({ id: "x", name: " first ", slow: 50 });
      const second = all.put({ id: "x", name: " second " });
      out.shown = await all.get("x");
      await Promise.all([first, second]);
      out.update = await refusal(() => all.update("x", { name: null }));
      out.missing = await lab.errorOf(() => all.update("none", { name: "n" }));
      await all.update("x", { name: " third ", extra: 1 });
      await Promise.all([
        all.update("x", { extra: 2 }),
        all.updateMany([
          { key: "x", patch: { visits: 5 } },
          { key: "x", patch: { name: " fourth " } },
        ]),
      ]);
      out.end = await all.get("x");
      out.inside = await refusal(() =>
        window.db.transaction((tx) => {
          tx.collection("sites").update("x", { name: 5 });
        }),
      );
      return out;
    },
    { user: rig.user, sites },
  );
  assert.deepEqual(got.create, ["invalid-record", "name: needs a text", ["name"]]);
  assert.deepEqual(got.many, ["invalid-record", "parts.0.n: too small", ["parts", 0, "n"]]);
  assert.equal(got.none, 0);
  assert.deepEqual(got.shown, { visits: 0, id: "x", name: "second" });
  assert.equal(got.update[0], "invalid-record");
  assert.equal(got.missing.code, "not-found");
  assert.deepEqual(got.end, { visits: 5, id: "x", name: "fourth", extra: 2 });
  assert.equal(got.inside[0], "invalid-record");
}

async function drafts(rig) {
  const page = await rig.tab();
  await rig.open(page);
  const got = await page.evaluate(async () => {
    const { db, lab } = window;
    const seen = [];
    const stop = lab.sites.record("d").subscribe((record) => seen.push(record?.name));
    // Asked while something is stored, it would be told of the draft at once.
    while (seen.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    await lab.sites.put({ id: "d", name: "draft" }, { localOnly: true });
    await lab.synced();
    const states = [lab.sites.state("d")];
    const total = (await db.outbox.stats()).total;
    await lab.sites.put({ id: "other", name: "o" });
    await lab.sites.promote("d");
    await lab.synced();
    states.push(lab.sites.state("d"));
    const wrong = await lab.errorOf(() => lab.sites.put({ id: "e" }, { local: true }));
    const both = { localOnly: true, optimistic: false };
    const never = await lab.errorOf(() => lab.sites.put({ id: "e" }, both));
    stop();
    return { states, total, seen, wrong, never };
  });
  assert.deepEqual(got.states, ["local", "synced"]);
  assert.equal(got.total, 0);
  assert.deepEqual(
    got.seen,
    [null, "draft"].map((name) => name ?? undefined),
  );
  assert.deepEqual([got.wrong.code, got.never.code], ["invalid-options", "invalid-options"]);
  assert.equal((await rig.records()).get("sites/d")?.data.name, "draft");
}

async function confirmedWrites(rig) {
  const page = await rig.tab();
  await rig.open(page);
  await rig.proxy.cut();
  await page.evaluate(() => {
    window.told = window.lab.sites
      .create({ id: "h", name: "hidden" }, { optimistic: false })
      .then(() => (window.confirmed = true));
  });
  await eventually("it is queued", () =>
    page.evaluate(() => window.db.status.outbox.pending === 1),
  );
  assert.equal(await page.evaluate(() => window.lab.sites.get("h")), undefined);
  assert.equal(await page.evaluate(() => window.confirmed), undefined);
  await rig.proxy.heal();
  await page.evaluate(() => window.told);
  assert.equal((await page.evaluate(() => window.lab.sites.get("h"))).name, "hidden");
  assert.equal((await rig.records()).get("sites/h")?.versionNumber, 1);
}

async function pages(rig) {
  const page = await rig.tab();
  await rig.open(page, { autoStart: false });
  const got = await page.evaluate(async () => {
    const { sites } = window.lab;
    const names = Array.from({ length: 25 }, (_, n) => `n${String(n % 9)}`);
    await sites.putMany(names.map((name, n) => ({ id: `s${n}`, name })));
    const walk = async (query, by) => {
      const ids = [];
      for (let after; ;) {
        const rows = await sites.find({ ...query, limit: 4, after });
        if (rows.length === 0) return ids;
        ids.push(...rows.map(({ id }) => id));
        after = by(rows.at(-1));
        // What is written on the way changes nothing about the rest.
        await sites.put({ id: "s0", name: "n0" });
      }
    };
    const query = { index: "name", order: "desc" };
    const all = (await sites.find(query)).map(({ id }) => id);
    const byKey = (await sites.find()).map(({ id }) => id);
    return {
      same: JSON.stringify(all) === JSON.stringify(await walk(query, (row) => row)),
      keys: JSON.stringify(byKey) === JSON.stringify(await walk({}, ({ id }) => id)),
      wrong: await window.lab.errorOf(() => sites.find({ index: "name", after: "s1" })),
    };
  });
  assert.deepEqual([got.same, got.keys, got.wrong.code], [true, true, "invalid-options"]);
}

async function wrongQueries(rig) {
  const page = await rig.tab();
  await rig.open(page, { autoStart: false });
  const got = await page.evaluate(async () => {
    const { sites } = window.lab;
    await sites.putMany(["1", "2", "3"].map((id) => ({ id, name: id })));
    const wrong = [
      { equals: 2 },
      { range: { to: 2 } },
      { equals: ["1", "2"] },
      { index: "name", equals: null },
      { index: "name", range: { from: null } },
      { index: "name", range: "2" },
      { index: "name", prefix: 2 },
      { index: "name", order: -1 },
      { index: "name", equal: "2" },
    ];
    const out = [];
    for (const query of wrong) {
      out.push((await window.lab.errorOf(() => sites.find(query))).code);
      out.push((await window.lab.errorOf(() => sites.count(query))).code);
      out.push((await window.lab.errorOf(async () => sites.subscribe(query, () => {}))).code);
    }
    for (const list of [window.db.outbox.list, window.db.conflicts.list]) {
      out.push((await window.lab.errorOf(() => list({ limits: 1 }))).code);
    }
    const fine = await sites.find({ equals: "2", range: undefined, order: undefined });
    const none = await window.db.outbox.list({ limit: 0 });
    const two = await window.db.outbox.list({ limit: 2, state: "pending" });
    return { codes: [...new Set(out)], counts: [fine.length, none.length, two.length] };
  });
  assert.deepEqual(got, { codes: ["invalid-options"], counts: [1, 0, 2] });
}

async function migrations(rig) {
  const page = await rig.tab();
  const got = await page.evaluate(
    async ({ user, sites }) => {
      const { open } = window.landfall;
      const options = { name: "versions", user, collections: { sites } };
      const out = {};
      const first = await open(options);
      await first.collection("sites").create({ id: "a", n: 1 });
      const tried = (more) => window.lab.errorOf(() => open({ ...options, ...more }));
      out.failed = await tried({
        version: 2,
        migrate: {
          sites: (record) => {
            record.n = "changed in place";
            throw new Error("no idea");
          },
        },
      });
      out.untouched = await first.collection("sites").get("a");
      const second = await open({
        ...options,
        version: 2,
        migrate: { sites: ({ n, ...rest }, from) => ({ ...rest, size: n * 10, from }) },
      });
      // The core has reported while it opened: there is a status all the same.
      out.pending = second.status?.outbox.pending;
      out.migrated = await second.collection("sites").get("a");
      out.queued = (await second.outbox.list()).length;
      // The tab with the old app learns of it.
      await first.waitFor(({ error }) => error?.code === "database-newer", {
        signal: AbortSignal.timeout(5_000),
      });
      out.phase = first.status.phase;
      out.refused = await window.lab.errorOf(() => first.collection("sites").put({ id: "b" }));
      await first.close();
      await second.close();
      out.older = await window.lab.errorOf(async () => {
        const old = await open(options);
        await old.collection("sites").put({ id: "b" });
      });
      return out;
    },
    { user: rig.user, sites },
  );
  assert.equal(got.failed.code, "migration-failed");
  assert.match(got.failed.message, /sites.*"a".*no idea/);
  assert.deepEqual(got.untouched, { id: "a", n: 1 });
  assert.equal(got.pending, 1);
  assert.deepEqual(got.migrated, { id: "a", size: 10, from: 1 });
  assert.equal(got.queued, 1);
  assert.deepEqual([got.phase, got.refused.code], ["error", "database-newer"]);
  assert.equal(got.older.code, "database-newer");
}

async function backupAndSignOut(rig) {
  const context = await rig.device();
  const [page, other] = [await rig.tab(context), await rig.tab(context)];
  for (const tab of [page, other]) await rig.open(tab);
  await rig.proxy.cut();
  await page.evaluate(() => window.lab.sites.create({ id: "kept", name: "kept" }));
  await other.evaluate(() => window.lab.sites.create({ id: "too", name: "kept too" }));
  const got = await page.evaluate(async () => {
    const { db, lab } = window;
    const backup = await db.exportUnsynced();
    const other = { ...backup.mutations[0], number: 99, key: "x", record: { id: "x", name: "x" } };
    const wrong = [
      null,
      { ...backup, landfall: 2 },
      { ...backup, user: "somebody" },
      { ...backup, mutations: [...backup.mutations, { number: -1 }] },
      { ...backup, mutations: [...backup.mutations, { ...backup.mutations[0], record: 7 }] },
      { ...backup, mutations: [{ ...backup.mutations[0], at: ["soon"], number: 99 }] },
      // Ids that could not be read, or told apart, again.
      { ...backup, client: "c".repeat(200), mutations: [other] },
      { ...backup, mutations: [{ ...other, origin: "a\0b.1" }] },
      { ...backup, mutations: [{ ...other, group: "a\0b.1" }] },
    ];
    const codes = [];
    for (const it of wrong) codes.push((await lab.errorOf(() => db.importUnsynced(it)))?.code);
    return {
      backup,
      codes,
      same: await db.importUnsynced(backup),
      refused: await lab.errorOf(() => db.signOut()),
      total: (await db.outbox.stats()).total,
    };
  });
  assert.deepEqual(got.codes, Array(9).fill("invalid-options"));
  assert.deepEqual([got.same, got.backup.mutations.length, got.total], [0, 2, 2]);
  assert.ok(!("unread" in got.backup) && !("others" in got.backup));
  assert.equal(got.refused.code, "unsynced");
  assert.match(got.refused.message, /2 pending/);

  await page.evaluate(() => window.db.signOut({ discard: true }));
  await eventually("the other tab has closed", () =>
    other.evaluate(() => window.db.status.phase === "closed"),
  );
  const left = await page.evaluate(async () => (await indexedDB.databases()).map((d) => d.name));
  assert.deepEqual(
    left.filter((name) => name.includes(rig.user)),
    [],
  );

  await rig.proxy.heal();
  await rig.open(page, { autoStart: false });
  const taken = await page.evaluate(async (backup) => {
    const counts = [await window.db.importUnsynced(backup)];
    counts.push(await window.db.importUnsynced(backup));
    const ids = (await window.db.outbox.list()).map(({ id }) => id);
    window.db.resume();
    await window.lab.synced();
    await window.db.signOut();
    return { counts, ids };
  }, got.backup);
  assert.deepEqual(taken.counts, [2, 0]);
  assert.deepEqual(
    taken.ids,
    got.backup.mutations.map(({ number }) => `${got.backup.client}.${number}`),
  );
  const records = await rig.records();
  assert.equal(records.get("sites/kept")?.versionNumber, 1);
  assert.equal(records.get("sites/too")?.versionNumber, 1);
}

async function oneTurn(rig) {
  const page = await rig.tab();
  await rig.open(page, { autoStart: false });
  const got = await page.evaluate(async () => {
    const { db, lab } = window;
    const { sites, assessments } = lab;
    const asked = [
      sites.create({ id: "a", name: "a", old: true, n: 0 }),
      sites.create({ id: "b", name: "b" }),
      sites.create({ id: "a", name: "again" }),
      sites.put({ id: "c", name: "c" }),
      sites.update("a", { n: 1, old: undefined }),
      sites.update("b", { name: "bb" }),
      sites.update("a", { id: "z" }),
      sites.update("a", { n: 2, ["__proto__"]: 1, "nul\0": 3 }),
      sites.update("none", { n: 1 }),
      sites.update("", { n: 1 }),
      sites.update("b", { nul: 2 }),
      assessments.put({ id: "x", siteId: "a" }),
      sites.delete("c"),
      sites.update("c", { n: 1 }),
      sites.update("a", { n: 3 }),
    ];
    const settled = await Promise.allSettled(asked);
    const state = async () => [await sites.all(), await assessments.all()];
    const queue = async () =>
      (await db.outbox.list()).map(
        ({ collection, key, action }) => `${action} ${collection} ${key}`,
      );
    const all = { codes: settled.map(({ reason }) => reason?.code ?? null), queue: await queue() };
    all.records = await state();
    // A read that is asked for in the same turn sees what was written before it.
    sites.put({ id: "d", name: "d" });
    all.seen = (await sites.get("d")).name;
    sites.update("d", { name: "last" });
    await db.close();
    return all;
  });
  const fine = null;
  assert.deepEqual(got.codes, [
    ...[
      fine,
      fine,
      "already-exists",
      fine,
      fine,
      fine,
      "invalid-key",
      fine,
      "not-found",
      "invalid-key",
    ],
    ...[fine, fine, fine, "not-found", fine],
  ]);
  assert.deepEqual(got.records, [
    [
      { id: "a", name: "a", n: 3, "nul\0": 3 },
      { id: "b", name: "bb", nul: 2 },
    ],
    [{ id: "x", siteId: "a" }],
  ]);
  assert.deepEqual(got.queue, ["create sites a", "create sites b", "create assessments x"]);
  assert.equal(got.seen, "d");
  await rig.open(page, { autoStart: false });
  assert.equal((await page.evaluate(() => window.lab.sites.get("d"))).name, "last");
}

/** Nothing waits for a confirmation but who has asked for it. */
async function schemaAndConfirmed(rig) {
  const page = await rig.tab();
  const got = await page.evaluate(async (user) => {
    const validate = async (value) => (value.bad ? { issues: [{ message: "bad" }] } : { value });
    const schema = { "~standard": { version: 1, vendor: "test", validate } };
    const offline = () => Promise.reject(new TypeError("offline"));
    const backend = { push: offline, pull: offline };
    const collections = { sites: { key: "id", schema } };
    const db = await window.landfall.open({ name: "confirmed", user, backend, collections });
    const sites = db.collection("sites");
    await sites.put({ id: "a", n: 1 });
    const told = [];
    const tell = (promise) =>
      promise.then(
        () => told.push("confirmed"),
        ({ code }) => told.push(code),
      );
    const hidden = [
      tell(sites.put({ id: "b" }, { optimistic: false })),
      tell(sites.update("a", { n: 2 }, { optimistic: false })),
      tell(sites.put({ id: "c", bad: true }, { optimistic: false })),
    ];
    const put = sites.put({ id: "d" });
    const out = { shown: (await sites.all()).map(({ id, n }) => [id, n]), told: [...told] };
    await put;
    out.queued = [...new Set((await db.exportUnsynced()).mutations.map(({ key }) => key))];
    await db.close();
    await Promise.all(hidden);
    return { ...out, end: told.sort() };
  }, rig.user);
  assert.deepEqual(got, {
    shown: [
      ["a", 1],
      ["d", undefined],
    ],
    told: ["invalid-record"],
    queued: ["a", "b", "d"],
    end: ["closed", "closed", "invalid-record"],
  });
}

/** What it asks for after an `await` cannot be told from what anybody asks for: both have an end. */
async function schemaThatWaitsForItself(rig) {
  const page = await rig.tab();
  await page.clock.install();
  const work = page.evaluate(async (user) => {
    let sites;
    const validate = async (value) => {
      await null;
      return { value: { ...value, before: Boolean(await sites.get(value.id)) } };
    };
    const schema = { "~standard": { version: 1, vendor: "test", validate } };
    const collections = { sites: { key: "id", schema } };
    const db = await window.landfall.open({ name: "waits", user, collections });
    sites = db.collection("sites");
    const error = window.lab.errorOf(() => sites.put({ id: "a" }));
    const all = await sites.all();
    const { code, message } = await error;
    await db.close();
    return { code, message, all };
  }, rig.user);
  let over = false;
  const end = () => (over = true);
  work.then(end, end);
  await eventually("an answer", async () => {
    if (!over) await page.clock.runFor(5_000);
    return over;
  });
  assert.deepEqual(await work, {
    code: "invalid-record",
    message: "the record: the schema did not answer in time",
    all: [],
  });
}

async function schemaThatReads(rig) {
  const page = await rig.tab();
  const got = await page.evaluate(async (user) => {
    let sites;
    const validate = async (value) => {
      const others = await sites.find();
      return others.some(({ name }) => name === value.name)
        ? { issues: [{ message: "the name is taken", path: ["name"] }] }
        : { value };
    };
    const schema = { "~standard": { version: 1, vendor: "test", validate } };
    const collections = { sites: { key: "id", schema } };
    const db = await window.landfall.open({ name: "unique", user, collections });
    sites = db.collection("sites");
    const all = ["one", "two", "one"].map((name, id) => sites.put({ id: `${id}`, name }));
    const codes = (await Promise.allSettled(all)).map(({ reason }) => reason?.code ?? null);
    const names = (await sites.all()).map(({ name }) => name);
    await db.close();
    return { codes, names };
  }, rig.user);
  assert.deepEqual(got, { codes: [null, null, "invalid-record"], names: ["one", "two"] });
}

async function sameFunction(rig) {
  const page = await rig.tab();
  await rig.open(page, { autoStart: false });
  const told = await page.evaluate(async () => {
    const { db, lab } = window;
    let told = 0;
    const tell = () => (told += 1);
    const [first, second] = [db.subscribe(tell), db.subscribe(tell)];
    const change = async (id) => {
      const before = told;
      await lab.sites.put({ id, name: "" });
      await new Promise((resolve) => setTimeout(resolve, 50));
      return told - before;
    };
    const counts = [];
    counts.push((await change("a")) > 0);
    first();
    first();
    counts.push((await change("b")) > 0);
    second();
    counts.push((await change("c")) > 0);
    return counts;
  });
  assert.deepEqual(told, [true, true, false]);
}

export const api = [
  { name: "api: writes of one turn each have their own answer", run: oneTurn },
  { name: "api: transactions store all or nothing", run: transactions },
  { name: "api: a schema checks what is stored", run: schemas },
  {
    name: "api: a schema holds nobody up while a write waits for its confirmation",
    run: schemaAndConfirmed,
  },
  { name: "api: a schema may look into its own collection", run: schemaThatReads },
  { name: "api: a schema that waits for itself has an end", run: schemaThatWaitsForItself },
  { name: "api: one function that was handed in twice is two", run: sameFunction },
  { name: "api: local drafts are promoted", run: drafts },
  { name: "api: a confirmed write shows when the server has it", run: confirmedWrites },
  { name: "api: pages follow each other", run: pages },
  { name: "api: a query that would select everything by mistake is refused", run: wrongQueries },
  { name: "api: data is migrated whole or not at all", run: migrations },
  { name: "api: backup, sign out, restore", run: backupAndSignOut },
];
