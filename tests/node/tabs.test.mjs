import assert from "node:assert/strict";
import test from "node:test";
import { Presence } from "../../npm/tabs.js";

/** Locks that are granted by hand; `released` when who asked has let go. */
function slowLocks() {
  const asked = [];
  const request = (name, _options, work) => {
    const lock = { name, released: false };
    const granted = new Promise((resolve) => (lock.grant = resolve)).then(work);
    lock.over = granted.then(() => (lock.released = true));
    asked.push(lock);
    return granted;
  };
  const value = { locks: { request } };
  Object.defineProperty(globalThis, "navigator", { value, configurable: true });
  return asked;
}

test("a lock is kept until it is over", async () => {
  const [asked, presence] = [slowLocks(), new Presence("db")];
  const entered = presence.enter();
  asked[0].grant();
  await entered;
  await new Promise(setImmediate);
  assert.deepEqual([asked[0].name, asked[0].released], ["db:open", false]);
  presence.end();
  await asked[0].over;
});

test("a lock that comes when it is over already is given back", async () => {
  const [asked, presence] = [slowLocks(), new Presence("db")];
  const entered = presence.enter();
  presence.end();
  asked[0].grant();
  await entered;
  await new Promise(setImmediate);
  assert.ok(asked[0].released);
});
