/** The conflict log: what two sides made of one record, side by side, and what came of it. */
import type { Conflict } from "landfall";
import type { Device } from "../device.ts";
import { coalesce, h, KeyedList, latest, setText, type View } from "../dom.ts";
import { contours } from "../icons.ts";
import type { Assessment, Site } from "../model.ts";
import {
  counted,
  errorWords,
  fieldName,
  fieldValue,
  outcomeWords,
  strategyWords,
  time,
} from "../words.ts";

const SHOWN_MAX = 50;

type Fields = Record<string, unknown>;

export interface Conflicts {
  readonly element: HTMLElement;
  refresh(): void;
  /** How many there are, for the tab. */
  onCount(show: (count: number) => void): void;
}

/** The fields in which any of the three differ, in the order of the record. */
function differing(conflict: Conflict): string[] {
  const sides = [conflict.local, conflict.remote, conflict.result] as (Fields | null)[];
  const names = new Set(sides.flatMap((side) => (side ? Object.keys(side) : [])));
  const text = (side: Fields | null, name: string) => JSON.stringify(side?.[name] ?? null);
  const present = sides.filter((side) => side !== null);
  return [...names].filter((name) => new Set(present.map((side) => text(side, name))).size > 1);
}

function table(conflict: Conflict): HTMLElement {
  const columns = [
    { title: "This device", side: conflict.local as Fields | null, kept: "local" },
    { title: "Server", side: conflict.remote as Fields | null, kept: "remote" },
    { title: "Outcome", side: conflict.result as Fields | null, kept: "" },
  ];
  const names = differing(conflict);
  const head = h("tr", {}, h("th", { scope: "col" }, h("span", { class: "sr-only" }, "Field")));
  for (const { title, kept } of columns) {
    const mark = kept === conflict.outcome ? h("span", { class: "kept" }, "kept") : null;
    head.append(h("th", { scope: "col" }, title, mark && " ", mark));
  }
  const body = h("tbody");
  if (columns.some(({ side }) => side === null)) {
    const row = h("tr", {}, h("th", { scope: "row" }, "Record"));
    for (const { side } of columns) row.append(h("td", {}, side ? "there" : "deleted"));
    body.append(row);
  }
  for (const name of names) {
    const row = h("tr", {}, h("th", { scope: "row" }, fieldName(name)));
    for (const { side } of columns) {
      row.append(h("td", {}, side ? fieldValue(name, side[name]) : "–"));
    }
    body.append(row);
  }
  return h("div", { class: "table-scroll" }, h("table", {}, h("thead", {}, head), body));
}

function titleOf(conflict: Conflict): string {
  const side = (conflict.result ?? conflict.local ?? conflict.remote ?? conflict.base) as
    (Partial<Site> & Partial<Assessment>) | null;
  return side?.name ?? side?.title ?? conflict.key;
}

function card(conflict: Conflict): View<Conflict> {
  return {
    element: h(
      "li",
      { class: "card conflict", "data-conflict": conflict.id },
      h(
        "div",
        { class: "card-head" },
        h("span", { class: "card-title" }, titleOf(conflict)),
        h("span", { class: "card-made" }, time(conflict.at)),
      ),
      h("p", { class: "conflict-outcome" }, outcomeWords[conflict.outcome]),
      h("p", { class: "card-made" }, `Settled by rule: ${strategyWords[conflict.strategy]}.`),
      table(conflict),
    ),
    update() {
      // An entry of the log never changes.
    },
  };
}

export function createConflicts(device: Device): Conflicts {
  const { db } = device;
  const summary = h("p", { class: "list-count" });
  const clear = h("button", { type: "button", class: "quiet", onclick: clearLog }, "Clear the log");
  const head = h("div", { class: "panel-head", hidden: true }, summary, clear);
  const list = h("ul", { class: "cards" });
  const fault = h("p", { class: "form-note bad", role: "alert" });
  const empty = h(
    "div",
    { class: "empty" },
    contours(),
    h("p", {}, "No conflicts. When two devices change the same record, both versions show here."),
  );
  const keyed = new KeyedList<Conflict>(list, (conflict) => conflict.id, card);
  const show = latest();
  let tell: (count: number) => void = () => {};

  const refresh = coalesce(() => {
    void show(db.conflicts.list({ limit: SHOWN_MAX }), (conflicts) => {
      keyed.update(conflicts);
      head.hidden = list.hidden = conflicts.length === 0;
      empty.hidden = conflicts.length > 0;
      const all = conflicts.length < SHOWN_MAX;
      setText(summary, all ? counted(conflicts.length, "conflict") : `The latest ${SHOWN_MAX}`);
      tell(conflicts.length);
    }).catch(report);
  }, 80);

  function report(error: unknown): void {
    const words = errorWords(error);
    setText(fault, `${words.message} ${words.hint}`);
  }

  function clearLog(): void {
    db.conflicts.clear().then(refresh, report);
  }

  db.on("conflict", refresh);

  return {
    element: h("div", { class: "panel-body" }, head, fault, list, empty),
    refresh,
    onCount(next) {
      tell = next;
    },
  };
}
