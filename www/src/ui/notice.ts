/** The last error of a device, in words, with what to do and the button that does it. */
import type { StatusError } from "landfall";
import { h, setText } from "../dom.ts";
import { icon } from "../icons.ts";
import { errorWords, time, type Tone } from "../words.ts";
import type { Device } from "../device.ts";

export interface Notice {
  readonly element: HTMLElement;
  /** From the status, at each change. */
  update(error: StatusError | null): void;
  /** For what a button of the page ran into. */
  report(error: unknown): void;
}

export function createNotice(device: Device): Notice {
  const message = h("p", { class: "notice-message" });
  const hint = h("p", { class: "notice-hint" });
  const act = h("button", { type: "button", onclick: retry }, "Try again");
  const dismiss = h("button", { type: "button", class: "quiet", onclick: hide }, "Hide");
  const element = h(
    "div",
    { class: "notice", role: "status", hidden: true },
    icon("alert"),
    h("div", { class: "notice-text" }, message, hint),
    h("div", { class: "actions" }, act, dismiss),
  );
  let shown: StatusError | null = null;
  let hidden: StatusError | null = null;

  function retry(): void {
    const { db } = device;
    if (db.status.phase === "needs-auth" || db.status.phase === "paused") db.resume();
    db.sync().catch(() => {
      // The status brings the reason back here.
    });
  }

  function hide(): void {
    hidden = shown;
    element.hidden = true;
  }

  function show(text: string, advice: string, retryable: boolean, tone: Tone): void {
    element.hidden = false;
    element.dataset["tone"] = tone;
    setText(message, text);
    setText(hint, advice);
    hint.hidden = advice === "";
    act.hidden = !retryable;
  }

  return {
    element,
    update(error) {
      if (error === shown) return;
      shown = error;
      // The same fault again, a retry later, is no news for someone who has hidden it.
      if (!error || (hidden && hidden.code === error.code && hidden.message === error.message)) {
        element.hidden = true;
        if (!error) hidden = null;
        return;
      }
      setText(act, error.code === "needs-auth" ? "Sign in again" : "Try again");
      element.title = `Since ${time(error.at)}`;
      // What mends itself is worth a word, not an alarm.
      show(error.message, error.hint, true, error.retryable ? "waiting" : "bad");
    },
    report(error) {
      const words = errorWords(error);
      element.title = "";
      show(words.message, words.hint, false, "bad");
    },
  };
}
