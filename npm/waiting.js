// What a status says to those who wait for it, and the outbox in numbers.

import { fail, toError } from "./errors.js";
import { checkFilter } from "./query.js";

/** Whether all was pushed and pulled after `since`; throws what stopped it. `isNews`: that is known by now. */
export function isSyncedSince(status, since, isNews) {
  const { syncedThrough, phase, network, error } = status;
  if (syncedThrough !== null && syncedThrough >= since) return true;
  if (!isNews) return false;
  if (phase === "paused") throw fail("aborted", "syncing is paused; call resume()");
  if (phase === "offline" && network === "offline") throw fail("offline", "there is no network");
  // A server that wants to be left alone is not asked before its time.
  const isOver = error !== null && (error.at >= since || error.code === "throttled");
  if ((isOver && phase !== "syncing") || phase === "needs-auth") throw toError(error);
  return false;
}

/** Whether nothing waits to be pushed, and a pull has followed. */
export function isAllSyncedSince({ outbox, syncedThrough }, since) {
  return outbox.pending + outbox.syncing === 0 && syncedThrough !== null && syncedThrough >= since;
}

export function stats(core) {
  const { pending, syncing, conflict, failed } = core.status().outbox;
  const total = pending + syncing + conflict + failed;
  return { pending, syncing, conflict, failed, total, oldest: core.oldest() ?? null };
}

/** `db.outbox.list()`. The core takes a limit of 0 for none. */
export async function listed(manager, filter) {
  const asked = checkFilter(filter, ["state", "collection", "limit"]);
  return manager.read((core) => (asked.limit === 0 ? [] : core.outboxList(asked)));
}
