// How old a collection was while the page was open, as a small line.

import { svg } from "./dom.mjs";
import { ago } from "./figures.mjs";
import { linear } from "./scale.mjs";

const WIDTH = 120;
const HEIGHT = 28;
const MOST_POINTS = 600;

/** Ages over time, and their line. */
export class Sparkline {
  constructor() {
    this._ages = [];
    this._path = svg("path", { class: "line" });
    this._area = svg("path", { class: "area" });
    this._dot = svg("circle", { r: 2.5 });
    const size = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT };
    this.element = svg("svg", { class: "sparkline", role: "img", ...size }, this._area, this._path, this._dot);
  }

  /**
   * Add the age of now, a second after the one before.
   * @param {number} age in seconds
   */
  add(age) {
    this._ages.push(age);
    if (this._ages.length > MOST_POINTS) this._ages.shift();
    this._draw();
  }

  _draw() {
    const ages = this._ages;
    const highest = Math.max(...ages);
    const x = linear([0, Math.max(1, ages.length - 1)], [2, WIDTH - 4]);
    const y = linear([0, highest || 1], [HEIGHT - 2, 4]);
    const line = ages.map((age, at) => `${at ? "L" : "M"}${x(at).toFixed(1)} ${y(age).toFixed(1)}`).join("");
    const last = ages.length - 1;
    this._path.setAttribute("d", line);
    this._area.setAttribute("d", `${line}L${x(last).toFixed(1)} ${HEIGHT}L2 ${HEIGHT}Z`);
    this._dot.setAttribute("cx", x(last).toFixed(1));
    this._dot.setAttribute("cy", y(ages[last]).toFixed(1));
    const told = `age over ${ago(ages.length)}: at most ${ago(highest)}, now ${ago(ages[last])}`;
    this.element.setAttribute("aria-label", told);
  }
}
