// A chart of two columns, drawn as SVG: bars for texts, a line for dates.

import { el, svg } from "./dom.mjs";
import { about, count } from "./figures.mjs";
import { linear, seriesOf, ticks } from "./scale.mjs";

const WIDEST = { bars: 680, line: 1100 };
const PADDING = 40;
const LABEL_WIDTH = 7.5;
const SHORTEST_BARS = 60;
const BAR = 24;
const HEIGHT = 220;
const LABEL_CHARACTERS = 22;

/**
 * Return the chart of an answer, null if it has none.
 * @param {{columns: {name: string, type: string}[], rows: any[][]}} answer
 * @param {number} room how wide the page is where the chart goes
 * @returns {HTMLElement | null}
 */
export function chartView({ columns, rows }, room) {
  const series = seriesOf(columns, rows);
  if (!series) return null;
  const width = Math.min(WIDEST[series.kind], room - PADDING);
  const drawn = series.kind === "bars" ? bars(series, width) : line(series, width);
  const left = series.left ? `; ${count(series.left)} more rows are not drawn` : "";
  return el("figure", { class: "chart" }, drawn, el("figcaption", {}, `${series.value} by ${series.label}${left}`));
}

function bars({ points, label, value }, width) {
  const values = points.map((point) => point.value);
  const longest = Math.max(...points.map((point) => short(point.label).length));
  const labels = 16 + longest * LABEL_WIDTH;
  const room = roomFor(points.map((point) => point.exact));
  const wide = Math.max(width, labels + SHORTEST_BARS + room); // what is too wide for the page is drawn smaller
  const x = linear([Math.min(0, ...values), Math.max(0, ...values)], [labels, wide - room]);
  const drawn = points.map((point, at) => bar(point, at * BAR, x, labels));
  return picture(wide, points.length * BAR, `bars of ${value} by ${label}`, drawn);
}

function bar(point, top, x, labels) {
  const from = Math.min(x(0), x(point.value));
  const to = Math.max(x(0), x(point.value));
  const middle = top + BAR / 2;
  return svg(
    "g",
    {},
    svg("title", {}, `${point.label}: ${point.exact}`),
    svg("text", { x: labels - 8, y: middle, class: "end" }, short(point.label)),
    svg("rect", { x: from, y: top + 4, width: Math.max(1, to - from), height: BAR - 8, rx: 2 }),
    svg("text", { x: to + 6, y: middle, class: "value" }, about(point.exact)),
  );
}

function line({ points, label, value }, width) {
  const values = points.map((point) => point.value);
  const [low, high] = [Math.min(0, ...values), Math.max(...values, 0)];
  const rules = ticks(low, high, 4);
  const room = roomFor(rules.map(String));
  const x = linear([points[0].at, points[points.length - 1].at], [room, width - 24]);
  const y = linear([low, high], [HEIGHT - 28, 14]);
  const path = points
    .map((point, at) => `${at ? "L" : "M"}${x(point.at).toFixed(1)} ${y(point.value).toFixed(1)}`)
    .join("");
  const marks = points.map((point) =>
    svg("circle", { cx: x(point.at), cy: y(point.value), r: 3 }, svg("title", {}, `${point.label}: ${point.exact}`)),
  );
  const ends = [points[0], points[points.length - 1]].slice(0, points.length);
  return picture(width, HEIGHT, `line of ${value} by ${label}`, [
    rules.map((tick) => rule(tick, y(tick), room, width)),
    svg("path", { d: path, class: "line" }),
    points.length <= 100 ? marks : [],
    ends.map((end, at) => svg("text", { x: x(end.at), y: HEIGHT - 8, class: at ? "end" : "" }, day(end.label))),
  ]);
}

function rule(tick, at, left, width) {
  return svg(
    "g",
    {},
    svg("line", { x1: left, x2: width - 24, y1: at, y2: at, class: "rule" }),
    svg("text", { x: left - 8, y: at, class: "end value" }, about(String(tick))),
  );
}

function picture(width, height, label, ...children) {
  return svg(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label },
    children.flat(2),
  );
}

function roomFor(values) {
  return 16 + Math.max(0, ...values.map((digits) => about(digits).length)) * LABEL_WIDTH;
}

function short(text) {
  return text.length > LABEL_CHARACTERS ? `${text.slice(0, LABEL_CHARACTERS - 1)}…` : text;
}

function day(text) {
  return text.slice(0, 10);
}
