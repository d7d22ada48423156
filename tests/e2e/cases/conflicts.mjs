// Two devices that change the same record without knowing of each other.
import assert from "node:assert/strict";
import { differences, living } from "../lib/compare.mjs";
import {
  findSite,
  openDemo,
  openTab,
  queueOf,
  recordsOf,
  switchNetwork,
  synced,
  writeNote,
} from "../lib/demo-page.mjs";

/** In the demo, by hand: both sides are in the log and on the screen. */
async function onTheScreen(rig) {
  const context = await rig.device({ viewport: { width: 1440, height: 900 } });
  const page = await context.newPage();
  await openDemo(page, rig.proxy.origin);
  await synced(page, "a");
  await synced(page, "b");
  const site = (
    await page.evaluate(() =>
      window.fieldbook.a.collection("sites").find({ index: "name", limit: 1 }),
    )
  )[0];
  const notes = { a: "Gate closed, ask at no. 4", b: "Two wells, seen from the road" };
  for (const device of ["a", "b"]) {
    await switchNetwork(page, device, false);
    await findSite(page, device, site);
    await writeNote(page, device, notes[device]);
    assert.equal((await queueOf(page, device)).stats.total, 1);
  }
  for (const device of ["a", "b"]) {
    await switchNetwork(page, device, true);
    await synced(page, device);
  }
  await synced(page, "a");

  const after = living(await rig.server.records("demo"));
  const [a, b] = [await recordsOf(page, "a"), await recordsOf(page, "b")];
  assert.deepEqual(differences(after, a, "device A").slice(0, 5), []);
  assert.deepEqual(differences(after, b, "device B").slice(0, 5), []);
  // Last write wins, and B wrote last.
  assert.equal(b.get(`sites/${site.id}`).note, notes.b);

  const logs = await page.evaluate(async () => ({
    a: await window.fieldbook.a.conflicts.list(),
    b: await window.fieldbook.b.conflicts.list(),
  }));
  assert.equal(logs.a.length + logs.b.length, 1, "one conflict, in the log of who came second");
  const device = logs.a.length === 1 ? "a" : "b";
  const other = device === "a" ? "b" : "a";
  const [conflict] = logs[device];
  assert.equal(conflict.local.note, notes[device]);
  assert.equal(conflict.remote.note, notes[other]);
  assert.equal(conflict.result.note, notes.b);
  assert.equal(conflict.key, site.id);

  await openTab(page, device, "Conflicts");
  const card = page.locator(`[data-device="${device}"] [data-conflict="${conflict.id}"]`);
  await card.waitFor();
  const text = await card.innerText();
  for (const note of Object.values(notes)) assert.ok(text.includes(note), `${note} is shown`);
  assert.ok(text.includes(site.name), "the name of the site is shown");
}

/** A deletes what B edits. */
async function deletedAndEdited(rig) {
  const [a, b] = [await rig.tab(), await rig.tab()];
  await rig.open(a);
  await a.evaluate(async () => {
    await window.lab.sites.create({ id: "s1", name: "first" });
    await window.lab.sites.create({ id: "s2", name: "first" });
    await window.lab.synced();
  });
  await rig.open(b);
  await b.evaluate(() => window.lab.synced());
  await rig.proxy.cut();
  // Once the delete is the later change, once the edit.
  await a.evaluate(() => window.lab.sites.delete("s1"));
  await b.evaluate(() => window.lab.sites.update("s1", { name: "edited after" }));
  await b.evaluate(() => window.lab.sites.update("s2", { name: "edited before" }));
  await a.evaluate(() => new Promise((resolve) => setTimeout(resolve, 20)));
  await a.evaluate(() => window.lab.sites.delete("s2"));
  await rig.proxy.heal();
  for (const page of [a, b, a, b]) await page.evaluate(() => window.lab.synced());

  const truth = living(await rig.records());
  for (const page of [a, b]) {
    const { rows, stats } = await page.evaluate(async () => ({
      rows: await window.lab.sites.all(),
      stats: await window.db.outbox.stats(),
    }));
    assert.equal(stats.total, 0);
    const held = new Map(rows.map((row) => [`sites/${row.id}`, row]));
    assert.deepEqual(differences(truth, held, "a device"), []);
  }
  assert.equal(truth.get("sites/s1")?.name, "edited after", "the edit was later");
  assert.equal(truth.has("sites/s2"), false, "the delete was later");
  const logged = [];
  for (const page of [a, b]) {
    logged.push(...(await page.evaluate(() => window.db.conflicts.list())));
  }
  const keys = new Set(logged.map(({ key }) => key));
  assert.ok(keys.has("s1") && keys.has("s2"), `logged: ${[...keys]}`);
  for (const { local, remote } of logged) {
    assert.ok(local === null || remote === null, "one side of each is the delete");
  }
}

export const conflicts = [
  { name: "a conflict of two devices is settled, logged and shown", run: onTheScreen },
  { name: "deleted here, edited there: settled, both equal", run: deletedAndEdited },
];
