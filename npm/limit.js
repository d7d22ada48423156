// Limits to how long something may take. They count in steps while the page is awake: a device that slept
// for an hour does not wake up to work that has all taken too long. (As glue.js counts for the database.)

const STEP_MS = 1_000;
const STEPS = 30;

/** What becomes of `promise`; rejects with what `late()` answers where 30 s have not been enough. */
export function within(promise, late) {
  return new Promise((resolve, reject) => {
    let steps = 0;
    let timer;
    const step = () => {
      // The first one is a part of one.
      if (steps++ > STEPS) reject(late());
      else timer = setTimeout(step, STEP_MS);
    };
    const end = (settle) => (value) => {
      clearTimeout(timer);
      settle(value);
    };
    step();
    promise.then(end(resolve), end(reject));
  });
}
