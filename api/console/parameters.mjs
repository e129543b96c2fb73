// The `:name` parameters of a text in SQL.

const PARTS = /'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|::|(?<![\p{L}\p{N}_]):([A-Za-z_][A-Za-z0-9_]*)/gu;

/**
 * Return the names of the parameters in a text, each once, in order; what is quoted is none, nor is the cast `::`.
 * @param {string} sql
 * @returns {string[]}
 */
export function parameterNames(sql) {
  const names = Array.from(sql.matchAll(PARTS), (found) => found[1]).filter(Boolean);
  return [...new Set(names)];
}
