import assert from "node:assert/strict";
import test from "node:test";
import { backupOf, checkBackup, takeInAll } from "../../npm/backup.js";
import { needSynced, storedCounts } from "../../npm/backup.js";
import { checkWriteOptions } from "../../npm/write.js";

const manager = { name: "app", user: "u" };
const backup = { landfall: 1, name: "app", user: "u", client: "c", mutations: [] };

test("a backup of this app and user is taken as a copy", () => {
  const mutation = { number: 1, record: { id: "a" } };
  const copy = checkBackup(manager, { ...backup, mutations: [mutation] });
  assert.deepEqual(copy.mutations, [mutation]);
  assert.notEqual(copy.mutations[0].record, mutation.record);
});

test("anything else is refused, and the message says why", () => {
  const loop = { ...backup };
  loop.mutations = [loop];
  const wrong = [
    [undefined, "object"],
    ["{}", "object"],
    [[], "object"],
    [{}, "not a backup"],
    [{ ...backup, landfall: 2 }, "newer"],
    [{ ...backup, name: "other" }, '"other"'],
    [{ ...backup, user: "v" }, "another user"],
    [{ ...backup, client: "" }, "client"],
    // With a number behind it, an id that could not be read again.
    [{ ...backup, client: "c".repeat(101) }, "client"],
    [{ ...backup, client: "c\0" }, "client"],
    [{ ...backup, client: "\ud83d" }, "client"],
    [{ ...backup, client: ["c"] }, "client"],
    [{ ...backup, mutations: {} }, "mutations"],
    [{ ...backup, others: {} }, "others"],
    [{ ...backup, others: [null] }, "client"],
    [{ ...backup, others: [{ client: "d" }] }, "mutations"],
    [loop, "plain data"],
    [{ ...backup, extra: 1n }, "plain data"],
  ];
  for (const [value, part] of wrong) {
    assert.throws(
      () => checkBackup(manager, value),
      (error) => {
        assert.equal(error.code, "invalid-options");
        assert.ok(error.message.includes(part), `${part}: ${error.message}`);
        return true;
      },
    );
  }
});

test("signing out counts everything that is not synced", () => {
  const none = { pending: 0, syncing: 0, conflict: 0, failed: 0 };
  needSynced(none);
  assert.throws(() => needSynced(none, 2), { code: "unsynced", message: /^2 .*rescue copy/ });
  for (const field of ["pending", "syncing", "conflict", "failed"]) {
    const outbox = { ...none, [field]: 3 };
    assert.throws(() => needSynced(outbox), { code: "unsynced", message: /^3 changes/ });
  }
});

test("a closed database is counted by its newest entry, and one that is gone has nothing", async () => {
  const counts = (found) => storedCounts("db", async () => ({ db: { close() {} }, ...found }));
  const [log, base] = [{ pending: 2 }, { pending: 1 }].map((summary) => ({ summary }));
  assert.deepEqual(await counts({ newest: log, base }), log.summary);
  assert.deepEqual(await counts({ newest: null, base }), base.summary);
  const none = { pending: 0, conflict: 0, failed: 0 };
  assert.deepEqual(await counts({ newest: null, base: undefined }), none);
  assert.deepEqual(await counts({ db: undefined, failed: "missing" }), none);
  for (const found of [{ db: undefined, failed: "blocked" }, { lost: true }]) {
    await assert.rejects(counts(found), { code: "database-blocked" });
  }
  const damaged = { newest: { key: 7, summary: undefined }, base };
  await assert.rejects(counts(damaged), { code: "database-damaged" });
});

test("write options are checked by name and type", () => {
  assert.equal(checkWriteOptions(undefined), undefined);
  const given = { optimistic: false };
  assert.deepEqual(checkWriteOptions(given), { localOnly: undefined, optimistic: false });
  const wrong = [null, [], 7, { local: true }, { localOnly: 1 }];
  wrong.push({ localOnly: true, optimistic: false });
  for (const options of wrong) {
    assert.throws(() => checkWriteOptions(options), { code: "invalid-options" });
  }
});

test("a backup has what the rescue copy alone has, and says what could not be read", () => {
  const [first, second] = [{ number: 1 }, { number: 2, origin: "old.7" }];
  const core = {
    unsynced: () => ({ client: "c", mutations: [first, second], version: 1 }),
    outboxList: () => ["c.1", "old.7", "c.3"].map((id) => ({ id, collection: "sites", key: id })),
  };
  const others = [{ client: "old", mutations: [{ number: 5 }] }];
  const { unread, ...rest } = backupOf(manager, core, { value: others });
  assert.deepEqual([rest.mutations, rest.others], [[first, second], others]);
  const message = "the stored record is damaged";
  assert.deepEqual(unread, [{ id: "c.3", collection: "sites", key: "c.3", message }]);
  const reason = new Error("the rescue copy could not be read");
  const without = backupOf(manager, core, { reason });
  assert.deepEqual(without.unread[1], { message: reason.message });
  assert.ok(!("others" in without));
});

test("what a backup has of databases before is taken over after the rest, and what is left is told", async () => {
  const taken = [];
  let why = null;
  const core = {
    import(client, mutations, late, done) {
      taken.push([client, mutations.length, late]);
      done(null, mutations.length, late ? [why] : undefined);
    },
  };
  const manager = { name: "app", user: "u", accept() {}, now: (use) => use(core) };
  const others = [{ client: "old", mutations: [{ number: 5 }] }];
  const both = { ...backup, mutations: [{ number: 1 }, { number: 2 }], others };
  assert.equal(await takeInAll(manager, both), 3);
  assert.deepEqual(taken, [
    ["c", 2, false],
    ["old", 1, true],
  ]);
  why = { code: "invalid-options", message: "the record has unsynced changes here" };
  await assert.rejects(takeInAll(manager, both), why);
});
