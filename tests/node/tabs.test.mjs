import assert from "node:assert/strict";
import test from "node:test";
import { Presence, Tabs } from "../../npm/tabs.js";

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

test("a tab that comes while the others are asked to close is asked as well", async () => {
  const kinds = [];
  const other = new BroadcastChannel("tabs-test");
  const next = () => new Promise((resolve) => (other.onmessage = ({ data }) => resolve(data.kind)));
  let over;
  const presence = { whenAlone: () => new Promise((resolve) => (over = resolve)) };
  const on = { lead() {}, asked() {} };
  const tabs = new Tabs("tabs-test", presence, on);
  try {
    const alone = tabs.alone(1_000, () => {});
    while (kinds.at(-1) !== "leave") kinds.push(await next());
    // It was opening, and has heard nothing.
    other.postMessage({ kind: "hello" });
    kinds.length = 0;
    while (kinds.at(-1) !== "leave") kinds.push(await next());
    over(true);
    assert.equal(await alone, true);
    other.postMessage({ kind: "hello" });
    other.postMessage({ kind: "request", what: "end" });
    await new Promise((resolve) => (on.request = resolve));
    other.onmessage = ({ data }) => assert.notEqual(data.kind, "leave");
    await new Promise((resolve) => setTimeout(resolve, 20));
  } finally {
    tabs.close();
    other.close();
  }
});
