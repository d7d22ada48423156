/**
 * A little DOM, no framework. What people typed only ever becomes a text node or a form value;
 * nothing here parses HTML.
 */

export type Child = Node | string | number | null | undefined | false;
export type Prop = string | number | boolean | undefined | ((event: never) => void);

/** `h("button", { class: "quiet", onclick: save }, "Save")` */
export function h<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  props: Record<string, Prop> = {},
  ...children: Child[]
): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (typeof value === "function") {
      element.addEventListener(name.slice(2), value as EventListener);
    } else if (typeof value === "boolean") {
      element.toggleAttribute(name, value);
    } else if (value !== undefined) {
      element.setAttribute(name, String(value));
    }
  }
  append(element, children);
  return element;
}

export function append(parent: Element, children: Child[]): void {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    parent.append(child instanceof Node ? child : String(child));
  }
}

/** Sets the text only where it differs, so that live regions speak only when there is news. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element: Element, name: string, value: string | null): void {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** A part of the page that shows one item and can be told about a newer state of it. */
export interface View<Item> {
  readonly element: HTMLElement;
  update(item: Item): void;
}

/** Keeps `parent`'s children in step with `items`; what stays keeps its element and its focus. */
export class KeyedList<Item> {
  readonly #parent: Element;
  readonly #key: (item: Item) => string;
  readonly #make: (item: Item) => View<Item>;
  #views = new Map<string, View<Item>>();

  constructor(parent: Element, key: (item: Item) => string, make: (item: Item) => View<Item>) {
    this.#parent = parent;
    this.#key = key;
    this.#make = make;
  }

  update(items: readonly Item[]): void {
    const next = new Map<string, View<Item>>();
    for (const item of items) {
      const key = this.#key(item);
      const view = this.#views.get(key) ?? this.#make(item);
      view.update(item);
      next.set(key, view);
    }
    for (const [key, view] of this.#views) if (!next.has(key)) view.element.remove();
    let place = this.#parent.firstElementChild;
    for (const { element } of next.values()) {
      if (element === place) place = place.nextElementSibling;
      else this.#parent.insertBefore(element, place);
    }
    this.#views = next;
  }
}

/**
 * Many calls in a short time become one, soon after the first. Not an animation frame: those stop
 * in tabs that nobody sees, and a check may look at such a tab.
 */
export function coalesce(run: () => void, delayMs = 40): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  return () => {
    timer ??= setTimeout(() => {
      timer = undefined;
      run();
    }, delayMs);
  };
}

/** Only the newest of several overlapping reads gets to show its answer. */
export function latest(): <T>(work: Promise<T>, show: (value: T) => void) => Promise<void> {
  let turn = 0;
  return async (work, show) => {
    const mine = ++turn;
    const value = await work;
    if (mine === turn) show(value);
  };
}

let ids = 0;
/** An id for `for`, `aria-controls` and the like. */
export function uniqueId(stem: string): string {
  return `${stem}-${++ids}`;
}
