// What a page is to write in a round: steps of single, concurrent and bulk writes on new and known
// records. Made in advance, so that the driver knows every state that a record can come to be in.
import { makePatch, makeRecord } from "../page/record.js";

const TEXT_CHARS_MAX = 160;
/** New records a round: more would only make the checks slow. */
const NEW_MAX = 500;

/** How a kind of round writes: how many steps, how likely each sort, how long the pauses. */
const STYLES = {
  mixed: { steps: 200, single: 0.55, concurrent: 0.15, pair: 0.15, pauseMs: 5 },
  // On a store that may have been wiped and not been told what the server has: deleting what is not
  // there changes nothing, so that the record would come back with the next pull.
  blind: { steps: 200, single: 0.55, concurrent: 0.15, pair: 0.15, pauseMs: 5, deletes: false },
  // Small commits without a pause, so that a compaction has something to fold.
  small: { steps: 1200, single: 0.9, concurrent: 0.06, pair: 0.04, pauseMs: 0 },
  // With pauses longer than the quiet time after which a push begins.
  slow: { steps: 60, single: 0.5, concurrent: 0.3, pair: 0.1, pauseMs: 60 },
};

/** The steps; each write is told to `model`. `next()` numbers writes. */
export function makePlan({ style, dice, model, session, next, version }) {
  const { steps, single, concurrent, pair, pauseMs, deletes = true } = STYLES[style];
  const known = new Map(model.settled().map((record) => [record.id, record]));
  const keys = [...known.keys()];
  let fresh = 0;

  function existing() {
    // Deleted ones leave the list when they are met.
    while (keys.length > 0) {
      const index = dice.int(0, keys.length - 1);
      if (known.has(keys[index])) return keys[index];
      keys[index] = keys.at(-1);
      keys.pop();
    }
    return null;
  }

  function op(type, id, bulk = null) {
    const n = next();
    const made = { n, type, id };
    const before = known.get(id);
    if (type === "delete") {
      known.delete(id);
      model.plan({ n, id, record: null, session });
      return made;
    }
    let record;
    if (type === "update") {
      made.patch = makePatch(before, n);
      record = { ...before, ...made.patch };
    } else {
      const text = "x".repeat(dice.int(0, TEXT_CHARS_MAX));
      record = makeRecord(id, n, text);
      made.record = version === null ? record : { ...record, schema: version };
      if (!before) keys.push(id);
    }
    known.set(id, record);
    model.plan({ n, id, record, bulk, session });
    return made;
  }

  function newKey() {
    fresh += 1;
    return `r${session}-${fresh}`;
  }

  function any() {
    const id = existing();
    if (id === null || (fresh < NEW_MAX && dice.chance(0.35))) return op("create", newKey());
    const roll = dice.next();
    if (roll < 0.75) return op("update", id);
    return roll < 0.88 || !deletes ? op("put", id) : op("delete", id);
  }

  function bulkOf(size) {
    const bulk = `${session}-${next()}`;
    const ids = new Set();
    for (let i = 0; i < size; i += 1) {
      const id = dice.chance(0.6) ? existing() : null;
      ids.add(id ?? newKey());
    }
    return [...ids].map((id) => op("put", id, bulk));
  }

  const plan = [];
  for (let i = 0; i < steps; i += 1) {
    const roll = dice.next();
    let how = "bulk";
    let ops;
    if (roll < single) [how, ops] = ["single", [any()]];
    else if (roll < single + concurrent) {
      how = "concurrent";
      ops = Array.from({ length: dice.int(2, 40) }, any);
    } else if (roll < single + concurrent + pair) ops = bulkOf(2);
    else ops = bulkOf(fresh < NEW_MAX ? Math.round(50 + 450 * dice.next() ** 3) : 60);
    plan.push({ how, ops, pauseMs: pauseMs > 0 ? dice.int(0, pauseMs) : 0 });
  }
  return plan;
}
