// A value of a row, shown.

import { el } from "./dom.mjs";

const FOLDED_CHARACTERS = 160;
const WHOLE_CHARACTERS = 28; // of a key, a number or a time, which nobody reads in two lines
const HASH = /^[0-9a-f]{64}$/;

/**
 * Return a value as text, for an element whose `dir` is `auto`; NULL and what is masked say so.
 * @param {any} value
 * @param {boolean} [isMasked] whether the caller does not get the value, or as a hash
 * @returns {HTMLElement}
 */
export function valueView(value, isMasked = false) {
  if (isMasked && (value === null || value === undefined)) return el("span", { class: "masked" }, "masked");
  if (value === null || value === undefined) return el("span", { class: "null" }, "NULL");
  const text = typeof value === "object" ? JSON.stringify(value) : String(value);
  if (isMasked && HASH.test(text)) {
    const title = `masked; the keyed hash is ${text}`;
    return el("span", { class: "masked", title }, `masked ${text.slice(0, 10)}…`);
  }
  if (text.length > FOLDED_CHARACTERS) return folded(text);
  return el("span", { class: text.length <= WHOLE_CHARACTERS ? "short" : null }, text);
}

function folded(text) {
  const start = `${text.slice(0, FOLDED_CHARACTERS)}…`;
  return el("details", { class: "folded" }, el("summary", { dir: "auto" }, start), el("p", { dir: "auto" }, text));
}
