import assert from "node:assert/strict";
import test from "node:test";
import { LiveQueries } from "../../npm/live.js";

const turn = () => new Promise((resolve) => setImmediate(resolve));

test("what a callback does to its list changes nothing for the next comparison", async () => {
  const [a, b, c] = ["a", "b", "c"].map((id) => ({ id }));
  let stored = [a, b, c];
  const live = new LiveQueries((error) => assert.fail(error));
  const told = [];
  const cut = (rows) => {
    told.push(rows.map(({ id }) => id).join(""));
    // The first one on top, the others below.
    rows.shift();
  };
  live.addRows("sites", async () => [...stored], cut);
  await turn();
  // The same as what the callback has left of its list.
  stored = [b, c];
  live.touched(["sites"]);
  await turn();
  assert.deepEqual(told, ["abc", "bc"]);
  // And nothing is told where nothing has changed.
  live.touched(["sites"]);
  await turn();
  assert.deepEqual(told, ["abc", "bc"]);
});
