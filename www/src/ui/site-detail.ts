/** One site: where it is, the note and the status that people give it, and its assessments. */
import type { Device } from "../device.ts";
import { h, setText, uniqueId } from "../dom.ts";
import { contours, icon } from "../icons.ts";
import { siteStatuses, type Site, type SiteStatus } from "../model.ts";
import { coordinatesOf, errorWords, placeOf, siteStatusWords } from "../words.ts";
import { createAssessmentList, type AssessmentList } from "./assessment-list.ts";
import { chip, showState } from "./chip.ts";

const SAVED = "Saved on this device.";
const SAVED_SHOWN_MS = 4_000;

export interface SiteDetail {
  readonly element: HTMLElement;
  open(id: string): void;
  refresh(): void;
}

export function createSiteDetail(device: Device, onBack: () => void): SiteDetail {
  const { sites } = device;
  const back = h("button", { type: "button", class: "quiet back", onclick: onBack });
  back.append(icon("back"), "All sites");
  const name = h("h3", { class: "site-name", tabindex: -1 });
  const state = chip();
  const place = h("p", { class: "site-place" });
  const coordinates = h("p", { class: "site-coordinates" });

  const statusId = uniqueId("status");
  const noteId = uniqueId("note");
  const status = h("select", { id: statusId, name: "status", onchange: typed });
  status.append(h("option", { value: "" }, "Not visited"));
  status.append(...siteStatuses.map((key) => h("option", { value: key }, siteStatusWords[key])));
  const note = h("textarea", { id: noteId, name: "note", rows: 2, oninput: typed });
  const save = h("button", { type: "submit", class: "primary" }, "Save site");
  const revert = h("button", { type: "button", class: "quiet", onclick: takeStored }, "Revert");
  const said = h("p", { class: "form-note", role: "status" });
  const form = h(
    "form",
    { class: "site-form", onsubmit: submit },
    h("div", { class: "field" }, h("label", { for: statusId }, "Status"), status),
    h("div", { class: "field" }, h("label", { for: noteId }, "Note"), note),
    h("div", { class: "actions" }, save, revert, said),
  );

  let stored: Readonly<Site> | null = null;
  let dirty = false;
  let stop: () => void = () => {};
  let assessments: AssessmentList | null = null;
  const assessmentSlot = h("div");
  const body = h(
    "div",
    { class: "site-body", hidden: true },
    back,
    h("div", { class: "site-head" }, name, state),
    place,
    coordinates,
    form,
    assessmentSlot,
  );
  const empty = h(
    "div",
    { class: "empty" },
    contours(),
    h("p", {}, "Choose a site to see it and to write down what you find there."),
  );

  function changed(): void {
    dirty = note.value !== (stored?.note ?? "") || status.value !== (stored?.status ?? "");
    save.disabled = !dirty;
    revert.hidden = !dirty;
  }

  function typed(): void {
    setText(said, "");
    changed();
  }

  function takeStored(): void {
    note.value = stored?.note ?? "";
    status.value = stored?.status ?? "";
    changed();
  }

  function show(site: Readonly<Site> | undefined): void {
    const before = stored;
    stored = site ?? null;
    form.hidden = site === undefined;
    if (!site) {
      setText(place, "This site was deleted.");
      setText(coordinates, "");
      return;
    }
    setText(name, site.name);
    setText(place, placeOf(site));
    setText(coordinates, coordinatesOf(site));
    if (!dirty) takeStored();
    else if (before && (before.note !== site.note || before.status !== site.status)) {
      setText(said, "This site changed elsewhere while you were writing. Saving keeps your text.");
    }
    refresh();
  }

  async function submit(event: Event): Promise<void> {
    event.preventDefault();
    if (!stored || !dirty) return;
    const patch: Partial<Site> = {};
    if (note.value !== (stored.note ?? "")) patch.note = note.value;
    const chosen = status.value as SiteStatus | "";
    if (chosen !== (stored.status ?? "")) patch.status = chosen;
    save.disabled = true;
    try {
      await sites.update(stored.id, patch);
      stored = { ...stored, ...patch };
      changed();
      setText(said, SAVED);
      setTimeout(() => said.textContent === SAVED && setText(said, ""), SAVED_SHOWN_MS);
    } catch (error) {
      save.disabled = false;
      const words = errorWords(error);
      setText(said, `${words.message} ${words.hint}`);
    }
  }

  function refresh(): void {
    showState(state, stored ? sites.state(stored.id) : undefined);
    assessments?.refresh();
  }

  return {
    element: h(
      "section",
      { class: "site-detail", "aria-label": `Site on ${device.name}` },
      h("div", { class: "scroll", tabindex: -1 }, body, empty),
    ),
    open(id) {
      stop();
      assessments?.close();
      stored = null;
      dirty = false;
      setText(said, "");
      body.hidden = false;
      empty.hidden = true;
      assessments = createAssessmentList(device, id);
      assessmentSlot.replaceChildren(assessments.element);
      stop = sites.subscribe({ equals: id, limit: 1 }, (rows) => show(rows[0]));
      name.focus({ preventScroll: true });
    },
    refresh,
  };
}
