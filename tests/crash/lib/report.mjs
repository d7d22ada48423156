// What a run says at its end.
import { TITLES } from "./subject.mjs";

/** Row → field of the totals; `null` where a peer cannot have it. */
const ROWS = [
  ["acknowledged writes", "acknowledged"],
  ["refused writes", "refused"],
  ["wiped", "wiped"],
  ["  the rescue copy as well", "bothWiped", "landfall"],
  ["  records not synced then", "unsynced"],
  ["restored", "restored"],
  ["lost", "lost"],
  ["within the rescue window", "inWindow", "landfall"],
  ["duplicated", "duplicated", "landfall"],
  ["torn", "torn"],
];

const FIRST_WIDTH = 26;
const WIDTH = 15;

export function summaryLine({ wiped, restored, lost, duplicated, torn }) {
  return `wiped ${wiped} · restored ${restored} · lost ${lost} · duplicated ${duplicated} · torn ${torn}`;
}

/** Rounds by kind: `{ kind: { rounds, medianMs } }`. */
function byKind(run) {
  const out = {};
  for (const { kind, killedAfterMs } of run.rounds) (out[kind] ??= []).push(killedAfterMs);
  for (const [kind, all] of Object.entries(out)) {
    all.sort((a, b) => a - b);
    out[kind] = { rounds: all.length, medianMs: all[Math.floor(all.length / 2)] };
  }
  return out;
}

/** Rounds that failed, and whether anything was tested at all. */
function verdict(run) {
  const failed = run.rounds.filter((round) => round.failed).length;
  const { acknowledged, lost, torn, duplicated } = run.subjects.get("landfall").totals;
  const bad = lost + torn + duplicated > 0 || acknowledged === 0;
  return { passed: run.rounds.length - failed, failed: Math.max(failed, bad ? 1 : 0) };
}

export function printReport(run, tookS) {
  const line = (cells) =>
    console.log(
      cells[0].padEnd(FIRST_WIDTH) +
        cells
          .slice(1)
          .map((c) => c.padStart(WIDTH))
          .join(""),
    );
  console.log("");
  for (const [kind, { rounds, medianMs }] of Object.entries(byKind(run))) {
    const { what } = run.kinds[kind];
    console.log(`${String(rounds).padStart(5)} killed ${what} (${kind}, median ${medianMs} ms)`);
  }
  if (run.skipped) console.log(`      ${run.skipped}`);
  const { flipped, removed, nothing } = run.damages;
  if (flipped + removed + nothing > 0) {
    console.log(`      damage done: ${flipped} flipped bytes, ${removed} folders removed`);
  }
  console.log("");
  const subjects = [...run.subjects.values()];
  line(["", ...subjects.map(({ name }) => TITLES[name])]);
  for (const [title, field, only] of ROWS) {
    line([
      title,
      ...subjects.map(({ name, totals }) => (!only || only === name ? String(totals[field]) : "–")),
    ]);
  }
  console.log("");
  for (const { name, refusals, totals } of subjects) {
    const codes = [...refusals].map(([code, times]) => `${code} ${times}`).join(", ");
    if (codes) console.log(`${TITLES[name]}, why refused: ${codes}`);
    if (totals.untold > 0) {
      console.log(`${TITLES[name]}: ${totals.untold} wipes of which status.recovered said nothing`);
    }
    if (totals.conflicts > 0) {
      console.log(
        `${TITLES[name]}: ${totals.conflicts} conflicts at the server (one device writes)`,
      );
    }
  }
  for (const [text, times] of run.errors) console.log(`${times} × ${text}`);
  const told = verdict(run);
  console.log(`${run.rounds.length} rounds in ${tookS} s`);
  console.log(`${told.passed} passed, ${told.failed} failed`);
  return told;
}

export function toJson(run, { seed, durability, wipe }, tookS) {
  const subjects = {};
  for (const [name, { totals, refusals }] of run.subjects) {
    subjects[name] = { ...totals, refusals: Object.fromEntries(refusals) };
  }
  return {
    seed,
    durability,
    wipe,
    seconds: tookS,
    skipped: run.skipped,
    kinds: byKind(run),
    damages: run.damages,
    subjects,
    errors: Object.fromEntries(run.errors),
    rounds: run.rounds,
  };
}
