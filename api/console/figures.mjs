// Numbers, sizes and times as people read them.

const UNITS = [
  [86_400, "d"],
  [3_600, "h"],
  [60, "min"],
];

/**
 * Return seconds in the largest unit that fits: `0.4 s`, `12 s`, `1.5 min`.
 * @param {number | null | undefined} seconds
 * @returns {string}
 */
export function ago(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const [size, unit] = UNITS.find(([size]) => seconds >= size) ?? [1, "s"];
  const value = seconds / size;
  return `${unit === "s" && value >= 10 ? value.toFixed(0) : value.toFixed(1)} ${unit}`;
}

/**
 * Return a whole number in groups of three; a text (a number too long for JavaScript) too.
 * @param {number | string | null | undefined} number
 * @returns {string}
 */
export function count(number) {
  if (number === null || number === undefined) return "–";
  return String(number).replace(/\B(?=(\d{3})+$)/g, ",");
}

const WIDE = 12;

/**
 * Return a number's digits; of many of them, about how much they are (`≈ 9.0072e+15`).
 * @param {string} digits
 * @returns {string}
 */
export function about(digits) {
  if (digits.length <= WIDE) return digits;
  const rounded = Number(Number(digits).toPrecision(5)); // which is none where it is rounded up beyond all numbers
  const isShort = Number.isFinite(rounded) && String(rounded).length < WIDE;
  return `≈ ${isShort ? rounded : Number(digits).toExponential(4)}`;
}

/**
 * Return a score with four digits that count.
 * @param {number | null | undefined} score
 * @returns {string}
 */
export function score(score) {
  if (score === null || score === undefined) return "–";
  if (score !== 0 && Math.abs(score) < 0.001) return score.toExponential(2);
  return score.toFixed(Math.abs(score) >= 100 ? 1 : 4);
}

/**
 * Return milliseconds: `0.31 ms`, `12.4 ms`, `1,204 ms`.
 * @param {number} milliseconds
 * @returns {string}
 */
export function milliseconds(milliseconds) {
  const digits = milliseconds >= 100 ? 0 : milliseconds >= 10 ? 1 : 2;
  const [whole, rest] = milliseconds.toFixed(digits).split(".");
  return `${count(whole)}${rest ? `.${rest}` : ""} ms`;
}

/**
 * Return bytes: `512 B`, `1.5 MiB`.
 * @param {number} bytes
 * @returns {string}
 */
export function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const step = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, bytes)) / 10));
  return `${step ? (bytes / 1024 ** step).toFixed(1) : bytes} ${units[step]}`;
}

/**
 * Return a time of the server's (ISO 8601) to the second, in UTC.
 * @param {string | null | undefined} time
 * @returns {string}
 */
export function moment(time) {
  return time ? `${time.slice(0, 19).replace("T", " ")} UTC` : "–";
}
