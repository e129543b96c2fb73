// Rows as CSV (RFC 4180).

/**
 * Return the rows as CSV with a line of names. NULL is nothing, the empty text `""`, a list is JSON.
 * @param {string[]} names
 * @param {any[][]} rows
 * @returns {string}
 */
export function csvOf(names, rows) {
  return [names, ...rows].map((row) => `${row.map(cell).join(",")}\r\n`).join("");
}

function cell(value) {
  if (value === null || value === undefined) return "";
  const text = typeof value === "object" ? JSON.stringify(value) : String(value);
  return text === "" || /[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
