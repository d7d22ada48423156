/** The head of a device: how it stands, its network switch, and the two buttons for syncing. */
import type { Status } from "landfall";
import { setOnline, type Device } from "../device.ts";
import { h, setAttribute, setText } from "../dom.ts";
import { icon } from "../icons.ts";
import { phaseWords, spokenPhase } from "../words.ts";
import { chip, sayOn } from "./chip.ts";
import type { Notice } from "./notice.ts";

const switchHelp =
  "Cuts this device only: its requests fail as they do without a signal. The browser still " +
  "believes it is online, so landfall learns it from its requests, as behind a dead access point.";

export interface DeviceBar {
  readonly element: HTMLElement;
  update(status: Status): void;
}

export function createDeviceBar(device: Device, notice: Notice): DeviceBar {
  const badge = chip("badge");
  badge.setAttribute("aria-hidden", "true");
  const spoken = h("span", { class: "sr-only", role: "status", "aria-live": "polite" });
  const progress = h("progress", { class: "progress", "aria-label": "Progress", hidden: true });

  const network = h("button", {
    type: "button",
    class: "switch",
    role: "switch",
    title: switchHelp,
    onclick: () => setOnline(device, !device.network.online),
  });
  const networkText = h("span", { class: "switch-text" });
  network.append(h("span", { class: "switch-track" }, h("span", { class: "switch-knob" })));
  network.append(networkText);
  device.network.subscribe((online) => {
    setAttribute(network, "aria-checked", String(online));
    setAttribute(network, "aria-label", `Network of ${device.name}`);
    setText(networkText, online ? "Online" : "Offline");
  });

  const sync = h("button", { type: "button", onclick: syncNow }, icon("sync"), "Sync now");
  const pauseText = h("span", {}, "Pause");
  const pauseIcon = h("span", { class: "icon-slot" }, icon("pause"));
  const pause = h("button", { type: "button", onclick: togglePause }, pauseIcon, pauseText);

  async function syncNow(): Promise<void> {
    sync.disabled = true;
    try {
      await device.db.sync();
    } catch (error) {
      // A fault of the sync itself is in the status already; the rest would go unseen.
      if (device.db.status.error === null) notice.report(error);
    } finally {
      sync.disabled = false;
    }
  }

  function togglePause(): void {
    if (device.db.status.phase === "paused") device.db.resume();
    else device.db.pause();
  }

  const element = h(
    "header",
    { class: "device-bar" },
    h(
      "div",
      { class: "device-id" },
      h("h2", { id: `device-${device.id}-name` }, device.name),
      badge,
      spoken,
    ),
    h("div", { class: "device-controls" }, network, sync, pause),
    progress,
  );

  let paused: boolean | null = null;
  return {
    element,
    update(status) {
      sayOn(badge, phaseWords(status));
      setText(spoken, `${device.name}: ${spokenPhase(status)}`);
      const now = status.phase === "paused";
      if (now !== paused) {
        paused = now;
        setText(pauseText, now ? "Resume" : "Pause");
        pauseIcon.replaceChildren(icon(now ? "play" : "pause"));
      }
      progress.hidden = status.progress === null;
      if (status.progress) {
        const { done, total } = status.progress;
        if (total === null) progress.removeAttribute("value");
        else {
          progress.max = Math.max(total, 1);
          progress.value = done;
        }
      }
    },
  };
}
