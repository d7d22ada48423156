// A browser compiles what it runs when it first comes to it, which makes the first writes to a new
// database three times as slow as those after them. While the browser makes that database, the page has
// little to do: it writes to nowhere what could be written there.

import { WriteQueue } from "./queue.js";
import { PUT } from "./write.js";

/** As many as are kept as a run. */
const RECORDS = 20;

/** Resolves when it is over; nothing depends on it. */
export async function rehearse(Core, options) {
  let core;
  try {
    core = await Core.rehearsal(options);
    const [[name, { key }]] = Object.entries(options.collections);
    const texts = Array.from({ length: RECORDS }, (_, at) => JSON.stringify({ [key]: `${at}` }));
    const queue = new WriteQueue(core);
    await Promise.all(
      texts.map(
        (text, at) =>
          new Promise((resolve, reject) =>
            queue.add(name, PUT, `${at}`, text, undefined, { resolve, reject }),
          ),
      ),
    );
    await new Promise((done) =>
      core.write(name, PUT, texts, undefined, done, texts.map((_, at) => `${at}\0`).join("")),
    );
  } catch {
    // What is wrong shows where it matters.
  }
  core?.close(() => core.free());
}
