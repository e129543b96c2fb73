// Looking a row up by its key.

import { call, request } from "./calls.mjs";
import { requestView } from "./copying.mjs";
import { byId, el } from "./dom.mjs";
import { select } from "./fields.mjs";
import { count, moment } from "./figures.mjs";
import { problemView } from "./problem-view.mjs";
import { rowPath } from "./request.mjs";
import { valueView } from "./value-view.mjs";

/** The tab that shows one row. */
export class RowsView {
  /**
   * @param {import("./desk.mjs").Desk} desk
   */
  constructor(desk) {
    this._desk = desk;
    this._form = byId("rows-form");
    this._collection = byId("rows-collection");
    this._keys = byId("rows-keys");
    this._found = byId("rows-found");
    this._describing = new AbortController();
    this._under = new AbortController();
    this._form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this._submit();
    });
    this._collection.addEventListener("change", () => void this._describe({}));
  }

  /**
   * Show what an address says, and the row if it names one.
   * @param {import("./request.mjs").Fields} fields
   */
  async show(fields) {
    if (fields.collection) select(this._collection, fields.collection);
    this._under.abort();
    const { _under: before } = this;
    this._found.replaceChildren();
    const isCurrent = await this._describe(fields);
    if (isCurrent && this._under === before && "key.0" in fields) await this._run();
  }

  /** Leave the tab. */
  hide() {}

  // A field for each part of the key; where the collection does not say which, as many as the address has.
  // False if meanwhile another collection or address was to be described.
  async _describe(given) {
    this._describing.abort();
    this._describing = new AbortController();
    const { signal } = this._describing;
    if (!this._collection.value) await this._desk.listed;
    const name = this._collection.value;
    const described = name ? await this._desk.described(name, signal) : null;
    if (signal.aborted) return false;
    const asked = Object.keys(given).filter((field) => field.startsWith("key.")).length;
    const names = described?.spec.key ?? Array.from({ length: asked || 1 }, (_, at) => (at ? `key ${at + 1}` : "key"));
    this._keys.replaceChildren(...names.map((part, at) => field(part, at, given[`key.${at}`] ?? "")));
    return true;
  }

  async _submit() {
    const parts = this._parts().map((value, at) => [`key.${at}`, value]);
    this._desk.visit({ tab: "rows", fields: { collection: this._collection.value, ...Object.fromEntries(parts) } });
    await this._run();
  }

  async _run() {
    this._under.abort();
    this._under = new AbortController();
    const { signal } = this._under;
    if (!this._collection.value) {
      this._found.replaceChildren(el("p", { class: "note" }, "Choose a collection first."));
      return;
    }
    const sent = request(rowPath(this._collection.value, this._parts()));
    try {
      const { answer } = await call(sent, signal);
      this._found.replaceChildren(rowView(answer), requestView(sent));
    } catch (error) {
      if (error.name === "AbortError") return;
      this._found.replaceChildren(problemView(error), requestView(sent));
    }
  }

  _parts() {
    return Array.from(this._keys.querySelectorAll("input"), (input) => input.value);
  }
}

function field(name, at, value) {
  const input = el("input", { name: `key.${at}`, class: "code", autocomplete: "off", spellcheck: "false" });
  input.value = value;
  return el("label", { class: "field" }, el("span", {}, name), input);
}

function rowView(row) {
  const key = Array.isArray(row.key) ? row.key.join(" · ") : String(row.key);
  const pairs = Object.entries(row.fields).map(([name, value]) => [
    el("dt", {}, name),
    el("dd", { dir: "auto" }, valueView(value, row.masked.includes(name))),
  ]);
  const chunks = row.chunks === null ? [] : [`${count(row.chunks)} ${row.chunks === 1 ? "chunk" : "chunks"}`];
  const told = [
    `of source version ${count(row.source_version)}`,
    `committed there ${moment(row.source_committed_at)}`,
    ...chunks,
    `version ${count(row.version)}`,
  ];
  return el(
    "article",
    { class: "card row" },
    el("h3", { dir: "auto" }, key),
    el(
      "p",
      { class: "run" },
      told.map((text) => el("span", {}, text)),
    ),
    el("dl", { class: "values" }, pairs),
  );
}
