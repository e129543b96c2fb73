// The arithmetic of charts.

/**
 * @typedef {{kind: "bars" | "line", label: string, value: string, points: Point[], left: number}} Series `left` rows of
 *   the answer are in no point
 * @typedef {{label: string, at: number, value: number, exact: string}} Point `exact` is the value with all its digits
 */

export const MOST_BARS = 30;
const NUMBERS = /^(BIGINT|DOUBLE|DECIMAL)/;

/**
 * Return what can be drawn of an answer: one column of texts or dates, one of numbers. Null if it has other columns.
 * @param {{name: string, type: string}[]} columns
 * @param {any[][]} rows
 * @returns {Series | null}
 */
export function seriesOf(columns, rows) {
  if (columns.length !== 2) return null;
  const y = columns.findIndex((column) => NUMBERS.test(column.type));
  const x = 1 - y;
  if (y < 0 || !/^(STRING|BOOLEAN|DATE|TIMESTAMP)/.test(columns[x].type)) return null;
  const isTime = /^(DATE|TIMESTAMP)/.test(columns[x].type);
  const drawn = rows.filter(
    (row) => row[y] !== null && Number.isFinite(Number(row[y])) && !(isTime && row[x] === null),
  );
  let points = drawn.map((row) => ({
    label: String(row[x] ?? "NULL"),
    at: isTime ? Date.parse(row[x]) : 0,
    value: Number(row[y]),
    exact: String(row[y]),
  }));
  if (isTime) points.sort((one, other) => one.at - other.at);
  else points = points.slice(0, MOST_BARS);
  if (points.length === 0) return null;
  const names = { label: columns[x].name, value: columns[y].name };
  return { kind: isTime ? "line" : "bars", ...names, points, left: rows.length - points.length };
}

/**
 * Return the function that takes `[low, high]` to `[from, to]` in proportion; where all is one value, to the middle.
 * @param {[number, number]} domain
 * @param {[number, number]} range
 * @returns {(value: number) => number}
 */
export function linear([low, high], [from, to]) {
  const half = high / 2 - low / 2; // of halves: the difference itself may be larger than any number
  return half === 0 ? () => (from + to) / 2 : (value) => from + ((value / 2 - low / 2) / half) * (to - from);
}

/**
 * Return round values (1, 2 or 5 times a power of ten apart) that lie within `[low, high]`.
 * @param {number} low
 * @param {number} high
 * @param {number} most of them, about
 * @returns {number[]}
 */
export function ticks(low, high, most = 5) {
  const rough = high / most - low / most;
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((factor) => factor * power >= rough) ?? 10);
  const found = [];
  for (let at = Math.ceil(low / step); at * step <= high + step * 1e-9; at += 1)
    found.push(Number((at * step).toPrecision(12)));
  return found;
}

/**
 * Return the parts as shares of their sum; those that are not above 0 have none.
 * @param {number[]} parts
 * @returns {number[]}
 */
export function shares(parts) {
  const sum = parts.reduce((total, part) => total + Math.max(0, part), 0);
  return parts.map((part) => (sum > 0 ? Math.max(0, part) / sum : 0));
}
