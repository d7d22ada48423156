// What is not synced, taken out of a database and into another; and the end of a database.

import { fail, toError } from "./errors.js";
import { deleteRescue } from "./rescue.js";
import { setVersion } from "./rescue-log.js";

const FORMAT = 1;
/** How long other tabs may take to close. */
const CLOSE_MS = 5_000;

/** With it and a number an id is made, which has 128 bytes at most. */
const CLIENT = /^[!-~]{1,100}$/;

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

function need(ok, message) {
  if (!ok) throw fail("invalid-options", `backup: ${message}`);
}

/** A backup that JSON can carry; everything in it was copied. `kept`: what the rescue copy alone has, or why not. */
export function backupOf(manager, core, { value: others = [], reason }) {
  const { client, mutations, version, older } = core.unsynced();
  const ids = new Set(mutations.map(({ origin, number }) => origin ?? `${client}.${number}`));
  const damaged = core.outboxList({}).filter(({ id }) => !ids.has(id));
  const unread = damaged.map(({ id, collection, key }) => {
    return { id, collection, key, message: "the stored record is damaged" };
  });
  if (reason) unread.push({ message: reason.message });
  return JSON.parse(
    JSON.stringify({
      landfall: FORMAT,
      name: manager.name,
      user: manager.user,
      client,
      exportedAt: Date.now(),
      version,
      older,
      mutations,
      others: others.length > 0 ? others : undefined,
      unread: unread.length > 0 ? unread : undefined,
    }),
  );
}

/** The client and the mutations of a backup for this app and user. */
export function checkBackup(manager, backup) {
  need(isObject(backup), "an object, as exportUnsynced() gives it");
  let copy;
  try {
    copy = JSON.parse(JSON.stringify(backup));
  } catch (error) {
    throw fail("invalid-options", `backup: it is not plain data: ${error?.message ?? error}`);
  }
  need(isObject(copy) && copy.landfall === FORMAT, "not a backup of landfall, or of a newer one");
  need(copy.name === manager.name, `it belongs to another app (${JSON.stringify(copy.name)})`);
  need(copy.user === manager.user, "it belongs to another user");
  need(copy.others === undefined || Array.isArray(copy.others), "others is a list");
  for (const { client, mutations } of [copy, ...(copy.others ?? [])].map(Object)) {
    const known = typeof client === "string" && CLIENT.test(client);
    need(known, "client is missing, or not as it was exported");
    need(Array.isArray(mutations), "mutations is a list");
  }
  need(copy.version === undefined || Number.isInteger(copy.version), "version is a whole number");
  return copy;
}

/**
 * Hands the backup's mutations to the core; answers how many were taken over. `late`: the backup is a rescue
 * copy, which may have some that were confirmed right before a tab was closed. Then what cannot be taken over
 * is left, and the answer is `{ count, left, why }`: the numbers of these, and why it was the first.
 */
export function takeIn(manager, backup, late = false) {
  return new Promise((resolve, reject) => {
    manager.now((core) => {
      const { client, mutations, version, older } = checkBackup(manager, backup);
      for (const mutation of mutations) setVersion(mutation, version, older);
      const done = (error, count, [why, ...left] = []) => {
        if (error) reject(toError(error));
        else resolve(late ? { count, left, why } : count);
      };
      core.import(client, mutations, late, done);
    });
  });
}

/**
 * Takes over a backup, all or none; then what it has of databases before that one, as far as it goes. Where some
 * of that is left it rejects with why: the backup may be taken over again, and what is known here is passed over.
 */
export async function takeInAll(manager, backup) {
  const copy = checkBackup(manager, backup);
  let count = await takeIn(manager, copy);
  for (const { client, mutations } of copy.others ?? []) {
    const { version, older, ...same } = copy;
    manager.accept();
    const taken = await takeIn(manager, { ...same, client, mutations }, true);
    if (taken.why) throw toError(taken.why);
    count += taken.count;
  }
  return count;
}

/** Refuses to go on where something is not synced; `left`: changes that the rescue copy alone has. */
export function needSynced({ pending, syncing = 0, conflict, failed }, left = 0) {
  const total = pending + syncing + conflict + failed;
  if (total === 0 && left > 0) {
    throw fail("unsynced", `${left} changes of the rescue copy are not synced, nor taken in yet`);
  }
  if (total === 0) return;
  const error = fail(
    "unsynced",
    `${total} changes are not synced: ${pending + syncing} pending, ${conflict} in conflict, ${failed} failed`,
  );
  throw error;
}

/** What the newest entry of a database counts; `reach` opens it as it is. */
export async function storedCounts(database, reach) {
  const { db, failed, newest, base } = await reach(database, Promise.resolve());
  db?.close();
  if (failed !== "missing" && newest === undefined) throw blocked();
  const known = newest ?? base;
  if (known && !known.summary)
    throw fail("database-damaged", "what is not synced cannot be counted");
  return known?.summary ?? { pending: 0, conflict: 0, failed: 0 };
}

/**
 * Deletes everything that this device keeps for one user of an app. The copy first: without its database it
 * would be taken in at the next start.
 */
export async function deleteLocalData(database) {
  try {
    await deleteRescue(database);
  } catch (error) {
    const why = error?.message ?? error;
    throw fail("rescue-failed", `the rescue copy could not be deleted: ${why}`, error);
  }
  await deleteDatabase(database);
}

function deleteDatabase(database) {
  return new Promise((resolve, reject) => {
    const request = indexedDB.deleteDatabase(database);
    const timer = setTimeout(() => reject(blocked()), CLOSE_MS);
    const end = (settle) => () => {
      clearTimeout(timer);
      settle();
    };
    request.onsuccess = end(resolve);
    request.onerror = end(() =>
      reject(
        fail("storage-failed", `the database could not be deleted: ${request.error?.message}`),
      ),
    );
  });
}

export function blocked() {
  return fail("database-blocked", "another tab keeps the database open");
}

export { CLOSE_MS };
