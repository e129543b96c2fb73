// JSON whose whole numbers keep all their digits: those of 64 bits do not fit into a number of JavaScript's.

const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?/g;

/**
 * Read JSON. A whole number that would lose digits is read as the text of them.
 * @param {string} text
 * @returns {any}
 */
export function readJson(text) {
  return JSON.parse(
    /\d{16}/.test(text) ? text.replace(TOKEN, (token) => (isWide(token) ? `"${token}"` : token)) : text,
  );
}

/**
 * Write JSON; a bigint is written as the whole number that it is.
 * @param {any} value
 * @param {string} [indent] of one level; without it all is one line
 * @returns {string}
 */
export function writeJson(value, indent = "") {
  return written(value, indent, "\n");
}

function written(value, indent, line) {
  if (typeof value === "bigint") return value.toString();
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const isList = Array.isArray(value);
  const parts = isList
    ? value.map((item) => written(item, indent, line + indent))
    : Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${written(item, indent, line + indent)}`);
  const [open, close] = isList ? "[]" : "{}";
  if (!indent || isList || parts.length === 0) return open + parts.join(", ") + close;
  return open + line + indent + parts.join(`,${line}${indent}`) + line + close;
}

function isWide(token) {
  return /^-?\d{16,}$/.test(token) && !Number.isSafeInteger(Number(token));
}

/**
 * Read what a person typed for a parameter: JSON is what JSON says, anything else is text (as `grebe search --param`),
 * and so is JSON with a number in it that is larger than any (`1e400`).
 * @param {string} text
 * @returns {any} in which a whole number that would lose digits is a bigint
 */
export function typedValue(text) {
  try {
    return exact(JSON.parse(text), readJson(text));
  } catch {
    return text;
  }
}

// `kept` is the same with texts for the numbers that lose digits.
function exact(value, kept) {
  if (typeof value === "number" && typeof kept === "string") return BigInt(kept);
  if (typeof value === "number" && !Number.isFinite(value)) throw new RangeError("larger than any number");
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map((item, at) => exact(item, kept[at]));
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, exact(item, kept[name])]));
}
