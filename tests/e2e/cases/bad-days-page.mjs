// A page that dies, and what is asked of the browser so that the data does not.
import assert from "node:assert/strict";
import { eventually } from "../lib/within.mjs";

/** A renderer killed amid writes, like a phone that needs the memory; another tab goes on. */
async function killedAmidWrites(rig) {
  const context = await rig.device();
  const acknowledged = [];
  await context.exposeBinding("acknowledged", (_, id) => void acknowledged.push(id));
  const leader = await rig.tab(context);
  await rig.open(leader);
  await leader.evaluate(() => window.lab.synced());
  const other = await rig.tab(context);
  await rig.open(other);
  await other.evaluate(() => window.lab.synced());
  assert.equal(await leader.evaluate(() => window.db.status.leader), true);

  await leader.evaluate(() => {
    const write = async () => {
      for (let index = 0; ; index += 1) {
        const id = `s${index}`;
        await window.lab.sites.create({ id, name: id, edits: 0 });
        if (index % 3 === 0) await window.lab.sites.update(id, { edits: 1 });
        window.acknowledged(id);
      }
    };
    void write();
  });
  await eventually("some writes are acknowledged", async () => acknowledged.length >= 60);
  const crashed = new Promise((resolve) => leader.once("crash", resolve));
  const session = await context.newCDPSession(leader);
  session.send("Page.crash").catch(() => {});
  await crashed;

  await eventually("the other tab leads", () => other.evaluate(() => window.db.status.leader));
  await other.evaluate(() => window.lab.synced(30_000));
  const fresh = await rig.tab(context);
  await rig.open(fresh);
  const held = await fresh.evaluate(() => window.lab.sites.all());
  const there = new Map(held.map((record) => [record.id, record]));
  for (const id of acknowledged) {
    const edits = Number(id.slice(1)) % 3 === 0 ? 1 : 0;
    assert.deepEqual(there.get(id), { id, name: id, edits }, `${id} was acknowledged`);
  }
  const records = await rig.records();
  for (const id of acknowledged) assert.ok(records.has(`sites/${id}`), `${id} is on the server`);
  assert.equal(records.size, held.length, "records and server agree");
  const { outbox, leader: leads } = await other.evaluate(() => window.db.status);
  assert.deepEqual([outbox.pending + outbox.syncing, leads], [0, true]);
  assert.equal(
    await other.evaluate(async () => (await window.lab.sites.all()).length),
    held.length,
  );
}

/** Counts how often the browser is asked to persist; its real answer stays. */
function countAsks() {
  window.asks = 0;
  const { persist } = StorageManager.prototype;
  StorageManager.prototype.persist = function () {
    window.asks += 1;
    return persist.call(this);
  };
}

function noHints() {
  // As Firefox, which would ask the person.
  Object.defineProperty(Navigator.prototype, "userAgentData", { value: undefined });
}

async function askedToPersist(rig) {
  const cases = [
    { scripts: [], more: {}, asks: 1 },
    { scripts: [], more: { persist: false }, asks: 0 },
    { scripts: [noHints], more: {}, asks: 0 },
    { scripts: [noHints], more: { persist: true }, asks: 1 },
  ];
  for (const { scripts, more, asks } of cases) {
    const page = await rig.tab(undefined, [countAsks, ...scripts]);
    await rig.open(page, { autoStart: false, ...more });
    await page.evaluate(() => window.lab.waitFor("s.storage.quota > 0"));
    assert.equal(await page.evaluate(() => window.asks), asks, JSON.stringify(more));
    const { storage } = await page.evaluate(() => window.db.status);
    assert.deepEqual(Object.keys(storage).sort(), ["persisted", "quota", "usage"]);
    assert.ok(storage.usage > 0 && storage.usage < storage.quota, JSON.stringify(storage));
    assert.equal(typeof storage.persisted, "boolean");
  }
}

/** The answer comes after the status was first made; it must not stay as it was then. */
async function persisted(rig) {
  const slow = () => {
    let granted = false;
    StorageManager.prototype.persist = async () => {
      await new Promise((resolve) => setTimeout(resolve, 300));
      return (granted = true);
    };
    StorageManager.prototype.persisted = async () => granted;
  };
  const page = await rig.tab(undefined, [slow]);
  await rig.open(page, { autoStart: false });
  const { storage } = await page.evaluate(() => window.lab.waitFor("s.storage.persisted === true"));
  assert.ok(storage.quota > 0);
}

export const pages = [
  {
    name: "bad day: a page killed amid writes: all there, another tab syncs",
    run: killedAmidWrites,
  },
  { name: "storage in the status; persist() where nobody is bothered", run: askedToPersist },
  { name: "the status learns that persistence was granted", run: persisted },
];
