// The kinds of rounds: what goes on at the moment of the kill.
import { sleep, within } from "../../e2e/lib/within.mjs";

/** How it writes (see plan.mjs), how often it comes, and what the kill falls into. */
export const KINDS = {
  writing: { style: "mixed", weight: 30, what: "in the middle of writes" },
  syncing: { style: "slow", weight: 25, what: "in the middle of pushes and pulls" },
  quiet: { style: "mixed", weight: 10, what: "200 ms or more after the last write" },
  compaction: { style: "small", weight: 15, what: "up to 1 s after a burst of small commits" },
  start: { style: "blind", weight: 12, what: "while a store opens, or right after" },
  migration: { style: "mixed", weight: 8, what: "while a new schema version is opened" },
};

/**
 * How much more often a kind comes where files are damaged: with and without a pause before the kill
 * alike; and kills of a store that has just taken its copy in, and has synced nothing of it.
 */
const IF_WIPED = { quiet: 6, start: 4 };
const NOTE_LIMIT_MS = 5_000;
const STOP_LIMIT_MS = 15_000;

/** Round → kind: each once, then by weight. */
export function order(kinds, dice, wipe) {
  const names = Object.keys(kinds);
  for (let i = names.length - 1; i > 0; i -= 1) {
    const j = dice.int(0, i);
    [names[i], names[j]] = [names[j], names[i]];
  }
  const weight = (name) => kinds[name].weight * (wipe ? (IF_WIPED[name] ?? 1) : 1);
  const sum = names.reduce((total, name) => total + weight(name), 0);
  return (index) => {
    if (index < names.length) return names[index];
    let roll = dice.next() * sum;
    return names.find((name) => (roll -= weight(name)) < 0) ?? names[0];
  };
}

/** Lets the pages write and returns at the moment of the kill. */
export async function lead(round) {
  const { kind, dice, names, session, online } = round;
  if (kind === "start") return leadStart(round);
  const writing = kind === "migration" ? names.filter((name) => name !== "landfall") : names;
  const all = (work) => Promise.all(writing.map(work));
  const began = all((name) => round.noted(name, "writing"));
  if (kind === "migration") beginMigrated(round);
  await all((name) => session.call(name, "begin", online));
  await within(NOTE_LIMIT_MS, "the first writes", began);
  if (kind === "migration") return sleep(dice.int(0, 300));
  if (kind === "writing") return leadWriting(round);
  if (kind === "syncing") return sleep(dice.int(100, 1_500));
  await sleep(kind === "quiet" ? dice.int(100, 500) : dice.int(300, 900));
  await within(
    STOP_LIMIT_MS,
    "the last writes",
    all((name) => session.call(name, "stop")),
  );
  return sleep(kind === "quiet" ? dice.int(200, 500) : dice.int(0, 1_000));
}

/**
 * At any time; or at once when an acknowledgement has come out, which is when a store that had
 * spoken too early would be caught; or while a bulk is under way.
 */
async function leadWriting({ dice, names, noted, tell }) {
  const aim = dice.pick(["time", "ack", "ack", "bulk", "bulk"]);
  const at = dice.chance(0.6) ? names[0] : dice.pick(names);
  tell(aim === "time" ? { aim } : { aim, at });
  await sleep(dice.int(20, aim === "time" ? 900 : 500));
  if (aim === "time") return;
  // Where the plan has come to its end there is nothing to wait for.
  await within(NOTE_LIMIT_MS, aim, noted(at, aim)).catch(() => {});
  if (aim === "bulk") await sleep(dice.int(0, 15));
}

/** The kill comes while this runs or, with luck, after. */
async function beginMigrated({ session, openOptions, online, failed, tell }) {
  try {
    await session.call("landfall", "migrate", openOptions("landfall"));
    tell({ migrated: true });
    await session.call("landfall", "begin", online);
  } catch (error) {
    failed("landfall", error);
  }
}

async function leadStart({ dice, names, session, online, openOptions, noted, failed, tell }) {
  const from = dice.pick(["load", "marker", "open"]);
  tell({ from });
  const seen = noted("landfall", from);
  for (const name of names) {
    session.load(name, { open: openOptions(name), online }).catch((error) => failed(name, error));
  }
  if (from !== "load") {
    // A store that cannot be opened never says so; the check after the kill will.
    await within(NOTE_LIMIT_MS, from, seen).catch(() => {});
  }
  await sleep(dice.int(0, 300));
}
