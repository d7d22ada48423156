// What a store must hold after a kill: for each record the states that its writes led through, and
// which of them were acknowledged.
//
// A record may be in any state that is not older than its last acknowledged one, and in no other. A
// bulk is there as a whole or not at all. After the check the state that was found is the only one.
import { isSame, isWhole } from "../page/record.js";

/** How many findings of each sort are kept as evidence. */
const EVIDENCE_MAX = 50;

/** A position: before the state that the last check found. */
const OLDER = -1;
/** A position: none of the states. */
const UNKNOWN = -2;

export class Findings {
  lost = 0;
  torn = 0;
  duplicated = 0;
  /** Acknowledged, not flushed, written within the rescue window before the kill, and gone. */
  inWindow = 0;
  evidence = [];

  add(sort, what) {
    this[sort] += 1;
    if (this.evidence.filter((one) => one.sort === sort).length < EVIDENCE_MAX) {
      this.evidence.push({ sort, ...what });
    }
  }

  get bad() {
    return this.lost + this.torn + this.duplicated;
  }
}

export class Model {
  /** Key → its states, oldest first; the first is what the last check found (`null`: no record). */
  #states = new Map();
  /** Number of a write → the state it leads to, as long as it has not been checked. */
  #open = new Map();
  /** Keys that had a record, which the last check did not find any more. */
  #deleted = new Set();

  /** A write that may happen from now on; `record` is the outcome, `null` for a delete. */
  plan({ n, id, record, bulk = null, session }) {
    if (!this.#states.has(id)) this.#states.set(id, [{ n: 0, record: null }]);
    const state = { n, record, bulk, session, ackedAt: null };
    this.#states.get(id).push(state);
    this.#open.set(n, { id, state });
  }

  acknowledge(n, at) {
    const found = this.#open.get(n);
    if (found) found.state.ackedAt = at;
  }

  /** The records that are sure to be there as the last check found them. */
  settled() {
    const out = [];
    for (const states of this.#states.values()) {
      if (states.length === 1 && states[0].record) out.push(states[0].record);
    }
    return out;
  }

  /** How many acknowledged writes have not been checked. */
  unchecked() {
    return [...this.#open.values()].filter(({ state }) => state.ackedAt !== null).length;
  }

  /** How many records have an acknowledged state that is not the server's. */
  unsynced(atServer) {
    let count = 0;
    for (const [id, states] of this.#states) {
      const { n, record } =
        states[
          Math.max(
            0,
            states.findLastIndex((state) => state.ackedAt),
          )
        ];
      if (atServer(id) !== (record === null ? undefined : n)) count += 1;
    }
    return count;
  }

  /**
   * Compares what the store holds. `inWindow(state)` says of a missing write that it may be missing;
   * `atServer(id)` is the number of the write that the server has of a record, if the store was wiped.
   */
  check(records, { findings, inWindow = () => false, atServer = null }) {
    const held = new Map(records.map((record) => [record.id, record]));
    const positions = new Map();
    for (const [id, states] of this.#states) {
      const record = held.get(id) ?? null;
      const at = position(states, record);
      if (at === UNKNOWN) {
        findings.add("torn", { why: "no write left it like this", id, record, states });
        continue;
      }
      positions.set(id, at);
      if (at === OLDER) findings.add("lost", { why: "had been checked, and gone", id, record });
      const lastAcked = states.findLastIndex((state) => state.ackedAt);
      for (const state of states.slice(Math.max(at, 0) + 1, lastAcked + 1)) {
        if (!state.ackedAt) continue;
        const { n, ackedAt, session, bulk } = state;
        const what = { why: "acknowledged and gone", id, n, ackedAt, session, bulk };
        findings.add(inWindow(state) ? "inWindow" : "lost", what);
      }
    }
    for (const [id, record] of held) {
      if (this.#states.has(id)) continue;
      if (this.#deleted.has(id)) findings.add("lost", { why: "deleted, and back", id, record });
      else findings.add("torn", { why: "nobody wrote it", id, record });
    }
    this.#checkBulks(positions, held, findings, atServer);
  }

  #checkBulks(positions, held, findings, atServer) {
    const bulks = new Map();
    for (const { id, state } of this.#open.values()) {
      if (state.bulk === null || !positions.has(id)) continue;
      const it = bulks.get(state.bulk) ?? { there: [], missing: [], pushed: false };
      bulks.set(state.bulk, it);
      const states = this.#states.get(id);
      const index = states.indexOf(state);
      // Without a record a deletion may have followed: that tells nothing.
      const tells = held.has(id) || states.slice(index).every(({ record }) => record);
      if (tells) (positions.get(id) >= index ? it.there : it.missing).push(id);
      // The server takes single changes: a bulk that was under way may be there in part.
      if (atServer !== null && (atServer(id) ?? 0) >= state.n) it.pushed = true;
    }
    for (const [bulk, { there, missing, pushed }] of bulks) {
      if (there.length > 0 && missing.length > 0 && !pushed) {
        findings.add("torn", { why: "half of a bulk", bulk, there, missing });
      }
    }
  }

  /** Takes what was found as the truth for what follows. */
  settle(records) {
    const held = new Set(records.map(({ id }) => id));
    for (const id of this.#states.keys()) if (!held.has(id)) this.#deleted.add(id);
    this.#states = new Map(records.map((record) => [record.id, [{ n: record.n, record }]]));
    this.#open.clear();
  }
}

/** The newest of `states` that `record` is in, or OLDER, or UNKNOWN. */
function position(states, record) {
  if (record === null) return states.findLastIndex((state) => state.record === null);
  if (!isWhole(record)) return UNKNOWN;
  const at = states.findLastIndex((state) => state.n === record.n);
  if (at < 0) return record.n < states[0].n ? OLDER : UNKNOWN;
  return states[at].record && isSame(states[at].record, record) ? at : UNKNOWN;
}
