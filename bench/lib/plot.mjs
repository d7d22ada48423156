// A report of scale.mjs as one SVG: a small log-log panel for each workload and one for the memory.
import { median } from "./report.mjs";

export const PANELS = [
  { workload: "W3", title: "W3 bulk create", unit: "ms" },
  { workload: "W4", title: "W4 2,000 point reads", unit: "ms" },
  { workload: "W6n", title: "W6 5,000 updates of 100 records", unit: "ms" },
  { workload: "W7", title: "W7 cold open to the count", unit: "ms" },
  { workload: "memory", title: "memory, all read once, idle", unit: "MiB" },
];

const COLOURS = ["#0b6e4f", "#b4451f", "#3557a5", "#7a4a9e"];
const INK = "#1f2a30";
const [WIDTH, HEIGHT, COLUMNS] = [320, 250, 3];
const BOX = { left: 58, right: 16, top: 34, bottom: 40 };

/** The value of a run in the unit of its panel. */
export const valueOf = (run) => (run.workload === "memory" ? run.bytes / 2 ** 20 : run.ms);

/** `[{ size, value }]`: medians over the repetitions, by size. */
export function series(report, contender, workload) {
  const points = report.sizes.map((size) => {
    const mine = report.runs.filter(
      (r) => r.contender === contender && r.workload === workload && r.size === size && !r.error,
    );
    return { size, value: median(mine.map(valueOf)) };
  });
  return points.filter(({ value }) => Number.isFinite(value));
}

export const compact = (x) => {
  if (x >= 1000) return Math.round(x).toLocaleString("en-US");
  if (x >= 100) return x.toFixed(0);
  if (x >= 10) return x.toFixed(1);
  return x >= 1 || x === 0 ? x.toFixed(2) : x.toPrecision(2);
};

const escape = (text) =>
  String(text).replace(
    /[&<>"]/g,
    (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c],
  );
const n = (x) => String(Math.round(x * 10) / 10);

/** Powers of ten around the values, with room for figures: `[lowest, highest]` exponents. */
function decades(values) {
  const low = Math.floor(Math.log10(Math.min(...values)) - 0.2);
  const high = Math.ceil(Math.log10(Math.max(...values)) + 0.2);
  return [low, Math.max(high, low + 1)];
}

function panel({ title, unit }, lines, sizes) {
  const [right, bottom] = [WIDTH - BOX.right, HEIGHT - BOX.bottom];
  const out = [`<text x="${BOX.left}" y="20" font-weight="600">${escape(title)}, ${unit}</text>`];
  const values = lines.flatMap(({ points }) => points.map(({ value }) => value));
  if (!values.length) return [...out, `<text x="${BOX.left}" y="60">no runs</text>`].join("\n");
  const [xLow, xHigh] = [Math.log10(sizes[0]), Math.log10(sizes.at(-1))];
  const [yLow, yHigh] = decades(values);
  const span = Math.max(xHigh - xLow, 1e-9);
  const x = (size) => BOX.left + 28 + ((Math.log10(size) - xLow) / span) * (right - BOX.left - 56);
  const y = (value) => bottom - ((Math.log10(value) - yLow) / (yHigh - yLow)) * (bottom - BOX.top);
  for (let e = yLow; e <= yHigh; e++) {
    const at = n(y(10 ** e));
    out.push(`<path d="M${BOX.left} ${at}H${right}" stroke="#d9dfe2"/>`);
    const label = e >= 0 ? compact(10 ** e).replace(/\.0+$/, "") : (10 ** e).toFixed(-e);
    out.push(`<text x="${BOX.left - 6}" y="${n(+at + 4)}" text-anchor="end">${label}</text>`);
  }
  for (const size of sizes) {
    out.push(`<path d="M${n(x(size))} ${BOX.top}V${bottom}" stroke="#d9dfe2"/>`);
    const label = size.toLocaleString("en-US");
    out.push(`<text x="${n(x(size))}" y="${bottom + 16}" text-anchor="middle">${label}</text>`);
  }
  out.push(
    `<text x="${n((BOX.left + right) / 2)}" y="${bottom + 32}" text-anchor="middle">records</text>`,
    `<path d="M${BOX.left} ${BOX.top}V${bottom}H${right}" fill="none" stroke="${INK}"/>`,
  );
  for (const [index, { points }] of lines.entries()) {
    const colour = COLOURS[index % COLOURS.length];
    const path = points.map(({ size, value }) => `${n(x(size))} ${n(y(value))}`).join("L");
    out.push(`<path d="M${path}" fill="none" stroke="${colour}" stroke-width="2"/>`);
    for (const { size, value } of points) {
      const [cx, cy] = [n(x(size)), n(y(value))];
      const square = `<rect x="${n(+cx - 3.5)}" y="${n(+cy - 3.5)}" width="7" height="7" fill="${colour}"/>`;
      out.push(index % 2 ? square : `<circle cx="${cx}" cy="${cy}" r="4" fill="${colour}"/>`);
      // The uppermost of several has its figure above it, the others below.
      const above = lines.every(({ points: others }) =>
        others.every((other) => other.size !== size || other.value <= value),
      );
      const ty = above ? +cy - 8 : +cy + 17;
      out.push(
        `<text x="${cx}" y="${n(ty)}" text-anchor="middle" fill="${colour}">${compact(value)}</text>`,
      );
    }
  }
  return out.join("\n");
}

/** The plot as the text of an SVG file. */
export function scalingPlot(report) {
  const names = report.contenders.map(({ name }) => name);
  const sizes = [...report.sizes].sort((a, b) => a - b);
  const rows = Math.ceil((PANELS.length + 1) / COLUMNS);
  const place = (index) =>
    `translate(${(index % COLUMNS) * WIDTH} ${Math.floor(index / COLUMNS) * HEIGHT})`;
  const panels = PANELS.map((it, index) => {
    const lines = names.map((name) => ({ name, points: series(report, name, it.workload) }));
    return `<g transform="${place(index)}">\n${panel(it, lines, sizes)}\n</g>`;
  });
  const legend = names.map((name, index) => {
    const [colour, at] = [COLOURS[index % COLOURS.length], 60 + index * 26];
    const mark =
      index % 2
        ? `<rect x="${BOX.left + 10.5}" y="${at - 3.5}" width="7" height="7" fill="${colour}"/>`
        : `<circle cx="${BOX.left + 14}" cy="${at}" r="4" fill="${colour}"/>`;
    return (
      `<path d="M${BOX.left} ${at}h28" stroke="${colour}" stroke-width="2"/>${mark}` +
      `<text x="${BOX.left + 38}" y="${at + 4}">${escape(name)}</text>`
    );
  });
  const notes = [
    "both axes logarithmic",
    report.reps === 1 ? "one repetition" : `medians of ${report.reps} repetitions`,
    `Chromium ${report.browser}`,
    "lower is better",
  ].map(
    (text, i) =>
      `<text x="${BOX.left}" y="${76 + names.length * 26 + i * 18}" fill="#5a676e">${escape(text)}</text>`,
  );
  const [width, height] = [WIDTH * COLUMNS, HEIGHT * rows];
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="system-ui, sans-serif" font-size="12" fill="${INK}" role="img" aria-label="Cost and memory against the number of records">
<rect width="${width}" height="${height}" fill="#fff"/>
${panels.join("\n")}
<g transform="${place(PANELS.length)}">
${[...legend, ...notes].join("\n")}
</g>
</svg>
`;
}
