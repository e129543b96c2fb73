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
    const fields = readFields(this._form);
    this._shown = this._desk.visit({ tab: "sql", fields });
    this._editor.mark(null);
    await this._attempt(sqlBody(fields), async (ask, body) => this._answered(await ask(body), body));
  }

  /**
   * Show the next page too. The first is asked for once more, so that all of them are of one version.
   * @param {Record<string, any>} body
   * @param {any} shown the answer with all rows so far
   */
  async _readOn(body, shown) {
    await this._attempt(body, async (ask) => {
      const first = shown.next_cursor ? { answer: shown } : await ask({ ...body, cursor: "start" });
      const { rows, next_cursor: cursor } = first.answer;
      const next = cursor ? await ask({ ...body, cursor }) : { ...first, answer: { ...first.answer, rows: [] } };
      this._answered({ ...next, answer: { ...next.answer, rows: [...rows, ...next.answer.rows] } }, body);
    });
  }

  /** Do what asks for a statement; what came before is no longer waited for, and a problem is shown. */
  async _attempt(body, work) {
    this._under.abort();
    const under = new AbortController();
    this._under = under;
    this._said.textContent = "Running …";
    this._found.setAttribute("aria-busy", "true");
    try {
      await work((asked) => call(request("v1/sql", asked), under.signal), body);
    } catch (error) {
      if (error.name === "AbortError") return;
      this._said.textContent = "";
      this._editor.mark(spotIn(error, "sql", body.sql));
      this._found.replaceChildren(problemView(error, { sql: body.sql }), requestView(request("v1/sql", body)));
    }
    this._found.setAttribute("aria-busy", "false");
  }

  _answered(called, body) {
    const { answer } = called;
    const rows = `${count(answer.rows.length)} ${answer.rows.length === 1 ? "row" : "rows"}`;
    this._said.textContent = `${rows} in ${milliseconds(answer.took_ms.total)}`;
    const download = el("button", { type: "button", class: "quiet", click: () => save(answer) }, "Download as CSV");
    const readOn = el("button", { type: "button", class: "quiet", click: () => this._readOn(body, answer) }, "Read on");
    this._found.replaceChildren(
      runView(called),
      answer.truncated ? el("p", { class: "note" }, "There are more rows than these first ones. ", readOn) : "",
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
