import { open as openLandfall, rest } from "../../npm/index.js";

export const meta = {
  name: "landfall",
  packages: ["../npm"],
  durability: "relaxed",
  ack: "transaction complete",
  notes:
    "public API only; requests are not compressed, as with the peers; W8 includes the pull that follows a push",
  assets: { "../npm/wasm/landfall_bg.wasm": "landfall_bg.wasm" },
};

export async function open({ dbName, api }) {
  const db = await openLandfall({
    name: dbName,
    user: "bench",
    backend: rest({ url: api + "/landfall", gzip: false }),
    collections: { cities: { key: "id" } },
    interval: 0,
    autoStart: false,
    durability: "relaxed",
  });
  const cities = db.collection("cities");
  // Parked mutations count: they have not reached the server.
  const pending = () => {
    const { outbox } = db.status;
    return outbox.pending + outbox.syncing + outbox.conflict + outbox.failed;
  };

  return {
    putOne: (rec) => cities.put(rec),
    putMany: (recs) => cities.putMany(recs),
    get: (id) => cities.get(id),
    getAll: () => cities.all(),
    updateOne: (id, patch) => cities.update(id, patch),
    pending: async () => pending(),
    async pushAll() {
      db.resume();
      for (let before = Infinity; pending() > 0;) {
        if (pending() >= before) throw new Error("push: no progress");
        before = pending();
        await db.sync();
      }
    },
    async pullAll() {
      db.resume();
      await db.refresh();
    },
    close: () => db.close(),
  };
}
