// One life of the browser: a page for each store, and SIGKILL for all of its processes at once.
import { launchKillable } from "../../e2e/lib/chromium.mjs";
import { within } from "../../e2e/lib/within.mjs";

const STEP_LIMIT_MS = 30_000;
/** Notes that were on their way when the browser died are read within this time. */
const LAST_NOTES_MS = 20;

/** A page in the background must not be slowed down: all three count. */
const FLAGS = [
  "--disable-background-timer-throttling",
  "--disable-backgrounding-occluded-windows",
  "--disable-renderer-backgrounding",
];

/** `onNote(name, kind, rest)` hears what the pages tell. */
export async function startSession({ chromium, profile, port, names, onNote }) {
  const options = { chromium, headed: false, args: FLAGS };
  const { context, kill } = await launchKillable(options, profile);
  const pages = new Map();
  let dead = false;
  const end = async () => {
    dead = true;
    const killedAt = Date.now();
    await kill();
    await new Promise((resolve) => setTimeout(resolve, LAST_NOTES_MS));
    return killedAt;
  };

  async function makePage(name) {
    const page = await context.newPage();
    const cdp = await context.newCDPSession(page);
    cdp.on("Runtime.bindingCalled", ({ payload }) => {
      const [kind, ...rest] = payload.split(" ");
      onNote(name, kind, rest.join(" "));
    });
    await Promise.all([
      cdp.send("Runtime.enable"),
      cdp.send("Runtime.addBinding", { name: "note" }),
    ]);
    page.on("pageerror", (error) => onNote(name, "error", error.stack ?? error.message));
    pages.set(name, page);
  }

  const guarded = async (what, work) => {
    try {
      return await within(STEP_LIMIT_MS, what, work);
    } catch (error) {
      if (!dead) throw error;
      return undefined;
    }
  };

  try {
    await within(STEP_LIMIT_MS, "the pages", Promise.all(names.map(makePage)));
  } catch (error) {
    await end();
    throw error;
  }
  return {
    kill: end,
    /** Loads the page; with `go`, it opens its store and writes without being asked. */
    load(name, go) {
      const query = go ? `?go=${encodeURIComponent(JSON.stringify(go))}` : "";
      const url = `http://${name}.localhost:${port}/${query}`;
      const waitUntil = go ? "commit" : "load";
      return guarded(`${name}: loading`, () => pages.get(name).goto(url, { waitUntil }));
    },
    /** Calls `window.crash[method](argument)`; `undefined` if the browser is killed meanwhile. */
    call(name, method, argument) {
      const run = ([what, given]) => window.crash[what](given);
      return guarded(`${name}: ${method}`, () => pages.get(name).evaluate(run, [method, argument]));
    },
  };
}
