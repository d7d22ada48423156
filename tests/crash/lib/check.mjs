// The check of one store after a kill: its records against the model, its outbox against what the
// server has, and, after it was let sync to the end, store against server.
import { isSame, isWhole } from "../page/record.js";
import { Findings } from "./model.mjs";

/**
 * With relaxed durability the rescue copy follows the acknowledgement within 100 ms; a browser that
 * is about to be killed on a busy machine gets half as much on top.
 */
const RESCUE_WINDOW_MS = 150;

const byId = (records) => new Map(records.map((record) => [record.id, record]));

/**
 * The store is open and does not sync; `call(method, argument)` asks its page. Answers findings and
 * what the page said of itself; the model of `subject` is settled on what was found.
 */
export async function check(subject, call, { durability, sync }) {
  const findings = new Findings();
  const before = byId(subject.backend.all("records"));
  const dump = async () => JSON.parse(await call("dump"));
  const { wiped } = subject;
  let held = await dump();
  const { recovered, error } = held;
  const queued = held.outbox.length;
  const rules = { findings };
  let unsynced = 0;
  if (wiped) {
    rules.atServer = (id) => before.get(id)?.n;
    unsynced = subject.model.unsynced(rules.atServer);
    if (subject.hasRescue && durability === "relaxed") {
      rules.inWindow = ({ ackedAt, session }) =>
        ackedAt > subject.kills.get(session) - RESCUE_WINDOW_MS;
    }
  } else {
    subject.model.check(held.records, rules);
    checkOutbox(subject, held, before, findings);
    checkSchema(subject, held, before, findings);
    subject.model.settle(held.records);
  }
  if (wiped || sync) {
    subject.network("online");
    await call("sync", wiped && !subject.hasRescue ? subject.backend.all() : null);
    held = await dump();
    if (wiped) subject.model.check(held.records, rules);
    compare(subject, held, findings);
    subject.model.settle(held.records);
  }
  return { findings, recovered, error, queued, unsynced };
}

/** A record that the server has not, or has otherwise, is queued; and nothing else is. */
function checkOutbox(subject, { records, outbox, counts }, server, findings) {
  const local = byId(records);
  const queued = group(outbox);
  for (const id of new Set([...local.keys(), ...server.keys()])) {
    if (local.get(id)?.n !== server.get(id)?.n && !queued.has(id)) {
      const [n, serverN] = [local.get(id)?.n, server.get(id)?.n];
      findings.add("lost", { why: "not queued, and the server has not got it", id, n, serverN });
    }
  }
  for (const [id, entries] of queued) {
    const record = local.get(id);
    const why = subject.hasRescue
      ? wrongEntries(subject, record, server.get(id), entries)
      : wrongRow(record, entries[0]);
    if (why) findings.add("torn", { why, id, record, entries });
  }
  if (counts) {
    const sum = counts.pending + counts.syncing + counts.conflict + counts.failed;
    if (sum !== outbox.length) {
      findings.add("torn", { why: "the status is wrong", counts, entries: outbox.length });
    }
  }
}

function wrongEntries(subject, record, atServer, entries) {
  const parked = entries.find(({ state }) => state !== "pending" && state !== "syncing");
  if (parked) return `an entry is in state ${parked.state}`;
  // Nothing on both sides: a creation that may have been sent, and a deletion behind it.
  if (!record && !atServer) return null;
  const is = record?.n === atServer?.n;
  // Sent, applied, and the answer never came: it is sent again under the same id.
  const isAgain = entries.every(({ id }) => subject.backend.hasSeen(id));
  return is && !isAgain ? "queued, though the server has it" : null;
}

function wrongRow(record, row) {
  if (row.deleted) return record ? "its outbox row says deleted" : null;
  return record?.n === row.n ? null : "record and outbox row disagree";
}

/** Every record that is not the server's own is of the schema version that was opened. */
function checkSchema(subject, { records }, server, findings) {
  if (subject.version === null || subject.wasWiped) return;
  for (const record of records) {
    const there = server.get(record.id);
    if (record.n !== there?.n && record.schema !== subject.version) {
      const { id, n, schema = null } = record;
      const what = { id, n, schema, wanted: subject.version, there };
      findings.add("torn", { why: "half migrated", ...what });
    }
  }
}

/** After a sync to the end. */
function compare(subject, { records, feed = [], outbox }, findings) {
  for (const entry of outbox) findings.add("lost", { why: "still queued after a sync", entry });
  const sides = [[records, subject.backend.all("records")]];
  if (subject.hasRescue) sides.push([feed, subject.backend.all("feed")]);
  for (const [here, there] of sides) {
    const [local, server] = [byId(here), byId(there)];
    for (const id of new Set([...local.keys(), ...server.keys()])) {
      const [a, b] = [local.get(id), server.get(id)];
      if (a && b && isWhole(b) && isSame(a, b)) continue;
      findings.add("lost", { why: "store and server differ", id, store: a, server: b });
    }
  }
  for (const what of subject.backend.takeDuplicates?.() ?? []) findings.add("duplicated", what);
}

const keyOf = ({ key, id }) => key ?? id;

function group(outbox) {
  const out = new Map();
  for (const entry of outbox) out.set(keyOf(entry), [...(out.get(keyOf(entry)) ?? []), entry]);
  return out;
}
