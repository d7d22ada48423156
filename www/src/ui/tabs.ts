/** A row of tabs by the book: arrow keys move, the chosen one is in the tab order. */
import { h, setText, uniqueId } from "../dom.ts";
import { icon, type IconName } from "../icons.ts";

export interface TabSpec<Id extends string> {
  id: Id;
  label: string;
  panel: HTMLElement;
  icon?: IconName;
}

export interface Tabs<Id extends string> {
  readonly element: HTMLElement;
  readonly selected: Id;
  select(id: Id): void;
  /** The small number beside the word; none at 0. */
  setCount(id: Id, count: number, tone?: string): void;
}

export function createTabs<Id extends string>(
  label: string,
  specs: readonly [TabSpec<Id>, ...TabSpec<Id>[]],
  onSelect: (id: Id) => void,
): Tabs<Id> {
  let selected = specs[0].id;
  const tabs = specs.map((spec) => {
    const panelId = (spec.panel.id ||= uniqueId("panel"));
    const badge = h("span", { class: "tab-count", hidden: true });
    const button = h("button", {
      type: "button",
      role: "tab",
      id: uniqueId("tab"),
      class: "tab",
      "data-tab": spec.id,
      "aria-controls": panelId,
      onclick: () => select(spec.id),
    });
    if (spec.icon) button.append(icon(spec.icon));
    button.append(h("span", {}, spec.label), badge);
    spec.panel.setAttribute("role", "tabpanel");
    spec.panel.setAttribute("aria-labelledby", button.id);
    return { ...spec, button, badge };
  });
  const element = h("div", {
    class: "tabs",
    role: "tablist",
    "aria-label": label,
    onkeydown: move,
  });
  element.append(...tabs.map((tab) => tab.button));

  function move(event: KeyboardEvent): void {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step === undefined) return;
    // A tab that this width does not show has no box.
    const visible = tabs.filter((tab) => tab.button.getClientRects().length > 0);
    const at = visible.findIndex((tab) => tab.id === selected);
    const next = visible[(at + step + visible.length) % visible.length];
    if (!next) return;
    event.preventDefault();
    select(next.id);
    next.button.focus();
  }

  function select(id: Id): void {
    selected = id;
    for (const tab of tabs) {
      const on = tab.id === id;
      tab.button.setAttribute("aria-selected", String(on));
      tab.button.tabIndex = on ? 0 : -1;
    }
    onSelect(id);
  }

  select(selected);
  return {
    element,
    get selected() {
      return selected;
    },
    select,
    setCount(id, count, tone) {
      const tab = tabs.find((one) => one.id === id);
      if (!tab) return;
      tab.badge.hidden = count === 0;
      setText(tab.badge, count > 999 ? "999+" : String(count));
      tab.badge.dataset["tone"] = tone ?? "quiet";
    },
  };
}
