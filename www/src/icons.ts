/** The few icons of the page, drawn in strokes on a grid of 24. They are decoration: text says it. */

const paths = {
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14m5 12 4 4",
  sync: "M20 5v5h-5M4 19v-5h5M19 10a7.500 7.500 0 0 0-13-3L4 9m1 5a7.500 7.500 0 0 0 13 3l2-2",
  pause: "M9 6v12M15 6v12",
  play: "M8 5.500v13l10-6.500z",
  back: "M15 5l-7 7 7 7",
  plus: "M12 5v14M5 12h14",
  alert: "M12 8v5m0 3.500v.1M12 3.500 2.500 20h19z",
  check: "M5 12.500l4.500 4.500L19 7.500",
  sites:
    "M12 21s-6.500-5.600-6.500-11a6.500 6.500 0 0 1 13 0c0 5.400-6.500 11-6.500 11m0-13.200a2.300 2.300 0 1 0 0 4.600 2.300 2.300 0 0 0 0-4.600",
  queue: "M12 19V6m-5 5 5-5 5 5M5 21h14",
  conflicts: "M12 21v-7m0 0L6 5m6 9 6-9M6 9.500V5h4.500M18 9.500V5h-4.500",
} as const;

export type IconName = keyof typeof paths;

const SVG = "http://www.w3.org/2000/svg";

export function icon(name: IconName): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", paths[name]);
  svg.append(path);
  return svg;
}

/** Contour lines of a hill, for places where there is nothing to show yet. */
export function contours(): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 160 100");
  svg.setAttribute("class", "contours");
  svg.setAttribute("aria-hidden", "true");
  for (const d of [
    "M8 62C6 30 44 8 86 10s70 26 66 50-46 34-82 32S10 88 8 62z",
    "M24 60c0-22 30-38 62-36s50 18 46 36-36 24-62 22-46-4-46-22z",
    "M44 57c2-14 22-22 42-20s30 11 27 20-24 14-40 13-31-2-29-13z",
    "M64 53c2-7 12-10 22-8s14 6 12 10-12 6-20 5-16-1-14-7z",
  ]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", d);
    svg.append(path);
  }
  return svg;
}
