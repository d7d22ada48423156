// Conflicts as the app settles them: by a function of its own or by hand; and changes to what is queued.

import { fail, toError } from "./errors.js";
import { checkFilter } from "./query.js";
import { copyRecord, recordText } from "./record.js";
import { checkRecord, updated } from "./schema.js";

/** Times that an edit is decided again because the record was changed meanwhile. */
const AGAIN_MAX = 10;

const call = (manager, use) =>
  new Promise((resolve, reject) => {
    manager.accept();
    manager.now((core) => use(core, (error) => (error ? reject(toError(error)) : resolve())));
  });

const checked = async (schema, record) => {
  const copy = copyRecord(record);
  return recordText(schema ? await checkRecord(schema, copy) : copy);
};

/** `db.conflicts`. */
export function conflictsOf(manager) {
  const list = async (filter) => {
    const { collection, limit } = checkFilter(filter, ["collection", "limit"]);
    const all = await manager.read((core) => core.conflicts());
    const chosen = all.filter((c) => collection === undefined || c.collection === collection);
    // Copies: what is chosen is often one side, changed in place. The store's own would be changed with it.
    return structuredClone(chosen.slice(0, limit));
  };
  const get = async (id) => {
    const all = await manager.read((core) => core.conflicts());
    return structuredClone(all.find((c) => c.id === id));
  };
  const resolve = async (id, choice) => {
    // A person may have changed the object that they look at before it is checked.
    const record = typeof choice === "object" && choice !== null;
    if (!record && choice !== "local" && choice !== "remote" && choice !== null) {
      throw fail("invalid-options", 'resolve: "local", "remote", a record, or null to delete it');
    }
    const given = record ? copyRecord(choice) : choice;
    const found = await get(String(id));
    const schema = manager.schemaOf(found?.collection);
    const text = record ? await checked(schema, given) : given;
    await call(manager, (core, done) => core.resolve(String(id), text, done));
  };
  const clear = () => call(manager, (core, done) => core.act("clearConflicts", "", done));
  return Object.freeze({ list, get, resolve, clear });
}

/** `db.outbox.edit`. */
export async function editQueued(manager, id, patch) {
  const [copy, names] = [copyRecord(patch), Object.keys(patch)];
  for (let again = 0; ; again++) {
    try {
      return await editOnce(manager, String(id), copy, names);
    } catch (error) {
      if (error?.code !== "write-contention" || again >= AGAIN_MAX) throw error;
    }
  }
}

async function editOnce(manager, id, patch, names) {
  const entry = await manager.read((core) => core.outboxEntry(id));
  const schema = manager.schemaOf(entry?.collection);
  if (!schema) {
    return call(manager, (core, done) => core.edit(id, patch, names, undefined, done));
  }
  const { collection, key } = entry;
  const record = await manager.read((core) => core.newest(collection, key));
  const { write } = await updated(schema, record, key, patch, names);
  return call(manager, (core, done) => core.edit(id, write[1], write[2], record, done));
}

/**
 * Asks the app's function: the text of the record that it answers, `null` for a deletion, or `"park"`.
 * What it throws or answers otherwise rejects with a sentence that says so.
 */
export async function decide(handler, schema, collection, key, [base, local, remote]) {
  const whose = `the conflict handler of "${collection}"`;
  let answer;
  try {
    answer = await handler({ base, local, remote, collection, key });
  } catch (error) {
    throw new Error(`${whose} threw: ${error?.message ?? error}`, { cause: error });
  }
  if (answer === null || answer === "park") return answer;
  try {
    return await checked(schema, answer);
  } catch (error) {
    const message = `${whose} answered neither a record, null nor "park": ${error.message}`;
    throw new Error(message, { cause: error });
  }
}
