// What the drivers share: pages with a limit, and chance from a seed.

/**
 * Runs one function in a page of its own; the page is dropped afterwards, store open or not.
 * `after(page)`, if given, is called while the page is still there; its answer is added.
 */
export async function inPage(browser, origin, fn, opts, timeoutS, after) {
  let page;
  let timer;
  try {
    page = await browser.open(origin + "/page/index.html");
    const run = async () => {
      const result = await page.evaluate((f, o) => window[f](o), fn, opts);
      return after ? { ...result, ...(await after(page)) } : result;
    };
    return await Promise.race([
      run(),
      new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`timeout ${timeoutS} s`)), timeoutS * 1000);
      }),
    ]);
  } catch (err) {
    throw new Error(`${fn}: ${String(err.message ?? err).replace(/^Error: /, "")}`);
  } finally {
    clearTimeout(timer);
    await page?.close().catch(() => {});
  }
}

/** The number that an option gives, if it is whole and above 0. */
export function whole(text) {
  const n = Number(text);
  return Number.isInteger(n) && n > 0 ? n : undefined;
}

export function shuffle(list, random) {
  const a = [...list];
  for (let i = a.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [a[i], a[j]] = [a[j], a[i]];
  }
  return a;
}

/** Numbers in [0, 1) from a seed (mulberry32). */
export function chance(a) {
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
