// landfall, by its public interface only.
import { open as openLandfall, rest } from "/landfall/index.js";

const SYNC_LIMIT_MS = 20_000;

let db = null;
let records = null;

function options({ user, durability, version }) {
  const migrations =
    version === null
      ? {}
      : { version, migrate: { records: (record) => ({ ...record, schema: version }) } };
  return {
    name: "crash",
    user,
    backend: rest({ url: `/api/${user}`, timeout: 5_000 }),
    collections: { records: { key: "id" }, feed: { key: "id" } },
    interval: 0,
    autoStart: false,
    durability,
    ...migrations,
  };
}

/** Whether this build of landfall knows schema versions. */
export async function probe() {
  try {
    const collections = { none: { key: "id" } };
    const probed = await openLandfall({ name: "probe", user: "p", collections, version: 1 });
    await probed.close();
    return { migrations: true };
  } catch (error) {
    // Any other complaint is news, and no reason to leave rounds out.
    if (error.code !== "invalid-options" || !error.message.startsWith("version:")) throw error;
    return { migrations: false };
  }
}

export async function open(given) {
  await db?.close();
  db = null;
  db = await openLandfall(options(given));
  records = db.collection("records");
}

/** The bucket that the rescue copy is in, as `npm/rescue.js` names it. */
export async function copy({ user }) {
  const name = new TextEncoder().encode(`landfall:crash:${user}`);
  const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", name), 0, 16);
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const names = await navigator.storageBuckets.keys();
  return names.includes(`landfall-${hex}`)
    ? navigator.storageBuckets.open(`landfall-${hex}`)
    : null;
}

export const migrate = open;

export function begin() {
  // Whether there is a network it has to find out by itself.
  db.resume();
}

export function write(op) {
  if (op.type === "create") return records.create(op.record);
  if (op.type === "put") return records.put(op.record);
  if (op.type === "update") return records.update(op.id, op.patch);
  return records.delete(op.id);
}

export function bulk(ops) {
  return records.putMany(ops.map((op) => op.record));
}

export async function sync() {
  db.resume();
  await db.whenSynced({ signal: AbortSignal.timeout(SYNC_LIMIT_MS) });
  db.pause();
}

export async function dump() {
  const [all, feed, outbox] = await Promise.all([
    records.all(),
    db.collection("feed").all(),
    db.outbox.list(),
  ]);
  const { status } = db;
  return {
    records: all,
    feed,
    outbox: outbox.map(({ id, key, state }) => ({ id, key, state })),
    counts: status.outbox,
    // Absent in a build without the rescue copy.
    recovered: status.recovered,
    error: status.error && { code: status.error.code, message: status.error.message },
  };
}
