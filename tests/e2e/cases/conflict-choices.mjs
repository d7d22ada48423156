// Conflicts that the app settles: by hand, or by a function of its own; and what is queued, changed.
import assert from "node:assert/strict";
import { eventually } from "../lib/within.mjs";

const BATCH = "POST /api/v1/sync/batch";
const json = { "content-type": "application/json" };

/** Opens `db` with this strategy for sites: a name, or the name of a function on the page's window. */
async function openWith(rig, page, conflict) {
  const given = { user: rig.user, token: rig.server.token(rig.user), conflict };
  await page.evaluate(async ({ conflict, ...options }) => {
    const collections = {
      sites: { key: "id", indexes: ["name"], conflict: window[conflict] ?? conflict },
      assessments: { key: "id" },
    };
    await window.lab.open({ ...options, collections });
    window.told = [];
    window.db.on("conflict", ({ key, outcome }) => window.told.push(`${key} ${outcome}`));
  }, given);
}

/** A site that says "here" on the first device, "there" on the server and on another, "first" before. */
async function meet(rig, conflict, scripts = []) {
  const [a, b] = [await rig.tab(undefined, scripts), await rig.tab()];
  await openWith(rig, a, conflict);
  await a.evaluate(async () => {
    await window.lab.sites.create({ id: "s1", name: "first", note: "kept" });
    await window.lab.synced();
  });
  await rig.open(b);
  await b.evaluate(() => window.lab.synced());
  await a.evaluate(async () => {
    window.db.pause();
    await window.lab.sites.update("s1", { name: "here" });
  });
  await b.evaluate(async () => {
    await window.lab.sites.update("s1", { name: "there" });
    await window.lab.synced();
  });
  await a.evaluate(() => window.db.resume());
  return [a, b];
}

const look = (page) =>
  page.evaluate(async () => {
    const name = (side) => side?.name ?? null;
    const short = (c) => {
      const sides = [c.base, c.local, c.remote, c.result].map(name);
      return [c.key, c.strategy, c.outcome, ...sides];
    };
    return {
      conflicts: (await window.db.conflicts.list()).map(short),
      outbox: (await window.db.outbox.list()).map(({ key, state }) => `${key} ${state}`),
      counts: window.db.status.outbox,
      state: window.lab.sites.state("s1"),
      shown: name(await window.lab.sites.get("s1")),
    };
  });

const counted = { pending: 0, syncing: 0, conflict: 0, failed: 0 };

/** Everybody has this, and nothing waits. */
async function settledAs(rig, pages, expected) {
  for (const page of pages) await page.evaluate(() => window.lab.synced());
  const [{ data = null } = {}] = [(await rig.records()).get("sites/s1")];
  assert.deepEqual(data, expected, "the server");
  for (const page of pages) {
    const held = await page.evaluate(async () => (await window.lab.sites.get("s1")) ?? null);
    assert.deepEqual(held, expected, "a device");
  }
  const { counts, state } = await look(pages[0]);
  assert.deepEqual(counts, counted);
  assert.equal(state, expected === null ? undefined : "synced");
}

const manual = (choice, outcome, expected) => async (rig) => {
  const [a, b] = await meet(rig, "manual");
  await a.evaluate(() => window.lab.waitFor("s.outbox.conflict === 1"));
  const waiting = {
    conflicts: [["s1", "manual", "waiting", "first", "here", "there", null]],
    outbox: ["s1 conflict"],
    counts: { ...counted, conflict: 1 },
    state: "conflict",
    shown: "here",
  };
  assert.deepEqual(await look(a), waiting);
  const [{ id }] = await a.evaluate(() => window.db.conflicts.list());
  assert.equal((await a.evaluate(() => window.db.outbox.list()))[0].id, id);

  // It waits as long as it takes, also over a new start, and also in a folded database.
  await a.evaluate(() => window.db.compact());
  await rig.goToLab(a);
  await openWith(rig, a, "manual");
  assert.deepEqual((await a.evaluate(() => window.db.status.outbox)).conflict, 1, "at once");
  await a.evaluate(() => window.lab.synced());
  assert.deepEqual(await look(a), waiting);
  assert.deepEqual(await a.evaluate(() => window.told), []);

  const wrong = await a.evaluate(async (id) => {
    const { resolve } = window.db.conflicts;
    const codes = [];
    for (const given of ["mine", { id: "s9" }, { id: "s1", at: new Date() }]) {
      codes.push((await window.lab.errorOf(() => resolve(id, given)))?.code);
    }
    codes.push((await window.lab.errorOf(() => resolve("nobody.7", "local")))?.code);
    return codes;
  }, id);
  assert.deepEqual(wrong, ["invalid-options", "invalid-key", "not-cloneable", "not-found"]);
  assert.deepEqual(await look(a), waiting);

  await a.evaluate(([id, choice]) => window.db.conflicts.resolve(id, choice), [id, choice]);
  await settledAs(rig, [a, b], expected);
  const settled = await a.evaluate((id) => window.db.conflicts.get(id), id);
  assert.deepEqual([settled.strategy, settled.outcome], ["manual", outcome]);
  assert.deepEqual(settled.result, expected);
  assert.equal(settled.remote.note, "kept", "all of both sides is in the log");
  assert.deepEqual(await a.evaluate(() => window.told), [`s1 ${outcome}`]);
};

/** The server's side has won; then a person wants the other one, then a third. */
async function overruled(rig) {
  const [a, b] = await meet(rig, "server-wins");
  await settledAs(rig, [a, b], { id: "s1", name: "there", note: "kept" });
  const [{ id, outcome }] = await a.evaluate(() => window.db.conflicts.list());
  assert.equal(outcome, "remote");
  await a.evaluate((id) => window.db.conflicts.resolve(id, "local"), id);
  await settledAs(rig, [a, b], { id: "s1", name: "here", note: "kept" });
  const mine = { id: "s1", name: "both" };
  await a.evaluate(([id, mine]) => window.db.conflicts.resolve(id, mine), [id, mine]);
  await settledAs(rig, [a, b], mine);
  const { conflicts } = await look(a);
  assert.deepEqual(conflicts, [["s1", "manual", "merged", "first", "here", "there", "both"]]);
  assert.equal(
    (await rig.records()).get("sites/s1").versionNumber,
    4,
    "each was one change on top",
  );
  await a.evaluate(() => window.db.conflicts.clear());
  assert.deepEqual((await look(a)).conflicts, []);
}

/** What a handler does wrong, and how it is told. `page` functions travel as text. */
function handlers() {
  window.asked = [];
  const noting = (answer) => (sides) => {
    window.asked.push(structuredClone(sides));
    return answer(sides);
  };
  window.throwing = noting(() => {
    throw new TypeError("no such field");
  });
  window.hanging = noting(() => new Promise(() => {}));
  window.parking = noting(async () => "park");
  window.rubbish = noting(() => 7);
  window.uniting = noting(async ({ local, remote }) => {
    await new Promise((resolve) => setTimeout(resolve, 20));
    local.name += ` and ${remote.name}`;
    return local;
  });
  window.deleting = noting(() => null);
}

const failing = (handler, code, message) => async (rig) => {
  const [a, b] = await meet(rig, handler, [handlers]);
  // The rest goes on while the function thinks.
  await a.evaluate(async () => {
    await window.lab.sites.create({ id: "s2", name: "another" });
    await window.lab.synced();
  });
  assert.ok((await rig.records()).has("sites/s2"));
  if (handler === "hanging") {
    assert.deepEqual((await look(a)).conflicts[0].slice(1, 3), ["function", "waiting"]);
  }
  await a.evaluate(() => window.lab.waitFor("s.outbox.failed === 1", 35_000));
  const [entry] = await a.evaluate(() => window.db.outbox.list());
  assert.equal(entry.state, "failed");
  assert.equal(entry.error.code, code);
  assert.match(entry.error.message, message);
  const seen = await look(a);
  assert.deepEqual(seen.conflicts, [["s1", "function", "parked", "first", "here", "there", null]]);
  assert.deepEqual([seen.state, seen.shown, seen.counts.conflict], ["failed", "here", 0]);
  const [sides, ...more] = await a.evaluate(() => window.asked);
  assert.equal(more.length, 0, "asked once");
  assert.deepEqual(
    [sides.collection, sides.key, sides.base.name, sides.local.name, sides.remote.name],
    ["sites", "s1", "first", "here", "there"],
  );
  await a.evaluate((id) => window.db.conflicts.resolve(id, "local"), entry.id);
  await settledAs(rig, [a, b], { id: "s1", name: "here", note: "kept" });
};

const functioning = (handler, outcome, expected) => async (rig) => {
  const [a, b] = await meet(rig, handler, [handlers]);
  const isTold = (text) => window.told.includes(text);
  await eventually("the function has answered", () => a.evaluate(isTold, `s1 ${outcome}`));
  await settledAs(rig, [a, b], expected);
  const [[, strategy, found]] = (await look(a)).conflicts;
  assert.deepEqual([strategy, found], ["function", outcome]);
  assert.deepEqual(await a.evaluate(() => window.told), ["s1 waiting", `s1 ${outcome}`]);
  const kept = await a.evaluate(async () => (await window.db.conflicts.list())[0].local);
  assert.equal(kept.name, "here", "what the function does to its copy changes nothing");
};

/** Two tabs of one device: the one that syncs asks; the other knows of it all the same. */
async function oneTabAsks(rig) {
  const [a] = await meet(rig, "uniting", [handlers]);
  const other = await rig.tab(a.context(), [handlers]);
  await openWith(rig, other, "uniting");
  for (const page of [a, other]) await page.evaluate(() => window.lab.synced());
  const name = "here and there";
  await settledAs(rig, [a, other], { id: "s1", name, note: "kept" });
  const asked = [];
  for (const page of [a, other]) asked.push(await page.evaluate(() => window.asked.length));
  assert.deepEqual(asked, [1, 0]);
  assert.equal((await look(other)).conflicts[0][2], "merged");
}

/** Refused by the server's rules until somebody mends what is queued. */
async function editedParked(rig) {
  const page = await rig.tab();
  await rig.open(page);
  const refuse = ({ body, answer }) => {
    const results = body.changes.map(({ id, offlineId }) => {
      return { id, offlineId, status: "failed", code: "invalid", message: "Too long." };
    });
    return answer(200, json, JSON.stringify({ results }));
  };
  rig.faults.on(BATCH, refuse, 1);
  const edited = await page.evaluate(async () => {
    await window.lab.synced();
    await window.lab.sites.create({ id: "s1", name: "too long" });
    await window.lab.waitFor("s.outbox.failed === 1");
    const [parked] = await window.db.outbox.list();
    window.db.pause();
    await window.db.outbox.edit(parked.id, { name: "short", note: "mended" });
    const [queued, ...more] = await window.db.outbox.list();
    const again = await window.lab.errorOf(() => window.db.outbox.edit(parked.id, { name: "x" }));
    await window.db.outbox.edit(queued.id, { name: "shorter" });
    const shown = await window.lab.sites.get("s1");
    const [{ id }] = await window.db.outbox.list();
    window.db.resume();
    await window.lab.synced();
    return { parked, queued, more, again, shown, sameId: id === queued.id };
  });
  assert.equal(edited.parked.error.message, "Too long.");
  assert.equal(edited.queued.state, "pending");
  assert.equal(edited.queued.error, null);
  assert.notEqual(edited.queued.id, edited.parked.id, "the server remembers the old one");
  assert.equal(edited.sameId, true, "one that was not sent keeps its id");
  assert.deepEqual(edited.more, []);
  assert.equal(edited.again.code, "not-found");
  assert.deepEqual(edited.shown, { id: "s1", name: "shorter", note: "mended" });
  const record = (await rig.records()).get("sites/s1");
  assert.deepEqual([record.data, record.versionNumber], [edited.shown, 1]);
}

const both = { id: "s1", name: "both", note: "new" };
/** A person's choice is often one side, changed in place. */
async function sideInPlace(rig) {
  const [a, b] = await meet(rig, "manual");
  await a.evaluate(async () => {
    window.met = new Promise((resolve) => {
      const stop = window.db.on("conflict", ({ remote }) => {
        remote.name = "told";
        stop();
        resolve();
      });
    });
  });
  await a.evaluate(() => window.lab.waitFor("s.outbox.conflict === 1"));
  await a.evaluate(() => window.met);
  await a.evaluate(async () => {
    const [{ id, remote }] = await window.db.conflicts.list();
    remote.note = `${remote.name}, and more`;
    await window.db.conflicts.resolve(id, remote);
  });
  await settledAs(rig, [a, b], { id: "s1", name: "there", note: "there, and more" });
}

export const conflictChoices = [
  ["local", "local", { id: "s1", name: "here", note: "kept" }],
  ["remote", "remote", { id: "s1", name: "there", note: "kept" }],
  [both, "merged", both],
]
  .map(([choice, outcome, expected]) => ({
    name: `a manual conflict waits over a new start and is resolved: ${outcome}`,
    run: manual(choice, outcome, expected),
  }))
  .concat([
    { name: "an automatic outcome of a conflict is overruled afterwards", run: overruled },
    { name: "a conflict is settled with a side that was changed in place", run: sideInPlace },
    {
      name: "a conflict function that throws: parked, nothing held up",
      run: failing("throwing", "conflict-handler", /threw: no such field/),
    },
    {
      name: "a conflict function that never answers: parked, nothing held up",
      run: failing("hanging", "conflict-handler", /not answered within 30 s/),
    },
    {
      name: "a conflict function that answers rubbish: parked",
      run: failing("rubbish", "conflict-handler", /neither a record/),
    },
    {
      name: "a conflict function that parks: parked",
      run: failing("parking", "conflict-parked", /parked/),
    },
    {
      name: "a conflict function unites both sides",
      run: functioning("uniting", "merged", { id: "s1", name: "here and there", note: "kept" }),
    },
    {
      name: "a conflict function deletes the record",
      run: functioning("deleting", "merged", null),
    },
    { name: "a conflict function runs in one tab of two", run: oneTabAsks },
    { name: "a parked change is edited: a new id, and it goes through", run: editedParked },
  ]);
