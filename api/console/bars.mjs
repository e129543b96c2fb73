// Stacked bars: parts of a whole, side by side.

import { el } from "./dom.mjs";
import { shares } from "./scale.mjs";

/**
 * @typedef {{name: string, value: number, shown: string}} Part
 */

/**
 * Return a bar of parts, `of` a whole of which the bar takes its share; its words are in `label`.
 * @param {Part[]} parts
 * @param {string} label
 * @param {number} [of]
 * @returns {HTMLElement}
 */
export function stackedBar(parts, label, of = 0) {
  const sum = parts.reduce((total, part) => total + Math.max(0, part.value), 0);
  const whole = Math.max(of, sum);
  const bar = el("div", { class: "bar", role: "img", "aria-label": label });
  const all = shares([...parts.map((part) => part.value), whole - sum]);
  parts.forEach((part, at) => {
    const piece = el("span", { class: `part ${part.name}`, title: `${part.name} ${part.shown}` });
    piece.style.width = `${all[at] * 100}%`;
    bar.append(piece);
  });
  return bar;
}

/**
 * Return the parts' names and values as the legend of their bar.
 * @param {Part[]} parts
 * @returns {HTMLElement}
 */
export function legend(parts) {
  return el(
    "ul",
    { class: "legend" },
    parts.map((part) =>
      el("li", {}, el("span", { class: `swatch ${part.name}` }), `${part.name} `, el("b", {}, part.shown)),
    ),
  );
}
