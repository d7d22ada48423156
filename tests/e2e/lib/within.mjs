// Nothing in these scripts waits without a limit, and what was waited for has a name.
import { setTimeout as sleep } from "node:timers/promises";

export { sleep };

/** Settles as `work` does, or rejects after `limitMs` with what it was that took so long. */
export async function within(limitMs, what, work) {
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not done after ${limitMs} ms`)), limitMs);
  });
  const run = typeof work === "function" ? work() : work;
  try {
    return await Promise.race([run, limit]);
  } finally {
    clearTimeout(timer);
    // A late failure of what nobody waits for any more is no news.
    Promise.resolve(run).catch(() => {});
  }
}

/** Asks again and again until `probe` answers something true; answers that. */
export async function eventually(what, probe, limitMs = 10_000, everyMs = 50) {
  const end = Date.now() + limitMs;
  let last;
  for (;;) {
    last = await within(limitMs, what, probe);
    if (last) return last;
    if (Date.now() > end) throw new Error(`${what}: still not so after ${limitMs} ms`);
    await sleep(everyMs);
  }
}
