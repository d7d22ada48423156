import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import test from "node:test";

const record = JSON.stringify(new URL("../../npm/record.js", import.meta.url).href);
const collection = JSON.stringify(new URL("../../npm/collection.js", import.meta.url).href);

/** What a module prints in a process of its own, where the mode is what the variable says. */
function print(mode, source) {
  const env = { ...process.env, NODE_ENV: mode };
  const ended = spawnSync(process.execPath, ["--input-type=module", "-e", source], { env });
  assert.equal(ended.status, 0, String(ended.stderr));
  return String(ended.stdout).trim();
}

const ASK = `
  const { Collection } = await import(${collection});
  const held = { a: { id: "a", tags: ["x"] }, b: { id: "b", tags: [] } };
  const core = {
    get: (_, key) => held[key],
    all: () => Object.values(held),
    find: () => [held.b, held.a],
  };
  const sites = new Collection("sites", { read: async (use) => use(core) }, "id", true, undefined);
  const frozen = (value) => Object.isFrozen(value) && Object.isFrozen(value.tags);
  const many = await sites.getMany(["a", "none"]);
  const [all, found] = [await sites.all(), await sites.find({})];
  found.sort((x, y) => (x.id < y.id ? -1 : 1)); // the list is the asker's own
  console.log(
    [await sites.get("a"), many[0], ...all, ...found].map(frozen).join() + " " + many[1],
  );
`;

test("during development the records that are handed out are frozen, lists are not", () => {
  for (const mode of ["development", "test", ""]) {
    assert.equal(print(mode, ASK), "true,true,true,true,true,true undefined", mode);
  }
});

test("in production they are shared as they are", () => {
  assert.equal(print("production", ASK), "false,false,false,false,false,false undefined");
});

test("what is not a record is handed out as it is, and without a bundler nothing is frozen", () => {
  const source = `
    const { log } = console;
    delete globalThis.process;
    const { shown } = await import(${record});
    log(Object.isFrozen(shown({})), shown(undefined), shown("text"));
  `;
  assert.equal(print("development", source), "false undefined text");
});
