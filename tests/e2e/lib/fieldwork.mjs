// A day in the field: which sites get edited, which deleted, what is assessed; and what everybody
// must hold in the end.

export const CREATES = 500;
export const EDITS = 300;
export const DELETES = 100;
/** How many of the creates and edits go through the visible page, by clicks and typing. */
export const BY_HAND = 3;

/**
 * Chooses from the seed, evenly spread, no site twice. `hand` is for the page; `bulk` for the
 * managers.
 */
export function planFieldwork(seed) {
  if (seed.length < 2 * (EDITS + DELETES)) throw new Error("the seed is too small for this check");
  const step = Math.floor(seed.length / (EDITS + DELETES));
  const chosen = Array.from({ length: EDITS + DELETES }, (_, index) => seed[index * step]);
  const deletes = chosen.filter((_, index) => index % 4 === 3);
  const edited = chosen.filter((_, index) => index % 4 !== 3);
  // People search by name: by hand, only names that no other name begins with.
  const unique = edited.filter(
    (site) => seed.filter(({ name }) => name.startsWith(site.name)).length === 1,
  );
  const hand = unique.slice(0, BY_HAND).map((site, index) => ({
    site,
    note: `Noted by hand, ${index}: “ça va”, 水, <b>not bold</b>`,
    assessment: { title: `Seen by hand ${index}`, score: index + 2, notes: "By the road" },
  }));
  const byHand = new Set(hand.map(({ site }) => site.id));
  const edits = edited
    .filter((site) => !byHand.has(site.id))
    .map((site, index) => ({
      id: site.id,
      patch:
        index % 2 === 0 ? { note: `Note ${index}` } : { note: `Note ${index}`, status: "surveyed" },
    }));
  const deleted = new Set(deletes.map((site) => site.id));
  const kept = seed.filter((site) => !deleted.has(site.id));
  const creates = Array.from({ length: CREATES - hand.length }, (_, index) => ({
    id: `assessment-${String(index).padStart(4, "0")}`,
    siteId: kept[(index * 31) % kept.length].id,
    title: `Assessment ${index}`,
    score: (index % 5) + 1,
    notes: index % 7 === 0 ? "Two lines\nand a tab\t" : "",
    createdAt: 1_760_000_000_000 + index,
  }));
  return { hand, bulk: { creates, edits, deletes: [...deleted] } };
}

/** The records that must be everywhere; `written` are those made by hand, as the page stored them. */
export function expectedRecords(seed, plan, written) {
  const expected = new Map(seed.map((site) => [`sites/${site.id}`, site]));
  const patch = (id, fields) =>
    expected.set(`sites/${id}`, { ...expected.get(`sites/${id}`), ...fields });
  for (const { site, note } of plan.hand) patch(site.id, { note });
  for (const edit of plan.bulk.edits) patch(edit.id, edit.patch);
  for (const id of plan.bulk.deletes) expected.delete(`sites/${id}`);
  for (const record of [...plan.bulk.creates, ...written]) {
    expected.set(`assessments/${record.id}`, record);
  }
  return expected;
}

/** The mutations that must be queued: `"sites/42"` → action. */
export function expectedQueue(plan, written) {
  const queue = new Map();
  for (const { site } of plan.hand) queue.set(`sites/${site.id}`, "update");
  for (const { id } of plan.bulk.edits) queue.set(`sites/${id}`, "update");
  for (const id of plan.bulk.deletes) queue.set(`sites/${id}`, "delete");
  for (const { id } of [...plan.bulk.creates, ...written]) {
    queue.set(`assessments/${id}`, "create");
  }
  return queue;
}

/**
 * What the versions say about how often each mutation took effect: once raises the version by one.
 * `before` and `after` are the server's changes by name.
 */
export function countEffects(queue, before, after) {
  const lost = [];
  const duplicated = [];
  for (const [name, action] of queue) {
    const from = before.get(name)?.versionNumber ?? 0;
    const now = after.get(name);
    const effects = (now?.versionNumber ?? 0) - from;
    if (effects < 1) lost.push(`${action} of ${name} never took effect`);
    if (effects > 1) duplicated.push(`${action} of ${name} took effect ${effects} times`);
    if (effects === 1 && (action === "delete") !== Boolean(now.deleted)) {
      lost.push(`${action} of ${name}: the server says deleted: ${now.deleted}`);
    }
  }
  for (const [name, change] of after) {
    if (queue.has(name)) continue;
    const from = before.get(name)?.versionNumber;
    if (from !== change.versionNumber) duplicated.push(`${name} changed, but nobody changed it`);
  }
  return { lost, duplicated };
}
