/** The outbox of a device: what is not on the server yet, and why. */
import type { OutboxEntry } from "landfall";
import type { Device } from "../device.ts";
import { coalesce, h, KeyedList, latest, setText, type View } from "../dom.ts";
import { contours } from "../icons.ts";
import { actionWords, attemptWords, count, counted, errorWords, mutationStates } from "../words.ts";
import { chip, sayOn } from "./chip.ts";

/** More than this nobody reads; the counts tell the rest. */
const SHOWN_MAX = 50;

interface Item {
  entry: OutboxEntry;
  what: string;
}

export interface Queue {
  readonly element: HTMLElement;
  refresh(): void;
}

export function createQueue(device: Device): Queue {
  const { db, sites, assessments } = device;
  const summary = h("p", { class: "list-count" });
  const retryAll = h("button", { type: "button", hidden: true, onclick: retryEvery }, "Retry all");
  const list = h("ul", { class: "cards" });
  const empty = h(
    "div",
    { class: "empty" },
    contours(),
    h("p", {}, "Nothing waits. Every change made on this device is on the server."),
  );
  const fault = h("p", { class: "form-note bad", role: "alert" });
  const keyed = new KeyedList<Item>(list, (item) => item.entry.id, row);
  const show = latest();

  async function name(entry: OutboxEntry): Promise<string> {
    if (entry.collection === "sites") {
      return (await sites.get(entry.key))?.name ?? entry.key;
    }
    const assessment = await assessments.get(entry.key);
    if (!assessment) return entry.key;
    const site = await sites.get(assessment.siteId);
    return site ? `${assessment.title}, ${site.name}` : assessment.title;
  }

  async function read(): Promise<{ items: Item[]; total: number; failed: number }> {
    const [stats, parked, first] = await Promise.all([
      db.outbox.stats(),
      db.outbox.list({ state: "failed", limit: SHOWN_MAX }),
      db.outbox.list({ limit: SHOWN_MAX }),
    ]);
    // What needs a decision comes first.
    const entries = [...parked, ...first.filter((entry) => entry.state !== "failed")];
    const items = await Promise.all(
      entries.slice(0, SHOWN_MAX).map(async (entry) => ({ entry, what: await name(entry) })),
    );
    return { items, total: stats.total, failed: stats.failed };
  }

  const refresh = coalesce(() => {
    void show(read(), ({ items, total, failed }) => {
      keyed.update(items);
      empty.hidden = total > 0;
      list.hidden = total === 0;
      summary.hidden = total === 0;
      setText(
        summary,
        items.length < total
          ? `The first ${count(items.length)} of ${counted(total, "change")}`
          : counted(total, "change"),
      );
      retryAll.hidden = failed < 2;
    }).catch(report);
  }, 80);

  function report(error: unknown): void {
    const words = errorWords(error);
    setText(fault, `${words.message} ${words.hint}`);
  }

  async function act(work: Promise<unknown>): Promise<void> {
    setText(fault, "");
    try {
      await work;
    } catch (error) {
      report(error);
    }
    refresh();
  }

  function retryEvery(): void {
    void act(db.outbox.retryAll());
  }

  function row({ entry: { id } }: Item): View<Item> {
    const action = h("span", { class: "item-action" });
    const what = h("span", { class: "card-title" });
    const state = chip();
    const detail = h("p", { class: "card-made" });
    const error = h("p", { class: "item-error", hidden: true });
    const retry = h("button", { type: "button", onclick: () => void act(db.outbox.retry(id)) });
    setText(retry, "Retry");
    const discard = h("button", {
      type: "button",
      class: "quiet",
      title: discardHelp,
      onclick: () => askedTwice(discard) && void act(db.outbox.discard(id)),
      onblur: () => disarm(discard),
    });
    disarm(discard);
    const buttons = h("div", { class: "actions", hidden: true }, retry, discard);
    return {
      element: h(
        "li",
        { class: "card item", "data-mutation": id },
        h("div", { class: "card-head" }, h("span", { class: "item-what" }, action, what), state),
        detail,
        error,
        buttons,
      ),
      update({ entry, what: text }) {
        setText(action, actionWords(entry));
        setText(what, text);
        sayOn(state, mutationStates[entry.state]);
        setText(detail, attemptWords(entry));
        error.hidden = entry.error === null;
        setText(error, entry.error?.message ?? "");
        buttons.hidden = entry.state !== "failed";
      },
    };
  }

  return {
    element: h(
      "div",
      { class: "panel-body" },
      h("div", { class: "panel-head" }, summary, retryAll),
      fault,
      list,
      empty,
    ),
    refresh,
  };
}

/** What cannot be taken back needs a second click, and looks like it. */
function askedTwice(button: HTMLElement): boolean {
  if (button.className === "danger") return true;
  button.className = "danger";
  setText(button, "Discard for good?");
  return false;
}

function disarm(button: HTMLElement): void {
  button.className = "quiet";
  setText(button, "Discard");
}

const discardHelp = "Gives this change up and puts the record back to what the server has";
