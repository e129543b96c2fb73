// A problem, shown: its sentence, each mistake with its hint, and the place in the text.

import { Problem, asProblem } from "./calls.mjs";
import { el, withCode } from "./dom.mjs";
import { retrySentence } from "./retry.mjs";
import { excerpt, spotOf } from "./spot.mjs";

/**
 * Return what is to be shown of an error, whatever it is. `texts` are the texts in SQL that were sent, by the field
 * they went in.
 * @param {unknown} thrown
 * @param {Record<string, string>} [texts]
 * @returns {HTMLElement}
 */
export function problemView(thrown, texts = {}) {
  const error = asProblem(thrown);
  const first = error.errors[0];
  const detail = first && error.errors.length === 1 && error.detail.endsWith(first.message) ? null : error.detail;
  return el(
    "div",
    { class: "problem", role: "alert" },
    el("h3", {}, error.title, error.status ? el("span", { class: "status" }, String(error.status)) : null),
    detail ? el("p", {}, withCode(detail)) : null,
    error.errors.length
      ? el(
          "ul",
          {},
          error.errors.map((mistake) => mistakeView(mistake, texts)),
        )
      : null,
    error.retryAfter ? el("p", {}, retrySentence(error.retryAfter)) : null,
    error.code ? el("p", { class: "small" }, meaning(error.code), ` Request ${error.requestId}.`) : null,
  );
}

/**
 * Return the first place that an error names in a text that was sent as `field`.
 * @param {unknown} error
 * @param {string} field
 * @param {string} text
 * @returns {import("./spot.mjs").Spot | null}
 */
export function spotIn(error, field, text) {
  if (!(error instanceof Problem)) return null;
  const mistake = error.errors.find((mistake) => mistake.field === field && mistake.line);
  return mistake ? spotOf(text, mistake) : null;
}

function mistakeView(mistake, texts) {
  const text = texts[mistake.field ?? ""];
  const spot = text === undefined ? null : spotOf(text, mistake);
  return el(
    "li",
    {},
    mistake.field ? [el("code", {}, mistake.field), ": "] : null,
    withCode(mistake.message),
    spot ? placeView(text, spot, mistake) : null,
    mistake.hint ? el("p", { class: "hint" }, withCode(mistake.hint)) : null,
  );
}

function placeView(text, spot, mistake) {
  const { before, marked, after } = excerpt(text, spot);
  return el(
    "figure",
    {},
    el("pre", { class: "place" }, before, el("mark", {}, marked || " "), after),
    el("figcaption", {}, `line ${mistake.line}, column ${mistake.column}`),
  );
}

function meaning(code) {
  return el(
    "a",
    { href: `problems/${encodeURIComponent(code)}`, target: "_blank", rel: "noopener" },
    "What this means.",
  );
}
