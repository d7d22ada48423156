/** A small label with a colour and a word. */
import type { RecordState } from "landfall";
import { h, setAttribute, setText } from "../dom.ts";
import { recordStates, type Said } from "../words.ts";

export function chip(extra = ""): HTMLElement {
  return h("span", { class: `chip ${extra}`.trim() });
}

export function sayOn(element: HTMLElement, said: Said): void {
  setText(element, said.text);
  setAttribute(element, "data-tone", said.tone);
}

/** Shows the state of a record; hidden where there is none, or where it is not worth a word. */
export function showState(
  element: HTMLElement,
  state: RecordState | undefined,
  { quietWhenSynced = false } = {},
): void {
  const show = state !== undefined && !(quietWhenSynced && state === "synced");
  element.hidden = !show;
  if (show) sayOn(element, recordStates[state]);
}
