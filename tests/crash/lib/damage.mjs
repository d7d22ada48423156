// Damages the browser's own files, as a kill now and then leaves them: a byte flipped in the log of
// an origin's IndexedDB, or its folder gone. Only the default bucket's IndexedDB; what else the
// origin has stored (other buckets, OPFS, caches) is not touched.
import { open, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";

const OFFSET_BYTES = 1_000;

export function folderOf(profile, name, port) {
  const folder = `http_${name}.localhost_${port}.indexeddb.leveldb`;
  return join(profile, "Default", "IndexedDB", folder);
}

/** Answers what was done: `"flipped"`, `"removed"` or `"nothing"`. */
export async function damage(folder, way) {
  if (way === "flip") {
    const log = await largestLog(folder);
    // Too short to have that byte: then the folder goes.
    if (log !== null && log.size > OFFSET_BYTES) {
      await flip(log.path);
      return "flipped";
    }
  }
  const there = await stat(folder).catch(() => null);
  await rm(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
  return there ? "removed" : "nothing";
}

async function largestLog(folder) {
  const names = await readdir(folder).catch(() => []);
  const logs = await Promise.all(
    names
      .filter((name) => name.endsWith(".log"))
      .map(async (name) => ({
        path: join(folder, name),
        size: (await stat(join(folder, name))).size,
      })),
  );
  return logs.sort((a, b) => b.size - a.size)[0] ?? null;
}

async function flip(path) {
  const file = await open(path, "r+");
  try {
    const byte = Buffer.alloc(1);
    await file.read(byte, 0, 1, OFFSET_BYTES);
    // Not an exclusive or: a second damage before anything was written would mend the first.
    byte[0] = (byte[0] + 1) % 256;
    await file.write(byte, 0, 1, OFFSET_BYTES);
  } finally {
    await file.close();
  }
}
