// Running SELECT statements.

import { call, request } from "./calls.mjs";
import { chartView } from "./chart-view.mjs";
import { requestView } from "./copying.mjs";
import { csvOf } from "./csv.mjs";
import { byId, el } from "./dom.mjs";
import { Editor } from "./editor.mjs";
import { fillFields, readFields } from "./fields.mjs";
import { count, milliseconds } from "./figures.mjs";
import { showParameters } from "./parameter-fields.mjs";
import { hashOf } from "./place.mjs";
import { problemView, spotIn } from "./problem-view.mjs";
import { sqlBody } from "./request.mjs";
import { runView } from "./run-view.mjs";
import { tableView } from "./table-view.mjs";

/** The tab with the editor. */
export class SqlView {
  /**
   * @param {import("./desk.mjs").Desk} desk
   */
  constructor(desk) {
    this._desk = desk;
    this._form = byId("sql-form");
    this._said = byId("sql-said");
    this._found = byId("sql-found");
    this._editor = new Editor(byId("statement"), () => showParameters(byId("sql-parameters"), byId("statement").value));
    this._under = new AbortController();
    this._shown = "";
    this._form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this._run();
    });
  }

  /**
   * Show what an address says. It does not run: whoever opens a link should see the statement first.
   * @param {import("./request.mjs").Fields} fields
   */
  async show(fields) {
    if (hashOf({ tab: "sql", fields }) === this._shown) return;
    this._shown = hashOf({ tab: "sql", fields });
    this._under.abort();
    this._found.setAttribute("aria-busy", "false");
    fillFields(this._form, fields);
    this._editor.text = fields.sql ?? "";
    showParameters(byId("sql-parameters"), this._editor.text, fields);
    this._said.textContent = "";
    this._found.replaceChildren();
  }

  /** Leave the tab; what was typed stays for the way back. */
  hide() {
    this._desk.remember({ tab: "sql", fields: readFields(this._form) });
  }

  async _run() {
    this._under.abort();
    this._under = new AbortController();
    const fields = readFields(this._form);
    this._shown = this._desk.visit({ tab: "sql", fields });
    const body = sqlBody(fields);
    const sent = request("v1/sql", body);
    this._editor.mark(null);
    this._said.textContent = "Running …";
    this._found.setAttribute("aria-busy", "true");
    try {
      this._answered(await call(sent, this._under.signal));
    } catch (error) {
      if (error.name === "AbortError") return;
      this._said.textContent = "";
      this._editor.mark(spotIn(error, "sql", body.sql));
      this._found.replaceChildren(problemView(error, { sql: body.sql }), requestView(sent));
    }
    this._found.setAttribute("aria-busy", "false");
  }

  _answered(called) {
    const { answer } = called;
    const rows = `${count(answer.rows.length)} ${answer.rows.length === 1 ? "row" : "rows"}`;
    this._said.textContent = `${rows} in ${milliseconds(answer.took_ms.total)}`;
    const download = el("button", { type: "button", class: "quiet", click: () => save(answer) }, "Download as CSV");
    this._found.replaceChildren(
      runView(called),
      answer.truncated
        ? el("p", { class: "note" }, "There are more rows: a statement without LIMIT gets the first ones.")
        : "",
      answer.masked.length ? el("p", { class: "note" }, `Masked for you: ${answer.masked.join(", ")}.`) : "",
      chartView(answer, this._found.clientWidth) ?? "",
      tableView(answer),
      requestView(called.sent, download),
    );
  }
}

function save({ columns, rows }) {
  const text = csvOf(
    columns.map((column) => column.name),
    rows,
  );
  const href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  el("a", { href, download: "rows.csv" }).click();
  URL.revokeObjectURL(href);
}
