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

test("who waits to be alone does not wait for the lock that this tab takes again after a sweep", async () => {
  const [asked, presence] = [slowLocks(), new Presence("db")];
  const entered = presence.enter();
  asked[0].grant();
  await entered;
  const swept = presence.alone(() => {});
  await asked[0].over;
  await new Promise(setImmediate);
  asked[1].grant({});
  await asked[1].over;
  await new Promise(setImmediate);
  // It is asked for, and not given yet.
  const alone = presence.whenAlone(1_000, () => presence.end());
  await new Promise(setImmediate);
  asked[2].grant();
  await swept;
  await new Promise(setImmediate);
  assert.ok(asked[2].released);
  asked[3].grant();
  assert.equal(await alone, true);
});

test("what fails while nobody else is there is not taken for somebody who does not leave", async () => {
  const [asked, presence] = [slowLocks(), new Presence("db")];
  const silent = new DOMException("no answer in time", "TimeoutError");
  const alone = presence.whenAlone(1_000, () => {
    presence.end();
    throw silent;
  });
  await new Promise(setImmediate);
  asked[0].over.catch(() => {});
  asked[0].grant();
  await assert.rejects(alone, silent);
});

test("the locks of two users are never the same, whatever they are called", async () => {
  const asked = slowLocks();
  const users = ["ann", "ann:open", "ann:turn", "ann:lead", "ann:open:lead"];
  const of = (database) => {
    const from = asked.length;
    const presence = new Presence(database);
    presence.enter();
    const tabs = new Tabs(database, presence, { lead() {} });
    tabs.turn();
    tabs.close();
    return asked.slice(from).map(({ name }) => name);
  };
  const all = users.map((user) => of(`landfall:app:${user}`));
  assert.deepEqual(all[0], ["landfall:app:ann:open", "landfall:app:ann", "landfall:app:ann:turn"]);
  assert.equal(new Set(all.flat()).size, all.flat().length);
});

test("what the tab that syncs said before it was asked is no answer", async () => {
  const other = new BroadcastChannel("asking");
  let told = () => {};
  other.onmessage = ({ data }) => void (data.kind === "request" && told(data));
  const on = { lead() {}, asked() {}, status() {}, wrote() {} };
  const tabs = new Tabs("asking", null, on);
  const said = async (of, from = "leader") => {
    const got = new Promise((resolve) => (on.status = resolve));
    other.postMessage({ kind: "status", status: {}, from, of });
    await got;
  };
  const request = () => new Promise((resolve) => (told = resolve));
  try {
    await said();
    const asked = request();
    const paused = tabs.request("pause");
    const { what, of: first } = await asked;
    assert.equal(what, "pause");
    const number = tabs.request("sync");
    assert.ok(!tabs.isAnswered(paused));
    await said();
    await said({ ...first, tab: "another" });
    assert.ok(!tabs.isAnswered(paused));
    await said(first);
    assert.deepEqual([tabs.isAnswered(paused), tabs.isAnswered(number)], [true, false]);

    // Another one syncs now: it may not have led yet when it was asked.
    const again = request();
    await said(undefined, "next");
    assert.ok(!tabs.isAnswered(number));
    const { what: asksFor, of: last } = await again;
    assert.equal(asksFor, "sync");
    await said(last, "next");
    assert.ok(tabs.isAnswered(number));

    const older = tabs.request("sync");
    other.postMessage({ kind: "status", status: {} });
    await new Promise((resolve) => (on.status = resolve));
    assert.ok(tabs.isAnswered(older), "a build that does not say what it answers");
  } finally {
    tabs.close();
    other.close();
  }
});
