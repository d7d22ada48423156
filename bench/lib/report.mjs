// JSON report -> Markdown tables.
const BASE = 'raw-idb';
const TITLES = {
  W1: 'sequential writes, ms per 1,000', W2: 'concurrent writes, ms per 1,000', W3: 'bulk create, ms', W4: 'point reads, ms per 2,000',
  W5: 'scan, ms', W6: 'update storm, ms per 5,000', W7: 'cold open to pending count, ms', W8: 'push, ms', W9: 'pull, ms',
};

export const median = (xs) => {
  const s = [...xs].sort((a, b) => a - b);
  return s.length ? (s.length % 2 ? s[(s.length - 1) / 2] : (s[s.length / 2 - 1] + s[s.length / 2]) / 2) : NaN;
};
// A contender with a smaller size for a workload is compared per item; a cold open is compared as it is.
const cost = (runs) => median(runs.map((r) => (r.workload === 'W7' ? r.ms : r.ms / r.n)));
const f = (x) => (!Number.isFinite(x) ? '–' : x >= 100 ? x.toFixed(0) : x >= 10 ? x.toFixed(1) : x.toFixed(2));

/** {W1: {name: ms}, ...}: the median over the repetitions, per item (W7: as it is). */
export function medians(report) {
  const out = {};
  for (const w of Object.keys(TITLES)) {
    for (const { name } of report.contenders) {
      const ms = cost(report.runs.filter((r) => r.contender === name && r.workload === w && !r.error));
      if (Number.isFinite(ms)) (out[w] ??= {})[name] = ms;
    }
  }
  return out;
}

export function toMarkdown(report) {
  const of = (c, w) => report.runs.filter((r) => r.contender === c && r.workload === w && !r.error);
  const errors = report.runs.filter((r) => r.error);
  const without = (c, w) => (errors.some((r) => r.contender === c && r.workload === w) ? 'failed' : 'not run');
  const workloads = Object.keys(TITLES).filter((w) => report.runs.some((r) => r.workload === w));
  const out = [`${report.date} · Chromium ${report.browser} · ${report.cores} cores ${report.cpu} · ${report.reps} repetitions · ${report.records} records`, ''];

  out.push('### Ratio to raw-idb (ratio of medians, per item; below 1 is faster; \\* with fewer items)', '', `| contender | ${workloads.join(' | ')} |`, `|---|${workloads.map(() => '--:|').join('')}`);
  for (const { name, meta } of report.contenders) {
    const cells = workloads.map((w) => {
      if (meta.unsupported?.[w]) return 'n/a';
      const runs = of(name, w);
      if (!runs.length) return without(name, w);
      const ratio = cost(runs) / cost(of(BASE, w));
      const reduced = runs[0].n !== of(BASE, w)[0]?.n ? ' \\*' : '';
      return Number.isFinite(ratio) ? f(ratio) + '×' + reduced : '–';
    });
    out.push(`| ${name} | ${cells.join(' | ')} |`);
  }

  for (const w of workloads) {
    const extra = { W1: ['p50', 'p95'], W4: ['p50', 'p95'], W6: ['pendingAfter'], W7: ['importMs', 'openMs'], W8: ['requests', 'bytes'], W9: ['requests', 'bytes'] }[w] ?? [];
    out.push('', `### ${w} ${TITLES[w]}`, '', `| contender | n | reps | median | min | max | items/s | ratio |${extra.map((e) => ` ${e} |`).join('')} later durable |`, `|---|${'--:|'.repeat(8 + extra.length)}`);
    for (const { name, meta } of report.contenders) {
      const runs = of(name, w);
      if (!runs.length) {
        out.push(`| ${name} | ${meta.unsupported?.[w] ? 'unsupported: ' + meta.unsupported[w] : without(name, w)} |`);
        continue;
      }
      const ms = runs.map((r) => r.ms);
      const cells = [runs[0].n, runs.length, f(median(ms)), f(Math.min(...ms)), f(Math.max(...ms)), f(1000 / median(runs.map((r) => r.ms / r.n))), f(cost(runs) / cost(of(BASE, w))) + '×',
        ...extra.map((e) => f(median(runs.map((r) => r[e] ?? NaN)))), runs.some((r) => r.settleMs > 1) ? '+' + f(median(runs.map((r) => r.settleMs))) + ' ms' : ''];
      out.push(`| ${name} | ${cells.join(' | ')} |`);
    }
  }

  out.push('', '### S1 size in bytes (minified bundle with its adapter, and assets)', '', '| contender | raw | of it wasm | gzip -9 | brotli 11 |', '|---|--:|--:|--:|--:|');
  for (const { name, size } of report.contenders) out.push(`| ${name} | ${size.raw} | ${size.wasmRaw} | ${size.gzip} | ${size.brotli} |`);

  out.push('', '### Contenders', '', '| contender | versions | durability | acknowledges when | notes |', '|---|---|---|---|---|');
  for (const { name, meta, versions } of report.contenders) {
    out.push(`| ${name} | ${Object.entries(versions).map(([p, v]) => `${p} ${v}`).join(', ') || '–'} | ${meta.durability} | ${meta.ack} | ${meta.notes ?? ''} |`);
  }

  const cal = report.runs.map((r) => r.calibrationMs).filter(Number.isFinite).sort((a, b) => a - b);
  out.push('', `Machine noise: the fixed CPU loop took ${f(cal[0])} to ${f(cal.at(-1))} ms, median ${f(median(cal))} (p90 ${f(cal[Math.floor(cal.length * 0.9)])}).`);
  if (errors.length) out.push('', '### Failures', '', ...errors.map((r) => `- ${r.contender} ${r.workload} rep ${r.rep}: ${r.error}`));
  return out.join('\n') + '\n';
}
