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
    this._points = [];
    this._path = svg("path", { class: "line" });
    this._area = svg("path", { class: "area" });
    this._dot = svg("circle", { r: 2.5 });
    const size = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT };
    this.element = svg("svg", { class: "sparkline", role: "img", ...size }, this._area, this._path, this._dot);
  }

  /**
   * Add the age of now; of two within a second the later one counts.
   * @param {number} age in seconds
   */
  add(age) {
    const at = performance.now() / 1000;
    if (this._points.length && at - this._points[this._points.length - 1].at < 0.9) this._points.pop();
    this._points.push({ at, age });
    if (this._points.length > MOST_POINTS) this._points.shift();
    this._draw();
  }

  _draw() {
    const first = this._points[0];
    const last = this._points[this._points.length - 1];
    const highest = Math.max(...this._points.map(({ age }) => age));
    const x = linear([first.at, last.at], [2, WIDTH - 4]);
    const y = linear([0, highest || 1], [HEIGHT - 2, 4]);
    const line = this._points
      .map(({ at, age }, index) => `${index ? "L" : "M"}${x(at).toFixed(1)} ${y(age).toFixed(1)}`)
      .join("");
    this._path.setAttribute("d", line);
    this._area.setAttribute("d", `${line}L${x(last.at).toFixed(1)} ${HEIGHT}L${x(first.at).toFixed(1)} ${HEIGHT}Z`);
    this._dot.setAttribute("cx", x(last.at).toFixed(1));
    this._dot.setAttribute("cy", y(last.age).toFixed(1));
    const told = `age over ${ago(last.at - first.at)}: at most ${ago(highest)}, now ${ago(last.age)}`;
    this.element.setAttribute("aria-label", told);
  }
}
