/**
 * One device, whole: its head, the sites, the queue and the conflicts.
 *
 * On a desk the sites fill the upper part and the queue lies below; on a phone one of the three
 * shows at a time. Both are the same elements: the stylesheet decides by `data-view`.
 */
import type { Status } from "landfall";
import type { Device } from "../device.ts";
import { coalesce, h } from "../dom.ts";
import { waiting } from "../words.ts";
import { createConflicts } from "./conflicts.ts";
import { createDeviceBar } from "./device-bar.ts";
import { createNotice } from "./notice.ts";
import { createQueue } from "./queue.ts";
import { createSiteDetail } from "./site-detail.ts";
import { createSiteList } from "./site-list.ts";
import { createTabs } from "./tabs.ts";

const phone = matchMedia("(max-width: 720px)");

export function createDeviceView(device: Device): HTMLElement {
  const notice = createNotice(device);
  const bar = createDeviceBar(device, notice);
  const detail = createSiteDetail(device, closeDetail);
  const list = createSiteList(device, openSite);
  const queue = createQueue(device);
  const conflicts = createConflicts(device);

  const sitesPanel = h("div", { class: "sites-panel", "data-open": "list" });
  sitesPanel.append(list.element, detail.element);
  const queuePanel = h("div", { class: "dock-panel scroll", tabindex: 0 }, queue.element);
  const conflictPanel = h("div", { class: "dock-panel scroll", tabindex: 0 }, conflicts.element);

  const view = h("div", { class: "device-views" });
  const tabs = createTabs(
    `Views of ${device.name}`,
    [
      { id: "sites", label: "Sites", panel: sitesPanel, icon: "sites" },
      { id: "queue", label: "Queue", panel: queuePanel, icon: "queue" },
      { id: "conflicts", label: "Conflicts", panel: conflictPanel, icon: "conflicts" },
    ] as const,
    (id) => {
      view.dataset["view"] = id;
      toTop();
    },
  );
  view.append(sitesPanel, tabs.element, queuePanel, conflictPanel);

  /** A phone scrolls the whole page, and what shows now begins at its top. */
  function toTop(top = 0): void {
    if (phone.matches) scrollTo({ top, behavior: "instant" });
  }

  let leftAt = 0;

  function openSite(id: string): void {
    leftAt = scrollY;
    list.select(id);
    sitesPanel.dataset["open"] = "detail";
    detail.open(id);
    toTop();
  }

  function closeDetail(): void {
    sitesPanel.dataset["open"] = "list";
    list.focus();
    toTop(leftAt);
  }

  /** A desk always shows the sites, so there its tab gives way to the queue's. */
  function fit(): void {
    if (!phone.matches && tabs.selected === "sites") tabs.select("queue");
    else if (phone.matches && tabs.selected !== "sites") tabs.select("sites");
  }
  phone.addEventListener("change", fit);
  fit();

  conflicts.onCount((value) => tabs.setCount("conflicts", value, "conflict"));

  let newest: Status = device.db.status;
  const render = coalesce(() => {
    bar.update(newest);
    notice.update(newest.error);
    const { failed, conflict } = newest.outbox;
    tabs.setCount("queue", waiting(newest) + conflict + failed, failed > 0 ? "bad" : "waiting");
    list.refresh();
    detail.refresh();
    queue.refresh();
    conflicts.refresh();
  });
  device.db.subscribe((status) => {
    newest = status;
    render();
  });

  return h(
    "section",
    { class: "device", "data-device": device.id, "aria-labelledby": `device-${device.id}-name` },
    bar.element,
    notice.element,
    view,
  );
}

/** While the database opens. */
export function createOpening(name: string): HTMLElement {
  return h(
    "section",
    { class: "device opening", "aria-busy": "true" },
    h("p", { role: "status" }, `Opening ${name}…`),
  );
}

/** When it does not open. */
export function createOpenFault(name: string, message: string, hint: string): HTMLElement {
  return h(
    "section",
    { class: "device opening", role: "alert" },
    h("h2", {}, `${name} did not open`),
    h("p", {}, message),
    hint ? h("p", { class: "notice-hint" }, hint) : null,
    h("button", { type: "button", onclick: () => location.reload() }, "Load the page again"),
  );
}
