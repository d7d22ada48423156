// What the hand-written stores have in common: an outbox of rows `{ id, n, deleted }` that is
// pushed now and then, and a row that goes when what it stands for has arrived. `store` has
// `rows()`, `confirm(rows)`, `refill(records)` and `all()`.

const EVERY_MS = 60;

export function syncing(store) {
  let user = null;

  async function push() {
    const { rows, records } = await store.rows();
    if (rows.length === 0) return;
    const byId = new Map(records.map((record) => [record.id, record]));
    const body = rows.map((row) => ({ ...row, record: byId.get(row.id) ?? null }));
    const init = { method: "POST", body: JSON.stringify(body) };
    const response = await fetch(`/peer/${user}`, init);
    if (!response.ok) throw new Error(`status ${response.status}`);
    await store.confirm(rows);
  }

  return {
    use: (name) => (user = name),
    async begin(online) {
      while (online) {
        // No network, or none that is any good: the rows stay.
        await push().catch(() => {});
        await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
      }
    },
    /** Pushes all; before that takes over what the server has, if given. */
    async sync(fromServer) {
      if (fromServer) await store.refill(fromServer);
      await push();
    },
    async dump() {
      const { rows, records } = await store.rows();
      return { records, outbox: rows };
    },
  };
}
