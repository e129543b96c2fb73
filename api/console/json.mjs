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
 * Read what a person typed for a parameter: JSON is what JSON says, anything else is text (as `grebe search --param`).
 * @param {string} text
 * @returns {any}
 */
export function typedValue(text) {
  if (isWide(text.trim())) return BigInt(text.trim());
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
