// Records of several replicas, compared field by field.

/** Text that is equal for equal values, whatever the order of the fields. */
export function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const fields = Object.keys(value).filter((name) => value[name] !== undefined);
    return `{${fields.sort().map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`)}}`;
  }
  return JSON.stringify(value) ?? "undefined";
}

/** `{ sites: […], assessments: […] }` → `"sites/42"` → record. Throws where a key comes twice. */
export function byName(collections) {
  const found = new Map();
  for (const [type, records] of Object.entries(collections)) {
    for (const record of records) {
      const name = `${type}/${record.id}`;
      if (found.has(name)) throw new Error(`${name} is there twice`);
      found.set(name, record);
    }
  }
  return found;
}

/** What the server holds, without what it has deleted. */
export function living(changes) {
  const found = new Map();
  for (const [name, change] of changes) if (!change.deleted) found.set(name, change.data);
  return found;
}

/** The differences of `actual` from `expected`, in words; empty where there are none. */
export function differences(expected, actual, where) {
  const found = [];
  for (const [name, record] of expected) {
    const other = actual.get(name);
    if (other === undefined) found.push(`${where}: ${name} is missing`);
    else {
      for (const field of new Set([...Object.keys(record), ...Object.keys(other)])) {
        const [wanted, is] = [canonical(record[field]), canonical(other[field])];
        if (wanted !== is) found.push(`${where}: ${name}.${field} is ${is}, not ${wanted}`);
      }
    }
  }
  for (const name of actual.keys()) {
    if (!expected.has(name)) found.push(`${where}: ${name} should not be there`);
  }
  return found;
}
