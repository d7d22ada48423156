/** The sites of a device: search by the beginning of the name, narrowed to a country. */
import type { FindQuery } from "landfall";
import type { Device } from "../device.ts";
import {
  coalesce,
  h,
  KeyedList,
  latest,
  setAttribute,
  setText,
  uniqueId,
  type View,
} from "../dom.ts";
import { contours, icon } from "../icons.ts";
import type { Site } from "../model.ts";
import { count, countryName, placeOf, siteStatusWords } from "../words.ts";
import { chip, showState } from "./chip.ts";

const PAGE = 50;

export interface SiteList {
  readonly element: HTMLElement;
  /** The states of the records may have changed. */
  refresh(): void;
  select(id: string | null): void;
  focus(): void;
}

/** Names begin with a capital; people do not type it. */
function capitalised(text: string): string {
  return text.replace(
    /(^|[\s-])(\p{Ll})/gu,
    (_, before: string, letter: string) => before + letter.toLocaleUpperCase(),
  );
}

function queryFor(name: string, country: string): FindQuery {
  if (country && name) return { index: ["country", "name"], equals: [country], prefix: name };
  if (country) return { index: "country", equals: country };
  return name ? { index: "name", prefix: name } : { index: "name" };
}

export function createSiteList(device: Device, onSelect: (id: string) => void): SiteList {
  const { sites, db } = device;
  const searchId = uniqueId("search");
  const countryId = uniqueId("country");
  const search = h("input", {
    id: searchId,
    type: "search",
    placeholder: "Name of a place",
    autocomplete: "off",
    spellcheck: "false",
    oninput: coalesce(() => void query(), 120),
  });
  const country = h("select", { id: countryId, onchange: () => void query() });
  country.append(h("option", { value: "" }, "All countries"));
  const shown = h("p", { class: "list-count", "aria-live": "polite" });
  const list = h("ul", { class: "rows" });
  const empty = h("div", { class: "empty", hidden: true }, contours(), h("p"));
  const more = h("button", { type: "button", class: "more", hidden: true, onclick: showMore });
  setText(more, "Show 50 more");

  let selected: string | null = null;
  let current: FindQuery = { index: "name" };
  let limit = PAGE;
  let rows: readonly Readonly<Site>[] = [];
  let total = 0;
  let stop: () => void = () => {};
  const showCount = latest();
  const askQuery = latest();

  const keyed = new KeyedList<Readonly<Site>>(list, (site) => site.id, row);

  function row(site: Readonly<Site>): View<Readonly<Site>> {
    const name = h("span", { class: "row-name" });
    const place = h("span", { class: "row-place" });
    const state = chip();
    const button = h(
      "button",
      { type: "button", class: "row", onclick: () => onSelect(site.id) },
      h("span", { class: "row-text" }, name, place),
      state,
    );
    return {
      element: h("li", {}, button),
      update(next) {
        setText(name, next.name);
        const status = next.status ? `${siteStatusWords[next.status]} · ` : "";
        setText(place, status + placeOf(next));
        showState(state, sites.state(next.id), { quietWhenSynced: true });
        setAttribute(button, "aria-current", next.id === selected ? "true" : null);
      },
    };
  }

  function render(): void {
    keyed.update(rows);
    const loading = db.status.collections["sites"]?.loading ?? false;
    const searching = search.value !== "" || country.value !== "";
    const all = db.status.collections["sites"]?.count ?? 0;
    setText(
      shown,
      rows.length === 0 && loading
        ? "Fetching the places…"
        : `${count(rows.length)} of ${count(Math.max(total, rows.length))}${searching ? " found" : " sites"}`,
    );
    more.hidden = rows.length >= total;
    empty.hidden = rows.length > 0;
    list.hidden = rows.length === 0;
    setAttribute(empty, "data-loading", rows.length === 0 && loading ? "" : null);
    const text = empty.lastElementChild;
    if (text) {
      setText(
        text,
        searching && all > 0
          ? "No place begins like this. Names are found from their first letter on."
          : loading
            ? "The places are on their way from the server."
            : "No places on this device yet. They come with the first sync.",
      );
    }
  }

  const recount = coalesce(() => {
    void showCount(sites.count(current), (value) => {
      total = value;
      render();
    });
  }, 100);

  function listen(): void {
    stop();
    stop = sites.subscribe({ ...current, limit }, (next) => {
      rows = next;
      render();
      recount();
    });
  }

  /** As typed, or, where nothing begins like that, with capitals. */
  async function query(): Promise<void> {
    const typed = search.value.trim();
    limit = PAGE;
    await askQuery(pick(typed, country.value), (next) => {
      current = next;
      listen();
    });
  }

  async function pick(typed: string, code: string): Promise<FindQuery> {
    const literal = queryFor(typed, code);
    const guess = capitalised(typed);
    if (guess === typed || (await sites.count(literal)) > 0) return literal;
    return queryFor(guess, code);
  }

  function showMore(): void {
    limit += PAGE;
    listen();
  }

  let listedFor = -1;
  /** The countries that occur, once the pull has come to rest. */
  const listCountries = coalesce(() => {
    const status = db.status.collections["sites"];
    if (!status || status.loading || status.count === listedFor) return;
    listedFor = status.count;
    void sites.all().then((all) => {
      const codes = [...new Set(all.map((site) => site.country))];
      const named = codes.map((code) => ({ code, name: countryName(code) }));
      named.sort((one, other) => one.name.localeCompare(other.name));
      const chosen = country.value;
      country.replaceChildren(h("option", { value: "" }, "All countries"));
      country.append(...named.map(({ code, name }) => h("option", { value: code }, name)));
      country.value = chosen;
    });
  }, 400);

  listen();
  return {
    element: h(
      "section",
      { class: "site-list", "aria-label": `Sites on ${device.name}` },
      h(
        "div",
        { class: "finder" },
        h("label", { class: "sr-only", for: searchId }, "Search by name"),
        h("div", { class: "search" }, icon("search"), search),
        h("label", { class: "sr-only", for: countryId }, "Country"),
        country,
      ),
      shown,
      h("div", { class: "scroll", tabindex: -1 }, list, empty, more),
    ),
    refresh() {
      render();
      listCountries();
    },
    select(id) {
      selected = id;
      render();
    },
    focus() {
      const at = list.querySelector<HTMLElement>("[aria-current]") ?? search;
      at.focus();
    },
  };
}
