// Writes of single records that are made in one turn of the event loop cross into the core together:
// the crossing costs more than the rest of a small write. Each still succeeds or fails for itself.
// Updates of one record become one, as they would in the outbox; what could be refused for one of them
// alone (a patch of the key) does not come here.

import { toError } from "./errors.js";
import { UPDATE } from "./write.js";

export class WriteQueue {
  #core;
  /** Writes of one kind to one collection: `{ collection, kind, items, byKey }`. */
  #run = null;

  constructor(core) {
    this.#core = core;
  }

  /** `text` is a record or a patch, `names` are a patch's fields. */
  add(collection, kind, key, text, names, settle) {
    if (this.#run?.collection !== collection || this.#run.kind !== kind) {
      this.flush();
      this.#run = { collection, kind, items: [], byKey: new Map() };
      queueMicrotask(() => this.flush());
    }
    const { items, byKey } = this.#run;
    const part = { text, names, settle };
    const same = kind === UPDATE ? byKey.get(key) : undefined;
    if (same) {
      same.parts.push(part);
    } else {
      const item = { key, parts: [part] };
      items.push(item);
      if (kind === UPDATE) byKey.set(key, item);
    }
  }

  /** Before anything else that the core is asked, so that all keeps its order. */
  flush() {
    if (this.#run === null) return;
    const { collection, kind, items } = this.#run;
    this.#run = null;
    let keys = "";
    const texts = [];
    const shapes = new Map();
    const shapeOf = new Uint32Array(items.length);
    items.forEach(({ key, parts }, at) => {
      const { text, names } = parts.length > 1 ? united(parts) : parts[0];
      keys += key + "\0";
      texts.push(text);
      if (kind !== UPDATE) return;
      let shape = "";
      for (const name of names) shape += name + "\0";
      if (!shapes.has(shape)) shapes.set(shape, shapes.size);
      shapeOf[at] = shapes.get(shape);
    });
    const run = { keys, items: texts, shapes: [...shapes.keys()], shapeOf };
    const end = (errorAt) =>
      items.forEach(({ parts }, at) => {
        const error = errorAt(at);
        for (const { settle } of parts) {
          if (error) settle.reject(toError(error));
          else settle.resolve();
        }
      });
    try {
      this.#core.writeEach(collection, kind, run, (errors) => end((at) => errors?.[at]));
    } catch (error) {
      // Nobody called this turn's flush who could be told.
      end(() => error);
    }
  }
}

/** Patches of one record as one. */
function united(parts) {
  const patch = new Map();
  for (const { text, names } of parts) {
    const values = JSON.parse(text);
    for (const name of names)
      patch.set(name, Object.hasOwn(values, name) ? values[name] : undefined);
  }
  return { text: JSON.stringify(Object.fromEntries(patch)), names: [...patch.keys()] };
}
