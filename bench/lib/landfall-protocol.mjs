// The backend that landfall pushes to and pulls from: docs/PROTOCOL.md version 1, without
// accounts and compression, answering under <api>/landfall/.
//
//   POST batch   keeps every change by its mutation id, and the state of every record
//   GET  pull    serves the benchmark's records (only where the driver offers some: in W9)
//   GET  status
//
// What is pushed is not offered again by pull, so that W8 costs landfall what it costs the peers.

const COLLECTION = "cities";
const MAX_CHANGES = 100;
const MAX_BYTES = 1024 * 1024;
const MAX_PAGE = 1000;
const DEFAULT_PAGE = 500;
const FIRST_CHANGE = Date.UTC(2025, 0, 1);

class Problem extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.body = { type: "about:blank", title: code, status, detail, code };
  }
}

/** What a namespace remembers of landfall's pushes. */
const pushState = () => ({
  results: new Map(), // mutation id -> its result
  versions: new Map(), // record id -> { version, deleted, at }
  duplicates: 0, // mutation ids that arrived again
  refused: [], // results other than success
});

/** Throws when the pushes of a namespace were not one clean pass. */
export function verifyLandfallPushes(ns) {
  const state = ns.landfall;
  if (!state) return;
  if (state.duplicates) throw new Error(`server received ${state.duplicates} mutations again`);
  if (state.refused.length) {
    const { id, offlineId, status, code, message } = state.refused[0];
    const why = code ? ` (${code}: ${message})` : "";
    throw new Error(
      `server refused ${state.refused.length} mutations, the first ${id} of ${offlineId}: ${status}${why}`,
    );
  }
}

/** `accept(ns, id, data)` records what arrived, as for the peers. */
export function landfallBackend({ records, accept }) {
  const pages = new Map();

  const page = (since, limit, total) => {
    const key = `${since}/${limit}/${total}`;
    let body = pages.get(key);
    if (!body) {
      const end = Math.min(total, since + limit);
      const changes = records.slice(since, end).map((data, i) => ({
        type: COLLECTION,
        id: data.id,
        versionNumber: 1,
        deleted: false,
        data,
        at: clock(since + i),
      }));
      const checkpoint = String(since + changes.length);
      body = Buffer.from(JSON.stringify({ changes, checkpoint, hasMore: end < total }));
      pages.set(key, body);
    }
    return body;
  };

  function batch(ns, req, body) {
    if (req.headers["content-encoding"]) {
      throw new Problem(415, "unsupported-encoding", "this backend takes plain JSON");
    }
    if (body.length > MAX_BYTES)
      throw new Problem(413, "too-large", `more than ${MAX_BYTES} bytes`);
    let request;
    try {
      request = JSON.parse(body);
    } catch (err) {
      throw new Problem(400, "malformed", String(err.message));
    }
    if (request?.protocol !== 1) throw new Problem(426, "protocol-version", "protocol is not 1");
    const { changes } = request;
    if (!Array.isArray(changes)) throw new Problem(400, "malformed", "changes is not an array");
    if (changes.length > MAX_CHANGES) {
      throw new Problem(413, "too-large", `more than ${MAX_CHANGES} changes`);
    }
    changes.forEach(checkForm);
    const state = (ns.landfall ??= pushState());
    return { results: changes.map((change) => applyOnce(ns, state, change)) };
  }

  function applyOnce(ns, state, change) {
    const seen = state.results.get(change.id);
    if (seen) {
      state.duplicates++;
      return seen;
    }
    const result = apply(ns, state, change);
    state.results.set(change.id, result);
    return result;
  }

  function apply(ns, state, change) {
    const { id, offlineId, action, versionNumber } = change;
    const key = change.serverId ?? offlineId;
    const old = state.versions.get(key);
    const current = () => ({
      status: "conflict",
      versionNumber: old.version,
      ...(old.deleted ? { deleted: true } : { data: ns.received.get(key).data }),
      at: old.at,
    });
    let data;
    if (action === "create") {
      if (old && !(old.deleted && (versionNumber === 0 || versionNumber === old.version))) {
        return refuse(state, change, current());
      }
      data = change.data;
    } else if (!old) {
      if (action === "update") {
        const message = "no such record";
        return refuse(state, change, { status: "failed", code: "not-found", message });
      }
      return { id, offlineId, serverId: key, status: "success", versionNumber: 0 };
    } else if (action === "update") {
      if (old.deleted || versionNumber !== old.version) return refuse(state, change, current());
      data = change.changed ? merge(ns.received.get(key).data, change) : change.data;
    } else if (!old.deleted && versionNumber !== old.version) {
      return refuse(state, change, current());
    }
    const version = old?.deleted && action === "delete" ? old.version : (old?.version ?? 0) + 1;
    state.versions.set(key, { version, deleted: action === "delete", at: change.at });
    accept(ns, key, data);
    return { id, offlineId, serverId: key, status: "success", versionNumber: version };
  }

  function pull(ns, url) {
    const since = url.searchParams.get("since") ?? "0";
    if (!/^\d{1,9}$/.test(since) || Number(since) > records.length) {
      throw new Problem(410, "checkpoint-unknown", "the checkpoint is from another database");
    }
    const limit = Number(url.searchParams.get("limit") ?? DEFAULT_PAGE);
    if (!Number.isInteger(limit) || limit < 1 || limit > MAX_PAGE) {
      throw new Problem(400, "malformed", `limit is not 1 to ${MAX_PAGE}`);
    }
    const types = url.searchParams.get("types");
    const wanted = types === null || types.split(",").includes(COLLECTION);
    return page(Number(since), limit, wanted ? ns.total : 0);
  }

  return function landfall({ ns, what, url, req, body, send }) {
    const methods = { batch: "POST", pull: "GET", status: "GET" };
    try {
      if (!Object.hasOwn(methods, what)) throw new Problem(404, "not-found", "no such endpoint");
      if (req.method !== methods[what]) {
        throw new Problem(405, "method-not-allowed", `use ${methods[what]}`);
      }
      if (what === "batch") return send(200, batch(ns, req, body));
      ns.requests++;
      const out = what === "pull" ? pull(ns, url) : Buffer.from(JSON.stringify(status()));
      ns.bytes += out.length;
      return send(200, out);
    } catch (err) {
      if (!(err instanceof Problem)) throw err;
      return send(err.body.status, err.body, "application/problem+json");
    }
  };
}

function refuse(state, { id, offlineId, serverId }, answer) {
  const result = { id, offlineId, serverId: serverId ?? offlineId, ...answer };
  state.refused.push(result);
  return result;
}

function checkForm(change, i) {
  const wrong = (what) => new Problem(400, "malformed", `changes[${i}]: ${what}`);
  for (const field of ["id", "type", "offlineId", "at"]) {
    if (typeof change?.[field] !== "string") throw wrong(`${field} is not a string`);
  }
  if (change.type !== COLLECTION) throw wrong(`type is not ${COLLECTION}`);
  if (!["create", "update", "delete"].includes(change.action)) throw wrong("unknown action");
  if (!Number.isInteger(change.versionNumber)) throw wrong("versionNumber is not an integer");
  const hasData = typeof change.data === "object" && change.data !== null;
  if (hasData !== (change.action !== "delete")) throw wrong(`data of a ${change.action}`);
}

function merge(record, { data, changed }) {
  const merged = { ...record };
  for (const field of changed) {
    if (Object.hasOwn(data, field)) merged[field] = data[field];
    else delete merged[field];
  }
  return merged;
}

// The hybrid logical clock of the n-th change: 13 digits of ms, a counter of 16 bits, who made it.
function clock(n) {
  const counter = (n & 0xffff).toString(16).padStart(4, "0");
  return `${FIRST_CHANGE + (n >> 16)}-${counter}-benchmark`;
}

function status() {
  return {
    protocol: 1,
    serverTime: new Date().toISOString(),
    checkpoint: "0",
    limits: { changes: MAX_CHANGES, bytes: MAX_BYTES, page: MAX_PAGE },
    conflicts: 0,
  };
}
