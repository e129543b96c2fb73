// Where in a text an error is: the server counts lines, columns and lengths in characters, JavaScript in UTF-16 units.

/**
 * @typedef {{line?: number, column?: number, length?: number}} Mistake
 * @typedef {{start: number, end: number}} Spot offsets into the text
 */

/**
 * Return the place that a mistake names, null where it names none in this text.
 * @param {string} text
 * @param {Mistake} mistake
 * @returns {Spot | null}
 */
export function spotOf(text, mistake) {
  const lines = text.split("\n");
  if (!mistake.line || !mistake.column || mistake.line > lines.length) return null;
  const before = lines.slice(0, mistake.line - 1).reduce((sum, line) => sum + line.length + 1, 0);
  const rest = Array.from(text.slice(before));
  const start = before + rest.slice(0, mistake.column - 1).join("").length;
  const length = rest.slice(mistake.column - 1, mistake.column - 1 + (mistake.length || 1)).join("").length;
  return start > text.length ? null : { start, end: start + length };
}

/**
 * Return the line round a place, cut to `around` units on either side.
 * @param {string} text
 * @param {Spot} spot
 * @returns {{before: string, marked: string, after: string}}
 */
export function excerpt(text, spot, around = 60) {
  const first = text.lastIndexOf("\n", spot.start - 1) + 1;
  const newline = text.indexOf("\n", spot.end);
  const last = newline < 0 ? text.length : newline;
  const from = Math.max(first, spot.start - around);
  const to = Math.min(last, spot.end + around);
  return {
    before: (from > first ? "…" : "") + text.slice(from, spot.start),
    marked: text.slice(spot.start, spot.end),
    after: text.slice(spot.end, to) + (to < last ? "…" : ""),
  };
}
