import assert from "node:assert/strict";
import test from "node:test";
import { checkBackup, needSynced, storedCounts } from "../../npm/backup.js";
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
