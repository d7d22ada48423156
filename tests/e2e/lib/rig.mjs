// What every test gets: a user of its own on the real server, behind a proxy that does mischief,
// behind one that can be cut; and pages on which landfall runs.
import { install } from "./chromium.mjs";
import { startCutProxy } from "./cut-proxy.mjs";
import { startFaultProxy } from "./fault-proxy.mjs";
import { addLab } from "./lab.mjs";

const STEP_LIMIT_MS = 15_000;
let users = 0;

/** `shared` is `{ options, server, browser }`. */
export async function makeRig({ options, server, browser }) {
  const undo = [];
  /** Errors that nobody caught, on any page of the test: none may be left at its end. */
  const pageErrors = [];
  const faults = await startFaultProxy(server.port);
  undo.push(faults.stop);
  const proxy = await startCutProxy(faults.port);
  undo.push(proxy.stop);
  const user = `user-${++users}`;

  /** A browser profile of its own: another device. */
  async function device(contextOptions = {}) {
    const context = await browser.newContext(contextOptions);
    context.on("weberror", (fault) => pageErrors.push(fault.error().message));
    undo.push(() => context.close());
    return context;
  }

  /** A tab on the blank page, with `lab` and `landfall` in it; `scripts` run before anything else. */
  async function tab(context, scripts = []) {
    const page = await (context ?? (await device())).newPage();
    page.setDefaultTimeout(STEP_LIMIT_MS);
    for (const script of [...scripts, addLab]) await page.addInitScript(script);
    await goToLab(page);
    return page;
  }

  async function goToLab(page) {
    await page.goto(`${proxy.origin}/lab.html`);
    await page.waitForFunction(() => window.landfall);
  }

  return {
    options,
    server,
    proxy,
    faults,
    user,
    device,
    tab,
    goToLab,
    /** Opens `db` in the tab, with a valid token unless told otherwise. */
    open: (page, more = {}) =>
      page.evaluate((given) => window.lab.open(given), {
        user,
        token: server.token(user),
        ...more,
      }),
    /** The page's own files stay available while the network is cut. */
    install: (context) => install(context, proxy.origin, options.static),
    records: () => server.records(user),
    pageErrors,
    undo,
    async stop() {
      for (const step of undo.reverse()) await step();
    },
  };
}
