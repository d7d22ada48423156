// What a person does on the demo page, and what a script reads from it.
import { byName } from "./compare.mjs";
import { within } from "./within.mjs";

const STEP_LIMIT_MS = 10_000;

/** Opens the demo and waits until both devices are there. */
export async function openDemo(page, origin) {
  page.setDefaultTimeout(STEP_LIMIT_MS);
  await page.goto(`${origin}/`);
  await devicesReady(page);
}

export async function devicesReady(page) {
  await page.waitForFunction(() => window.fieldbook?.a && window.fieldbook?.b);
}

const part = (page, device) => page.locator(`[data-device="${device}"]`);

/** Finds the site by its name and opens it. */
export async function findSite(page, device, site) {
  const view = part(page, device);
  const back = view.getByRole("button", { name: "All sites" });
  if (await back.isVisible()) await back.click();
  await view.getByLabel("Search by name").fill(site.name);
  await view.locator(".rows .row").filter({ hasText: site.name }).first().click();
  await view.getByRole("heading", { name: site.name, exact: true }).waitFor();
}

/** Writes a note into the open site and saves it. */
export async function writeNote(page, device, note) {
  const view = part(page, device);
  await view.locator(".site-form").getByLabel("Note").fill(note);
  await view.getByRole("button", { name: "Save site" }).click();
  await view.getByText("Saved on this device.").waitFor();
}

/** Adds an assessment to the open site. */
export async function assess(page, device, { title, score, notes }) {
  const view = part(page, device);
  await view.getByRole("button", { name: "Add assessment" }).click();
  const form = view.locator(".assessment-form");
  await form.getByLabel("Title").fill(title);
  await form
    .locator(".segments label")
    .filter({ hasText: String(score) })
    .click();
  await form.getByLabel("Notes").fill(notes);
  await form.getByRole("button", { name: "Save assessment" }).click();
  await view.locator(".assessments .card-title").filter({ hasText: title }).waitFor();
}

/** Turns the network of one device on or off, by its switch. */
export async function switchNetwork(page, device, online) {
  const control = part(page, device).getByRole("switch");
  if ((await control.getAttribute("aria-checked")) !== String(online)) await control.click();
}

export async function openTab(page, device, name) {
  await part(page, device)
    .getByRole("tab", { name: new RegExp(name) })
    .click();
}

/** Waits until the device has sent everything and pulled after that. */
export function synced(page, device, limitMs = 20_000) {
  const work = page.evaluate(
    ([id, ms]) => window.fieldbook[id].whenSynced({ signal: AbortSignal.timeout(ms) }),
    [device, limitMs],
  );
  return within(limitMs + 1_000, `device ${device} is synced`, work);
}

/** All records of a device: `"sites/42"` → record. */
export async function recordsOf(page, device) {
  // As one text: Playwright takes long over many objects.
  const text = await page.evaluate(async (id) => {
    const db = window.fieldbook[id];
    return JSON.stringify({
      sites: await db.collection("sites").all(),
      assessments: await db.collection("assessments").all(),
    });
  }, device);
  return byName(JSON.parse(text));
}

/** The outbox of a device: its counts, and `"sites/42"` → entry. Throws on two for one record. */
export async function queueOf(page, device) {
  const { stats, entries } = await page.evaluate(async (id) => {
    const { outbox } = window.fieldbook[id];
    return { stats: await outbox.stats(), entries: await outbox.list() };
  }, device);
  const found = new Map();
  for (const entry of entries) {
    const name = `${entry.collection}/${entry.key}`;
    if (found.has(name)) throw new Error(`${name} is queued twice`);
    found.set(name, entry);
  }
  return { stats, entries: found };
}
