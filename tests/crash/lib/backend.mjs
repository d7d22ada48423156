// The server's side of docs/PROTOCOL.md in memory, which counts effects: how often each state of a
// record was really stored. And the same for the peers, whose push is a plain put.

const CHANGES_MAX = 100;

/** landfall's server: one user. */
export class Backend {
  /** `type/id` → record; in the order in which they changed. */
  #records = new Map();
  #results = new Map();
  /** `type/id#n` → how often that state was stored. */
  #effects = new Map();
  #duplicates = [];
  #seq = 0;
  conflicts = [];

  push({ changes }) {
    if (changes.length > CHANGES_MAX) throw new Error(`${changes.length} changes in one request`);
    return { results: changes.map((change) => this.#apply(change)) };
  }

  pull(since, limit) {
    const changes = [];
    let checkpoint = since;
    let hasMore = false;
    for (const { seq, type, id, version, data, at } of this.#records.values()) {
      if (seq <= since) continue;
      if (changes.length === limit) {
        hasMore = true;
        break;
      }
      checkpoint = seq;
      const deleted = data === null;
      const change = { type, id, versionNumber: version, deleted, at };
      changes.push(deleted ? change : { ...change, data });
    }
    return { changes, checkpoint: String(checkpoint), hasMore };
  }

  /** What another device writes, so that there is something to pull. */
  feed(id, data) {
    this.#store("feed", id, data, `${String(Date.now()).padStart(13, "0")}-0000-other`);
  }

  /** Whether a mutation has had its verdict. */
  hasSeen(mutationId) {
    return this.#results.has(mutationId);
  }

  /** The living records of a collection. */
  all(collection) {
    const out = [];
    for (const { type, data } of this.#records.values()) {
      if (type === collection && data !== null) out.push(data);
    }
    return out;
  }

  /** What was stored once more since this was asked last. */
  takeDuplicates() {
    return this.#duplicates.splice(0);
  }

  #apply(change) {
    const known = this.#results.get(change.id);
    if (known) return known;
    const result = { id: change.id, offlineId: change.offlineId, ...this.#decide(change) };
    this.#results.set(change.id, result);
    return result;
  }

  #decide({ type, action, offlineId: id, versionNumber, data, changed, at }) {
    const current = this.#records.get(`${type}/${id}`);
    const lives = current !== undefined && current.data !== null;
    if (action === "delete" && !lives) {
      return { serverId: id, status: "success", versionNumber: current?.version ?? 0 };
    }
    if (action === "update" && !current) {
      return { serverId: id, status: "failed", code: "not-found", message: "no such record" };
    }
    // A deletion is not taken back by a create without a base: nobody here makes a record twice.
    if (current && current.version !== versionNumber) {
      this.conflicts.push({ id, action, base: versionNumber, version: current.version });
      const { version, data: held } = current;
      const result = { serverId: id, status: "conflict", versionNumber: version, at: current.at };
      return held === null ? { ...result, deleted: true } : { ...result, data: held };
    }
    let stored = action === "delete" ? null : data;
    if (action === "update" && changed) {
      stored = { ...current.data };
      for (const field of changed) {
        if (field in data) stored[field] = data[field];
        else delete stored[field];
      }
    }
    const version = this.#store(type, id, stored, at);
    return { serverId: id, status: "success", versionNumber: version };
  }

  #store(type, id, data, at) {
    const name = `${type}/${id}`;
    const version = (this.#records.get(name)?.version ?? 0) + 1;
    this.#records.delete(name);
    this.#records.set(name, { type, id, version, data, at, seq: ++this.#seq });
    if (data !== null) {
      const effect = `${name}#${data.n}`;
      const times = (this.#effects.get(effect) ?? 0) + 1;
      this.#effects.set(effect, times);
      if (times > 1) this.#duplicates.push({ id, n: data.n, times });
    }
    return version;
  }
}

/** A peer's server: the last put wins. */
export class PeerBackend {
  #records = new Map();

  push(rows) {
    for (const { id, deleted, record } of rows) {
      if (deleted) this.#records.delete(id);
      else if (record) this.#records.set(id, record);
    }
  }

  all() {
    return [...this.#records.values()];
  }
}
