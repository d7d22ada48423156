/** The form for a new assessment and for an old one that is edited. */
import { h, setText, uniqueId } from "../dom.ts";
import type { Assessment } from "../model.ts";
import { errorWords } from "../words.ts";

export type Draft = Pick<Assessment, "title" | "score" | "notes">;

const scoreWords = ["very poor", "poor", "fair", "good", "very good"];

export function scoreWord(score: number): string {
  return scoreWords[score - 1] ?? "";
}

export function createAssessmentForm(
  draft: Draft,
  button: string,
  onSave: (draft: Draft) => Promise<void>,
  onCancel: () => void,
): { element: HTMLFormElement; focus(): void } {
  const titleId = uniqueId("title");
  const notesId = uniqueId("notes");
  const group = uniqueId("score");
  const title = h("input", {
    id: titleId,
    name: "title",
    type: "text",
    required: true,
    maxlength: 120,
    autocomplete: "off",
  });
  title.value = draft.title;
  const notes = h("textarea", { id: notesId, name: "notes", rows: 2 });
  notes.value = draft.notes;
  const scores = [1, 2, 3, 4, 5].map((score) => {
    const id = `${group}-${score}`;
    const input = h("input", { id, type: "radio", name: group, value: score, required: true });
    input.checked = score === draft.score;
    const word = h("span", { class: "sr-only" }, `, ${scoreWord(score)}`);
    return { input, elements: [input, h("label", { for: id }, score, word)] };
  });
  const fault = h("p", { class: "form-note bad", role: "alert" });
  const save = h("button", { type: "submit", class: "primary" }, button);
  const element = h(
    "form",
    { class: "assessment-form", onsubmit: submit },
    h("div", { class: "field" }, h("label", { for: titleId }, "Title"), title),
    h(
      "fieldset",
      { class: "field" },
      h("legend", {}, "Score, 1 very poor to 5 very good"),
      h("div", { class: "segments" }, ...scores.flatMap((score) => score.elements)),
    ),
    h("div", { class: "field" }, h("label", { for: notesId }, "Notes"), notes),
    h(
      "div",
      { class: "actions" },
      save,
      h("button", { type: "button", class: "quiet", onclick: onCancel }, "Cancel"),
      fault,
    ),
  );

  async function submit(event: Event): Promise<void> {
    event.preventDefault();
    const chosen = scores.find((score) => score.input.checked)?.input.value;
    save.disabled = true;
    try {
      await onSave({
        title: title.value.trim(),
        score: Number(chosen ?? draft.score),
        notes: notes.value,
      });
    } catch (error) {
      const words = errorWords(error);
      setText(fault, `${words.message} ${words.hint}`);
      save.disabled = false;
    }
  }

  return { element, focus: () => title.focus() };
}
