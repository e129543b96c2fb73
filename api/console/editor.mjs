// A text area for SQL: with line numbers if it wants them, a place in it that can be marked, and Ctrl+Enter to send.

import { el } from "./dom.mjs";

/** Dresses a text area that the page has. */
export class Editor {
  /**
   * @param {HTMLTextAreaElement} area
   * @param {() => void} changed called whenever the text is another
   */
  constructor(area, changed = () => {}) {
    this.area = area;
    this._changed = changed;
    this._behind = el("pre", { class: "behind", "aria-hidden": "true" });
    this._numbers = area.dataset.numbers === undefined ? null : el("pre", { class: "numbers", "aria-hidden": "true" });
    const box = el("div", { class: "editor" });
    area.replaceWith(box);
    box.append(...(this._numbers ? [this._numbers] : []), el("div", { class: "text" }, this._behind, area));
    area.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) area.form.requestSubmit();
    });
    area.addEventListener("input", () => this._refresh());
    area.addEventListener("scroll", () => this._follow());
    this._refresh();
  }

  /** @returns {string} */
  get text() {
    return this.area.value;
  }

  set text(text) {
    this.area.value = text;
    this._refresh();
  }

  /**
   * Mark a place of the text until it is changed; null marks none.
   * @param {import("./spot.mjs").Spot | null} spot
   */
  mark(spot) {
    const { text } = this;
    this.area.setAttribute("aria-invalid", String(spot !== null));
    if (!spot) {
      this._behind.replaceChildren();
      return;
    }
    // An empty place, as at the text's end, is shown as wide as a letter.
    const marked = text.slice(spot.start, spot.end).replace(/^\n?$/, " $&");
    this._behind.replaceChildren(text.slice(0, spot.start), el("mark", {}, marked), `${text.slice(spot.end)}\n`);
    this._follow();
  }

  _refresh() {
    this.mark(null);
    if (this._numbers) {
      const lines = this.text.split("\n").length;
      this._numbers.textContent = Array.from({ length: lines }, (_, at) => at + 1).join("\n");
    }
    this._changed();
  }

  _follow() {
    this._behind.scrollTop = this.area.scrollTop;
    this._behind.scrollLeft = this.area.scrollLeft;
    if (this._numbers) this._numbers.scrollTop = this.area.scrollTop;
  }
}
