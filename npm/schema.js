// Records are checked by a schema of the app's own before they are stored. Any library with the
// Standard Schema interface will do (https://standardschema.dev): `schema["~standard"].validate`.

import { fail } from "./errors.js";
import { within } from "./limit.js";
import { copyRecord, equal, patched } from "./record.js";

let asking = false;

/** Whether it is a schema that asks just now: what it reads must not wait for what it is to check. */
export const isChecking = () => asking;

/** What the schema makes of a record, or an error that names the path. */
export async function checkRecord(schema, record) {
  let result;
  asking = true;
  try {
    result = schema["~standard"].validate(record);
  } finally {
    asking = false;
  }
  // Mostly there is nothing to wait for.
  if (typeof result?.then === "function") result = await within(Promise.resolve(result), late);
  if (result?.issues) throw refused(result.issues);
  return copyRecord(result?.value);
}

const late = () => refused([{ message: "the schema did not answer in time" }]);

function refused(issues) {
  const [first] = issues;
  const path = (first?.path ?? []).map((part) =>
    typeof part === "object" && part !== null ? part.key : part,
  );
  const at = path.map(String).join(".");
  const error = fail("invalid-record", `${at || "the record"}: ${first?.message ?? "is refused"}`);
  error.path = path;
  return error;
}

/**
 * An update that leaves a record as the schema makes it: the core's `[key, patch, fields]`, and the
 * record. Without a record there is nothing to check, and the core says so.
 */
export async function updated(schema, record, key, patch, names) {
  if (record === undefined) return { write: [key, patch, names], record };
  const checked = await checkRecord(schema, copyRecord(patched(record, patch, names)));
  const fields = new Set(names);
  for (const name of Object.keys({ ...record, ...checked })) {
    if (!equal(record[name], checked[name])) fields.add(name);
  }
  return { write: [key, checked, [...fields]], record: checked };
}
