// Ratios of two contenders, paired by repetition, with a bootstrap interval.
import { chance } from "./driver.mjs";
import { median } from "./report.mjs";

const DRAWS = 2000;

/** ms per item by repetition; a cold open is taken as it is. */
function costs(runs, contender, workload) {
  const mine = runs.filter((r) => r.contender === contender && r.workload === workload && !r.error);
  return new Map(mine.map((r) => [r.rep, workload === "W7" ? r.ms : r.ms / r.n]));
}

/** `{ pairs, ratio, low, high }` of a / b, 95 %; undefined where no repetition has both. */
export function pairedRatio(runs, a, b, workload) {
  const [xs, ys] = [costs(runs, a, workload), costs(runs, b, workload)];
  const ratios = [...xs].filter(([rep]) => ys.has(rep)).map(([rep, x]) => x / ys.get(rep));
  if (!ratios.length) return undefined;
  // From a seed, so that the same report always gives the same text.
  const random = chance(ratios.length);
  const draw = () => median(ratios.map(() => ratios[Math.floor(random() * ratios.length)]));
  const draws = Array.from({ length: DRAWS }, draw).sort((p, q) => p - q);
  const [low, high] = [draws[DRAWS * 0.025], draws[DRAWS * 0.975 - 1]];
  return { pairs: ratios.length, ratio: median(ratios), low, high };
}
