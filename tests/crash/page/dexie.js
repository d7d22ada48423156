// Dexie, with an outbox table of our own in the same transaction.
import Dexie from "/dexie.mjs";
import { syncing } from "./peer.js";

let db = null;

const both = (mode, work) => db.transaction(mode, db.records, db.outbox, work);

const peer = syncing({
  rows: () =>
    both("r", async () => ({
      records: await db.records.toArray(),
      rows: await db.outbox.toArray(),
    })),
  confirm: (rows) =>
    both("rw", async () => {
      const now = await db.outbox.bulkGet(rows.map(({ id }) => id));
      const done = rows.filter(({ n }, index) => now[index]?.n === n);
      await db.outbox.bulkDelete(done.map(({ id }) => id));
    }),
  refill: (all) =>
    both("rw", async () => {
      // What is queued here is newer.
      const queued = new Set(await db.outbox.toCollection().primaryKeys());
      await db.records.bulkPut(all.filter(({ id }) => !queued.has(id)));
    }),
});

export const { begin, sync, dump } = peer;

export async function open({ user, durability }) {
  peer.use(user);
  db = new Dexie(`dexie:${user}`, { chromeTransactionDurability: durability });
  db.version(1).stores({ records: "id", outbox: "id" });
  await db.open();
}

export function write(op) {
  return both("rw", async () => {
    if (op.type === "create") await db.records.add(op.record);
    else if (op.type === "put") await db.records.put(op.record);
    else if (op.type === "delete") await db.records.delete(op.id);
    else if ((await db.records.update(op.id, op.patch)) === 0) throw new Error("not found");
    await db.outbox.put({ id: op.id, n: op.n, deleted: op.type === "delete" });
  });
}

export function bulk(ops) {
  return both("rw", async () => {
    await db.records.bulkPut(ops.map((op) => op.record));
    await db.outbox.bulkPut(ops.map(({ id, n }) => ({ id, n, deleted: false })));
  });
}
