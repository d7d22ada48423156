// IndexedDB by hand: records and outbox in one transaction, one transaction a write.
import { syncing } from "./peer.js";

let db = null;
let durability = "relaxed";

function transaction(mode, work) {
  return new Promise((resolve, reject) => {
    const tx = db.transaction(["records", "outbox"], mode, { durability });
    let answer;
    tx.oncomplete = () => resolve(answer);
    tx.onabort = () => reject(tx.error ?? new Error("aborted"));
    answer = work(tx.objectStore("records"), tx.objectStore("outbox"), tx);
  });
}

const peer = syncing({
  async rows() {
    const out = {};
    await transaction("readonly", (records, outbox) => {
      records.getAll().onsuccess = ({ target }) => (out.records = target.result);
      outbox.getAll().onsuccess = ({ target }) => (out.rows = target.result);
    });
    return out;
  },
  confirm: (rows) =>
    transaction("readwrite", (_, outbox) => {
      for (const { id, n } of rows) {
        outbox.get(id).onsuccess = ({ target }) => {
          if (target.result?.n === n) outbox.delete(id);
        };
      }
    }),
  refill: (all) =>
    transaction("readwrite", (records, outbox) => {
      for (const record of all) {
        // What is queued here is newer.
        outbox.getKey(record.id).onsuccess = ({ target }) => {
          if (target.result === undefined) records.put(record);
        };
      }
    }),
});

export const { begin, sync, dump } = peer;

export async function open(options) {
  peer.use(options.user);
  durability = options.durability;
  db = await new Promise((resolve, reject) => {
    const request = indexedDB.open(`raw:${options.user}`, 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("records", { keyPath: "id" });
      request.result.createObjectStore("outbox", { keyPath: "id" });
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

export function write(op) {
  return transaction("readwrite", (records, outbox, tx) => {
    if (op.type === "create") records.add(op.record);
    else if (op.type === "put") records.put(op.record);
    else if (op.type === "delete") records.delete(op.id);
    else {
      records.get(op.id).onsuccess = ({ target }) => {
        if (target.result) records.put({ ...target.result, ...op.patch });
        else tx.abort();
      };
    }
    outbox.put({ id: op.id, n: op.n, deleted: op.type === "delete" });
  });
}

export function bulk(ops) {
  return transaction("readwrite", (records, outbox) => {
    for (const op of ops) {
      records.put(op.record);
      outbox.put({ id: op.id, n: op.n, deleted: false });
    }
  });
}
