// Rows as a table: numbers to the right, NULL as NULL, long texts folded.

import { el } from "./dom.mjs";
import { count } from "./figures.mjs";
import { valueView } from "./value-view.mjs";

const PAGE = 200;
const RIGHT = /^(BIGINT|DOUBLE|DECIMAL)/;

/**
 * @typedef {{name: string, type: string, masked: boolean}} Column
 */

/**
 * Return the table of an answer in SQL; its rows come in pages, so that ten thousand do not stop the browser.
 * @param {{columns: Column[], rows: any[][]}} answer
 * @returns {HTMLElement}
 */
export function tableView({ columns, rows }) {
  const body = el("tbody");
  const more = el("button", { type: "button", class: "quiet", click: page });
  function page() {
    const start = body.rows.length;
    body.append(...rows.slice(start, start + PAGE).map((row) => line(row, columns)));
    more.hidden = body.rows.length >= rows.length;
    more.textContent = `Show more (${count(rows.length - body.rows.length)} are left)`;
  }
  page();
  const heads = columns.map((column) =>
    el("th", { scope: "col", class: side(column) }, column.name, el("small", {}, column.type)),
  );
  const table = el("table", { class: "rows" }, el("thead", {}, el("tr", {}, heads)), body);
  return el(
    "div",
    {},
    el("div", { class: "scrolling", tabindex: "0", role: "region", "aria-label": "rows" }, table),
    more,
  );
}

function line(row, columns) {
  const cell = (value, column) => el("td", { class: side(column), dir: "auto" }, valueView(value, column.masked));
  return el(
    "tr",
    {},
    row.map((value, at) => cell(value, columns[at])),
  );
}

function side(column) {
  return RIGHT.test(column.type) ? "right" : null;
}
