// Real Chromium: one browser for many tests, a profile on disk, or a process that can be killed.
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { extname, join, normalize } from "node:path";
import { chromium } from "playwright-core";
import { eventually, within } from "./within.mjs";

const START_LIMIT_MS = 30_000;

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

function launchOptions({ chromium: executablePath, headed, args: more = [] }) {
  const args = [...(headed ? [] : ["--headless=new"]), ...FLAGS, ...more];
  return { executablePath, headless: !headed, args, timeout: START_LIMIT_MS };
}

/** A browser whose contexts are separate and gone when closed. */
export function launch(options) {
  return chromium.launch(launchOptions(options));
}

/** A context on a fresh profile on disk; `stop` closes it and deletes the profile. */
export async function launchOnDisk(options, contextOptions = {}) {
  const profile = await mkdtemp(join(tmpdir(), "landfall-profile-"));
  const context = await chromium.launchPersistentContext(profile, {
    ...launchOptions(options),
    ...contextOptions,
  });
  return {
    context,
    async stop() {
      await context.close();
      await removeProfile(profile);
    },
  };
}

export function makeProfile() {
  return mkdtemp(join(tmpdir(), "landfall-profile-"));
}

export function removeProfile(profile) {
  return rm(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
}

/** A browser process of its own on `profile`. `kill()` is SIGKILL, for all its processes at once. */
export async function launchKillable(options, profile) {
  await rm(join(profile, "DevToolsActivePort"), { force: true });
  const args = [...launchOptions(options).args, `--user-data-dir=${profile}`];
  args.push("--remote-debugging-port=0", "about:blank");
  // A process group, so that renderers and helpers die with the browser.
  const child = spawn(options.chromium, args, { stdio: "ignore", detached: true });
  const exited = new Promise((resolve) => child.on("exit", resolve));
  const kill = async () => {
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch {
      // It has ended by itself.
    }
    await within(5_000, "the end of a killed browser", exited);
  };
  try {
    const port = await eventually(
      "the browser's debugging port",
      async () => {
        const text = await readFile(join(profile, "DevToolsActivePort"), "utf8").catch(() => "");
        return text.split("\n")[0];
      },
      START_LIMIT_MS,
    );
    const browser = await chromium.connectOverCDP(`http://127.0.0.1:${port}`);
    return { context: browser.contexts()[0], kill };
  } catch (error) {
    await kill();
    throw error;
  }
}

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
};

/**
 * From now on the page's own files come from disk, as an installed app has them; a page can then be
 * loaded again while the network is cut. Requests to the API are not touched: they meet the cut.
 */
export async function install(context, origin, folder) {
  const isFile = (url) =>
    url.origin === origin && !url.pathname.startsWith("/api/") && !url.pathname.startsWith("/demo");
  await context.route(isFile, async (route) => {
    const { pathname } = new URL(route.request().url());
    const file = normalize(pathname === "/" ? "/index.html" : pathname);
    try {
      const body = await readFile(join(folder, file));
      await route.fulfill({ body, contentType: TYPES[extname(file)] ?? "text/plain" });
    } catch {
      await route.fulfill({ status: 404 });
    }
  });
  return () => context.unroute(isFile);
}
