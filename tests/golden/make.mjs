// Writes a golden database: what this version of landfall leaves in IndexedDB, and what it says is in
// it. One is kept of every format and opened by tests/e2e/cases/golden.mjs for ever.
//
//   node tests/golden/make.mjs --package npm --out tests/golden/format-2.json [--chromium path]
import { createServer } from "node:http";
import { readFile, writeFile } from "node:fs/promises";
import { extname, join, normalize, resolve } from "node:path";
import { parseArgs } from "node:util";
import { launch } from "../e2e/lib/chromium.mjs";
import { dump } from "./stores.mjs";

const { values } = parseArgs({
  options: {
    package: { type: "string", default: "npm" },
    out: { type: "string" },
    chromium: { type: "string", default: "/usr/bin/chromium" },
  },
});

const TYPES = { ".js": "text/javascript", ".wasm": "application/wasm" };
const folder = resolve(values.package);
const server = createServer(async (request, response) => {
  const path = normalize(new URL(request.url, "http://x").pathname);
  if (path === "/")
    return response.setHeader("content-type", "text/html").end("<title>golden</title>");
  try {
    const body = await readFile(join(folder, path));
    response.setHeader("content-type", TYPES[extname(path)] ?? "text/plain").end(body);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const browser = await launch({ chromium: values.chromium });
const page = await browser.newPage();
await page.goto(`http://127.0.0.1:${server.address().port}/`);
const expected = await page.evaluate(live);
const { version, stores } = await page.evaluate(dump, "landfall:lab:golden");
await writeFile(values.out, `${JSON.stringify({ version, expected, stores }, null, 1)}\n`);
await browser.close();
server.close();

/** A life with everything in it: pulled, confirmed, refused, settled and queued changes. */
async function live() {
  const { open } = await import("/index.js");
  let offline = false;
  const remote = (id, versionNumber) => ({
    type: "sites",
    id,
    versionNumber,
    data: { id, name: `Site ${id}`, tags: ["a", { b: null }], area: 1.5, ключ: "значение" },
    at: `000000000000${versionNumber}-0000-server`,
  });
  const page = [1, 2, 3, 4, 5, 6].map((n) => remote(`s${n}`, n));
  page.push({ type: "sites", id: "gone", versionNumber: 7, deleted: true });
  const backend = {
    push: async (changes) => {
      if (offline) throw new Error("offline");
      const result = ({ id, offlineId }) => {
        if (offlineId === "refused")
          return { id, offlineId, status: "failed", code: "invalid", message: "no <good>" };
        if (offlineId === "s5" && !id.endsWith("!"))
          return { id, offlineId, status: "conflict", ...remote("s5", 50), at: "9" };
        return { id, offlineId, status: "success", versionNumber: 60 };
      };
      return {
        results: changes.map(result).map((r) => ({ ...r, id: r.id, offlineId: r.offlineId })),
      };
    },
    pull: async (checkpoint) =>
      checkpoint === null
        ? { changes: page, checkpoint: "c1", hasMore: false }
        : { changes: [], checkpoint: "c1", hasMore: false },
  };
  // A conflict's answer is told by its mutation: `id` of the record must not take its place.
  const push = backend.push;
  backend.push = async (changes) => {
    const { results } = await push(changes);
    results.forEach((r, i) => (r.id = changes[i].id));
    return { results };
  };
  const collections = {
    sites: { key: "id", indexes: ["name"], conflict: "server-wins" },
    assessments: { key: "id", indexes: ["siteId"], references: { siteId: "sites" } },
  };
  const options = { name: "lab", user: "golden", backend, collections, interval: 0 };
  const db = await open({ ...options, ...((await knowsRescue()) ? { rescue: false } : {}) });
  const sites = db.collection("sites");
  const assessments = db.collection("assessments");
  await db.sync();
  await sites.create({ id: "refused", name: "Refused" });
  await sites.create({
    id: "mine",
    name: "Mine",
    deep: { list: [1, [2, {}]], "\u2028": "\ud83d\ude00" },
  });
  await assessments.create({ id: "a1", siteId: "mine", score: 3 });
  await sites.update("s5", { name: "Ours" });
  await db.sync();
  offline = true;
  await sites.update("s1", { name: "Renamed" });
  await sites.update("s1", { area: undefined, tags: [] });
  await sites.delete("s2");
  await sites.put({ id: "s3", name: "Replaced" });
  await assessments.putMany([1, 2, 3].map((n) => ({ id: `b${n}`, siteId: "s1", score: n })));
  await assessments.create({ id: "never", siteId: "s1" });
  await assessments.delete("never");
  await db.sync().catch(() => {});
  await sites.update("s1", { name: "Behind what was sent" });
  // Never sent, and enough to be stored together.
  await sites.putMany(Array.from({ length: 20 }, (_, n) => ({ id: `t${n}`, name: `Tent ${n}` })));
  if (db.compact) await db.compact();
  const inShort = ({ collection, key, action, state }) => ({ collection, key, action, state });
  const expected = {
    sites: await sites.all(),
    assessments: await assessments.all(),
    outbox: (await db.outbox.list()).map(inShort),
    conflicts: (await db.conflicts.list()).length,
  };
  await sites.put({ id: "last", name: "After the compaction" });
  expected.sites = await sites.all();
  expected.outbox = (await db.outbox.list()).map(inShort);
  await db.close();
  return expected;

  async function knowsRescue() {
    const { checkOptions } = await import("/options.js");
    try {
      checkOptions({ ...options, rescue: false });
      return true;
    } catch {
      return false;
    }
  }
}
