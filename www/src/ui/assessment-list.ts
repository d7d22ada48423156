/** The assessments of one site: make, edit, delete. */
import type { Device } from "../device.ts";
import { h, KeyedList, setText, type View } from "../dom.ts";
import { icon } from "../icons.ts";
import type { Assessment } from "../model.ts";
import { errorWords, time } from "../words.ts";
import { createAssessmentForm, scoreWord } from "./assessment-form.ts";
import { chip, showState } from "./chip.ts";

export interface AssessmentList {
  readonly element: HTMLElement;
  refresh(): void;
  close(): void;
}

export function createAssessmentList(device: Device, siteId: string): AssessmentList {
  const { assessments } = device;
  const heading = h("h4", {}, "Assessments");
  const add = h("button", { type: "button", onclick: openNew }, icon("plus"), "Add assessment");
  const formSlot = h("div", { class: "form-slot" });
  const list = h("ul", { class: "cards" });
  const none = h("p", { class: "empty-line", hidden: true });
  setText(none, "Nothing assessed here yet.");
  let rows: readonly Readonly<Assessment>[] = [];
  const keyed = new KeyedList<Readonly<Assessment>>(list, (item) => item.id, card);

  function openNew(): void {
    const form = createAssessmentForm(
      { title: "", score: 3, notes: "" },
      "Save assessment",
      async (draft) => {
        const id = crypto.randomUUID();
        await assessments.create({ id, siteId, ...draft, createdAt: Date.now() });
        closeNew();
      },
      closeNew,
    );
    formSlot.replaceChildren(form.element);
    add.hidden = true;
    form.focus();
  }

  function closeNew(): void {
    formSlot.replaceChildren();
    add.hidden = false;
    add.focus();
  }

  function card(first: Readonly<Assessment>): View<Readonly<Assessment>> {
    let item = first;
    const title = h("span", { class: "card-title" });
    const state = chip();
    const score = h("span", { class: "score" });
    const made = h("span", { class: "card-made" });
    const notes = h("p", { class: "card-notes" });
    const fault = h("p", { class: "form-note bad", role: "alert" });
    const edit = h("button", { type: "button", class: "quiet", onclick: openEdit }, "Edit");
    const remove = h("button", { type: "button", class: "quiet", onclick: ask }, "Delete");
    const buttons = h("div", { class: "actions" }, edit, remove);
    const sure = h(
      "div",
      { class: "actions sure", hidden: true },
      h("span", {}, "Delete this assessment?"),
      h("button", { type: "button", class: "danger", onclick: destroy }, "Delete it"),
      h("button", { type: "button", class: "quiet", onclick: keep }, "Keep it"),
    );
    const shown = h(
      "div",
      { class: "card-body" },
      h("div", { class: "card-head" }, title, state),
      h("div", { class: "card-facts" }, score, made),
      notes,
      buttons,
      sure,
      fault,
    );
    const element = h("li", { class: "card" }, shown);

    function openEdit(): void {
      const close = () => {
        element.replaceChildren(shown);
        edit.focus();
      };
      const form = createAssessmentForm(
        item,
        "Save changes",
        async (draft) => {
          const patch: Partial<Assessment> = {};
          if (draft.title !== item.title) patch.title = draft.title;
          if (draft.score !== item.score) patch.score = draft.score;
          if (draft.notes !== item.notes) patch.notes = draft.notes;
          if (Object.keys(patch).length > 0) await assessments.update(item.id, patch);
          close();
        },
        close,
      );
      element.replaceChildren(form.element);
      form.focus();
    }

    function ask(): void {
      buttons.hidden = true;
      sure.hidden = false;
      sure.querySelector("button")?.focus();
    }

    function keep(): void {
      buttons.hidden = false;
      sure.hidden = true;
      remove.focus();
    }

    async function destroy(): Promise<void> {
      try {
        await assessments.delete(item.id);
        add.focus();
      } catch (error) {
        const words = errorWords(error);
        setText(fault, `${words.message} ${words.hint}`);
      }
    }

    return {
      element,
      update(next) {
        item = next;
        setText(title, next.title);
        setText(score, `${next.score} of 5, ${scoreWord(next.score)}`);
        score.dataset["score"] = String(next.score);
        setText(made, time(next.createdAt));
        setText(notes, next.notes);
        notes.hidden = next.notes === "";
        showState(state, assessments.state(next.id));
      },
    };
  }

  function render(): void {
    const sorted = [...rows].sort((one, other) => other.createdAt - one.createdAt);
    keyed.update(sorted);
    setText(heading, sorted.length === 0 ? "Assessments" : `Assessments (${sorted.length})`);
    none.hidden = sorted.length > 0;
  }

  const stop = assessments.subscribe({ index: "siteId", equals: siteId }, (next) => {
    rows = next;
    render();
  });

  return {
    element: h(
      "section",
      { class: "assessments" },
      h("div", { class: "section-head" }, heading, add),
      formSlot,
      none,
      list,
    ),
    refresh: render,
    close: stop,
  };
}
