// Databases as earlier versions have left them (tests/golden): each is opened, read whole, written to
// and read again.
import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import { restore } from "../../golden/stores.mjs";

const folder = new URL("../../golden/", import.meta.url);
const files = (await readdir(folder)).filter((file) => file.endsWith(".json"));

const read = () => {
  const inShort = ({ collection, key, action, state }) => ({ collection, key, action, state });
  return Promise.all([
    window.lab.sites.all(),
    window.lab.assessments.all(),
    window.db.outbox.list().then((list) => list.map(inShort)),
    window.db.conflicts.list().then((list) => list.length),
  ]).then(([sites, assessments, outbox, conflicts]) => ({ sites, assessments, outbox, conflicts }));
};

const opened = (file) => async (rig) => {
  const { version, expected, stores } = JSON.parse(await readFile(new URL(file, folder), "utf8"));
  const page = await rig.tab();
  await page.evaluate(restore, [`landfall:lab:${rig.user}`, version, stores]);
  const again = async () => {
    await rig.open(page, { autoStart: false });
    const seen = await page.evaluate(read);
    const counts = await page.evaluate(() => window.db.status.outbox);
    assert.equal(counts.pending + counts.conflict + counts.failed, seen.outbox.length);
    return seen;
  };
  assert.deepEqual(await again(), expected);
  const index = () => window.lab.assessments.find({ index: "siteId", equals: "s1" });
  assert.equal((await page.evaluate(index)).length, 3);
  // What is written goes on top, in today's format; the numbers of mutations go on.
  await page.evaluate(() => window.lab.sites.put({ id: "new", name: "Today" }));
  const numbers = () =>
    window.db.outbox.list().then((list) => list.map(({ id }) => Number(id.split(".").at(-1))));
  const all = await page.evaluate(numbers);
  assert.equal(new Set(all).size, all.length);
  assert.equal(Math.max(...all), all.at(-1));
  await page.evaluate(() => window.db.close());
  const seen = await again();
  assert.equal(seen.sites.length, expected.sites.length + 1);
  assert.equal(seen.outbox.length, expected.outbox.length + 1);
  // Compacted, it is still the same.
  await page.evaluate(() => window.db.compact());
  await page.evaluate(() => window.db.close());
  assert.deepEqual(await again(), seen);
};

export const golden = files.map((file) => ({
  name: `golden database ${file}: opened, read whole, written to, compacted`,
  run: opened(file),
}));
