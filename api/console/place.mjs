// What the address says after its `#`: the tab and what stands in it. The key is never a part of it.

export const TABS = ["collections", "search", "sql", "rows"];

/**
 * @typedef {{tab: string, fields: Record<string, string>}} Place
 */

/**
 * Read a place; what is none is the first tab.
 * @param {string} hash with or without its `#`
 * @returns {Place}
 */
export function placeOf(hash) {
  const [tab, query = ""] = hash.replace(/^#/, "").split(/\?(.*)/s);
  if (!TABS.includes(tab)) return { tab: TABS[0], fields: {} };
  return { tab, fields: Object.fromEntries(new URLSearchParams(query)) };
}

/**
 * Write a place; fields without a value are left out.
 * @param {Place} place
 * @returns {string} with its `#`
 */
export function hashOf({ tab, fields }) {
  const query = new URLSearchParams(Object.entries(fields).filter(([, value]) => value !== "")).toString();
  return `#${tab}${query ? `?${query}` : ""}`;
}
