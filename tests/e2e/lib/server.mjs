// The real server on a database of its own, and what it holds, asked directly.
import { spawn } from "node:child_process";
import { createHmac, randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { within } from "./within.mjs";

const START_LIMIT_MS = 20_000;
const STOP_LIMIT_MS = 5_000;
const REQUEST_LIMIT_MS = 10_000;
const PAGE = 1_000;

/** Starts `bin`; the seed goes to `collection` of the user "demo". */
export async function startServer({ server: bin, static: folder, seed }) {
  const dir = await mkdtemp(join(tmpdir(), "landfall-e2e-"));
  const secret = randomBytes(32).toString("hex");
  await writeFile(join(dir, "secret"), secret, { mode: 0o600 });
  const args = ["--listen", "127.0.0.1:0", "--db", join(dir, "server.sqlite"), "--demo"];
  args.push("--jwt-secret-file", join(dir, "secret"), "--static", folder, "--log", "warn");
  args.push("--seed", seed, "--seed-type", "sites", "--seed-user", "demo");
  const child = spawn(bin, args, { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  const started = new Promise((resolve, reject) => {
    const read = (chunk) => {
      output = (output + chunk).slice(-4_000);
      const url = /^listening on (http:\/\/\S+)/m.exec(output)?.[1];
      if (url) resolve(url);
    };
    child.stdout.setEncoding("utf8").on("data", read);
    child.stderr.setEncoding("utf8").on("data", read);
    child.on("error", reject);
    child.on("exit", (code) => reject(new Error(`the server ended (${code}): ${output}`)));
  });
  const exited = new Promise((resolve) => child.on("exit", resolve));

  async function stop() {
    child.kill("SIGTERM");
    await within(STOP_LIMIT_MS, "the server's end", exited).catch(() => child.kill("SIGKILL"));
    await rm(dir, { recursive: true, force: true });
  }

  try {
    const origin = await within(START_LIMIT_MS, "the server's start", started);
    const token = (user, ttlS = 3_600) => mintToken(secret, user, ttlS);
    return {
      origin,
      port: Number(new URL(origin).port),
      token,
      records: (user) => pullAll(origin, token(user)),
      write: (user, key) => createSite(origin, token(user), key),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** A JSON Web Token as the server expects it; a negative `ttlS` makes one that has expired. */
function mintToken(secret, user, ttlS) {
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1_000) + ttlS;
  const body = `${encode({ alg: "HS256", typ: "JWT" })}.${encode({ sub: user, exp })}`;
  return `${body}.${createHmac("sha256", secret).update(body).digest("base64url")}`;
}

/** Creates a site as a device of its own would. */
async function createSite(origin, token, key) {
  const clientId = "another-device";
  const change = { id: `${key}-created`, type: "sites", action: "create", offlineId: key };
  const at = `${String(Date.now()).padStart(13, "0")}-0000-${clientId}`;
  Object.assign(change, { versionNumber: 0, data: { id: key, name: key }, at });
  const response = await fetch(`${origin}/api/v1/sync/batch`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ protocol: 1, clientId, changes: [change] }),
    signal: AbortSignal.timeout(REQUEST_LIMIT_MS),
  });
  const { results } = await response.json();
  if (results?.[0].status !== "success") throw new Error(`create: ${JSON.stringify(results)}`);
}

/**
 * Everything the server has for a user: `"sites/42"` → the pulled change. Throws where a record
 * comes twice, for a pull promises each record once.
 */
async function pullAll(origin, token) {
  const found = new Map();
  let since = null;
  for (;;) {
    const query = new URLSearchParams({ limit: String(PAGE) });
    if (since !== null) query.set("since", since);
    const response = await fetch(`${origin}/api/v1/sync/pull?${query}`, {
      headers: { authorization: `Bearer ${token}` },
      signal: AbortSignal.timeout(REQUEST_LIMIT_MS),
    });
    if (!response.ok) throw new Error(`pull: ${response.status} ${await response.text()}`);
    const page = await response.json();
    for (const change of page.changes) {
      const name = `${change.type}/${change.id}`;
      if (found.has(name)) throw new Error(`the server pulled ${name} twice`);
      found.set(name, change);
    }
    since = page.checkpoint;
    if (!page.hasMore) return found;
  }
}
