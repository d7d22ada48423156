// Pictures of the demo as people see it, in states that are made for real. See README.md.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { launch } from "./lib/chromium.mjs";
import { startCutProxy } from "./lib/cut-proxy.mjs";
import {
  assess,
  findSite,
  openDemo,
  openTab,
  switchNetwork,
  synced,
  writeNote,
} from "./lib/demo-page.mjs";
import { BATCH, json, startFaultProxy } from "./lib/fault-proxy.mjs";
import { readOptions } from "./lib/options.mjs";
import { startServer } from "./lib/server.mjs";
import { eventually, sleep, within } from "./lib/within.mjs";

const DESK = { viewport: { width: 1440, height: 900 } };
const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };
const DARK = { colorScheme: "dark" };
const WHOLE_LIMIT_MS = 180_000;

const options = readOptions();
const undo = [];

async function prepare() {
  const server = await startServer(options);
  undo.push(server.stop);
  const faults = await startFaultProxy(server.port);
  undo.push(faults.stop);
  const proxy = await startCutProxy(faults.port);
  undo.push(proxy.stop);
  const browser = await launch(options);
  undo.push(() => browser.close());
  await mkdir(options.out, { recursive: true });

  /** A demo of its own in a fresh profile, both devices synced. */
  async function demo(look) {
    const page = await (await browser.newContext(look)).newPage();
    await openDemo(page, proxy.origin);
    for (const device of ["a", "b"]) await synced(page, device);
    return page;
  }
  return { faults, proxy, browser, demo };
}

async function picture(page, name) {
  // Let transitions and the coalesced rendering come to rest.
  await sleep(400);
  const overflow = await page.evaluate(
    () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
  );
  if (overflow > 0) throw new Error(`${name}: the page is ${overflow} px too wide`);
  await page.screenshot({ path: join(options.out, `${name}.png`) });
  console.log(join(options.out, `${name}.png`));
}

const sitesOf = (page, prefix, limit) =>
  page.evaluate((query) => window.fieldbook.a.collection("sites").find(query), {
    index: "name",
    prefix,
    limit,
  });

/** Some work on device A, on sites that begin with `prefix`: two notes and three assessments. */
async function workOnA(page, prefix) {
  const sites = await sitesOf(page, prefix, 40);
  const [first, second] = sites.filter(
    ({ name }) => sites.filter((other) => other.name.startsWith(name)).length === 1,
  );
  await findSite(page, "a", first);
  await writeNote(page, "a", "Track is washed out past the mill; come from the north.");
  await assess(page, "a", { title: "Well by the school", score: 4, notes: "Pump works." });
  await findSite(page, "a", second);
  await writeNote(page, "a", "Market on Thursdays, ask for the keeper of the spring.");
  await assess(page, "a", {
    title: "Spring box",
    score: 2,
    notes: "Lid broken, children play at it.\nNeeds a new hinge.",
  });
  await assess(page, "a", { title: "Clinic roof", score: 3, notes: "" });
}

/** Both devices edit the same site without a network, then meet. */
async function conflictOn(page) {
  const [site] = await sitesOf(page, "San ", 1);
  const notes = {
    a: "Gate closed; the key is at no. 4.",
    b: "Two wells, seen from the road. One is dry.",
  };
  for (const device of ["a", "b"]) {
    await switchNetwork(page, device, false);
    await findSite(page, device, site);
    await writeNote(page, device, notes[device]);
  }
  for (const device of ["a", "b", "a"]) {
    await switchNetwork(page, device, true);
    await synced(page, device);
  }
  const logged = (id) => page.evaluate((device) => window.fieldbook[device].conflicts.list(), id);
  return (await logged("a")).length > 0 ? "a" : "b";
}

async function run() {
  const { faults, demo, browser, proxy } = await prepare();

  const desk = await demo(DESK);
  await picture(desk, "desk");
  await switchNetwork(desk, "a", false);
  await workOnA(desk, "Sal");
  await picture(desk, "desk-offline-queue");
  await desk.emulateMedia(DARK);
  await picture(desk, "desk-offline-queue-dark");
  await desk.emulateMedia({ colorScheme: "light" });
  await switchNetwork(desk, "a", true);
  await synced(desk, "a");
  const device = await conflictOn(desk);
  await openTab(desk, device, "Conflicts");
  await picture(desk, "desk-conflict");
  await desk.context().close();

  const failing = faults.on(BATCH, ({ answer }) => answer(500, json, '{"status":500}'));
  const error = await demo(DESK);
  await workOnA(error, "Bel");
  await eventually("an error is shown", () => error.locator(".notice").first().isVisible());
  await picture(error, "desk-error");
  failing.stop();
  await error.context().close();

  const phone = await demo(PHONE);
  await picture(phone, "phone");
  await switchNetwork(phone, "a", false);
  await workOnA(phone, "Mar");
  await picture(phone, "phone-site");
  await openTab(phone, "a", "Queue");
  await picture(phone, "phone-queue");
  await phone.emulateMedia(DARK);
  await picture(phone, "phone-queue-dark");
  await openTab(phone, "a", "Conflicts");
  await picture(phone, "phone-conflicts-empty");
  await phone.context().close();

  // The first look, before anything has come.
  const refused = faults.on("GET /api/v1/sync/pull", () => {});
  const first = await (await browser.newContext(PHONE)).newPage();
  await first.goto(`${proxy.origin}/`);
  await first.locator('[data-device="a"] .empty').first().waitFor();
  await picture(first, "phone-first-pull");
  refused.stop();
}

let fine = true;
try {
  await within(WHOLE_LIMIT_MS, "the pictures", run);
} catch (error) {
  fine = false;
  console.error(stripVTControlCharacters(error.message));
} finally {
  for (const stop of undo.reverse()) await within(10_000, "clearing up", stop).catch(() => {});
}
process.exit(fine ? 0 : 1);
