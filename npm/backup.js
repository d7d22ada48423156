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

/** A backup that JSON can carry; everything in it was copied. */
export function backupOf(manager, core) {
  const { client, mutations, version, older } = core.unsynced();
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
  const known = typeof copy.client === "string" && CLIENT.test(copy.client);
  need(known, "client is missing, or not as it was exported");
  need(Array.isArray(copy.mutations), "mutations is a list");
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
  return (newest ?? base)?.summary ?? { pending: 0, conflict: 0, failed: 0 };
}

/** Deletes everything that this device keeps for one user of an app. */
export async function deleteLocalData(database) {
  await deleteDatabase(database);
  await deleteRescue(database);
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
