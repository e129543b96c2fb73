// Searching one collection.

import { call, request } from "./calls.mjs";
import { requestView } from "./copying.mjs";
import { byId, el } from "./dom.mjs";
import { Editor } from "./editor.mjs";
import { fillFields, offer, readFields } from "./fields.mjs";
import { count, milliseconds } from "./figures.mjs";
import { bestOf, hitView } from "./hit-view.mjs";
import { showParameters } from "./parameter-fields.mjs";
import { hashOf } from "./place.mjs";
import { problemView, spotIn } from "./problem-view.mjs";
import { searchBody } from "./request.mjs";
import { runView } from "./run-view.mjs";

const DECAYS = /^(DATE|TIMESTAMP|BIGINT|DOUBLE|DECIMAL)/;

/** The tab in which a collection is searched. */
export class SearchView {
  /**
   * @param {import("./desk.mjs").Desk} desk
   */
  constructor(desk) {
    this._desk = desk;
    this._form = byId("search-form");
    this._said = byId("search-said");
    this._found = byId("search-found");
    this._filter = new Editor(byId("filter"), () => showParameters(byId("filter-parameters"), byId("filter").value));
    this._collection = byId("search-collection");
    this._described = null;
    this._shown = "";
    this._under = new AbortController();
    this._describing = new AbortController();
    this._form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this._submit();
    });
    this._form.addEventListener("input", () => this._fit());
    this._collection.addEventListener("change", () => void this._describe());
  }

  /**
   * Show what an address says, and search if it asks for something.
   * @param {import("./request.mjs").Fields} fields
   */
  async show(fields) {
    const shown = hashOf({ tab: "search", fields });
    if (shown === this._shown) return;
    this._shown = shown;
    this._under.abort();
    this._busy(false);
    fillFields(this._form, { collection: this._collection.value, ...fields });
    this._filter.text = fields.filter ?? "";
    showParameters(byId("filter-parameters"), this._filter.text, fields);
    for (const group of this._form.querySelectorAll("details")) {
      group.open ||= Array.from(group.querySelectorAll("[name]")).some((control) => control.name in fields);
    }
    const isCurrent = await this._describe(fields);
    if (!isCurrent || this._shown !== shown) return;
    const { query, filter, like } = searchBody(fields);
    if (query || filter || like) await this._run({ ...fields, collection: this._collection.value });
    else this._clear();
  }

  /** Leave the tab; what was typed stays for the way back. */
  hide() {
    this._desk.remember({ tab: "search", fields: readFields(this._form) });
  }

  async _submit() {
    const fields = { ...readFields(this._form), collection: this._collection.value };
    this._shown = this._desk.visit({ tab: "search", fields });
    await this._run(fields);
    // On a narrow screen the answers are below all that can be asked.
    if (this._said.getBoundingClientRect().top > innerHeight * 0.8) this._said.scrollIntoView();
  }

  async _run(fields) {
    this._under.abort();
    this._under = new AbortController();
    const { signal } = this._under;
    if (!fields.collection) {
      this._busy(false);
      this._said.textContent = "Choose a collection first.";
      return;
    }
    const body = searchBody(fields);
    const sent = request(`v1/collections/${encodeURIComponent(fields.collection)}/search`, body);
    this._filter.mark(null);
    this._busy(true);
    try {
      this._answered(await call(sent, signal), fields, body);
    } catch (error) {
      if (error.name === "AbortError") return;
      this._said.textContent = "";
      this._filter.mark(spotIn(error, "filter", body.filter ?? ""));
      this._found.replaceChildren(problemView(error, { filter: body.filter }), requestView(sent));
    }
    this._busy(false);
  }

  _answered(called, fields, body) {
    const { results, masked } = called.answer;
    const spec = this._described?.spec;
    const setting = {
      collection: fields.collection,
      query: body.query ?? "",
      language: spec?.text.language ?? "none",
      key: spec?.key ?? [],
      masked,
      best: bestOf(results),
    };
    this._said.textContent = said(called);
    this._found.replaceChildren(
      runView(called),
      masked.length ? el("p", { class: "note" }, `Masked for you: ${masked.join(", ")}.`) : "",
      results.length
        ? el(
            "ol",
            { class: "hits" },
            results.map((hit, at) => hitView(hit, at + 1, setting)),
          )
        : nothing(),
      requestView(called.sent),
    );
  }

  _busy(isBusy) {
    this._found.setAttribute("aria-busy", String(isBusy));
    if (isBusy) this._said.textContent = "Searching …";
  }

  _clear() {
    this._said.textContent = "";
    this._found.replaceChildren(byId("search-hint").content.cloneNode(true));
  }

  // What the collection has decides what can be asked for. False if meanwhile another one was to be described.
  async _describe({ decay = "", collapse = "" } = {}) {
    this._describing.abort();
    this._describing = new AbortController();
    const { signal } = this._describing;
    this._described = null;
    if (!this._collection.value) await this._desk.listed;
    const name = this._collection.value;
    const described = name ? await this._desk.described(name, signal) : null;
    if (signal.aborted) return false;
    this._described = described;
    const columns = Object.entries(this._described?.columns ?? {});
    const offered = columns.filter(([, type]) => DECAYS.test(type)).map(([column]) => column);
    byId("decay").value = decay;
    offer(byId("decay"), offered, [new Option("no decay", "")]);
    const single = columns.filter(([, type]) => !type.startsWith("ARRAY")).map(([column]) => column);
    byId("collapse").value = collapse;
    offer(byId("collapse"), single, [new Option("every row", "")]);
    this._weigh(this._described?.spec?.fusion?.weights);
    this._fit();
    return true;
  }

  // Where nobody moved it, the slider is at the collection's own weights, which are not sent.
  _weigh(own) {
    const slider = byId("vector-weight");
    const share = own ? own.vector / (own.vector + own.keyword) : 0.5;
    const was = slider.dataset.default;
    slider.dataset.default = String(Math.round(share * 20) / 20);
    if (slider.value === was) slider.value = slider.dataset.default;
  }

  _fit() {
    const mode = byId("mode").value;
    const spec = this._described?.spec;
    const hasQuery = byId("query").value.trim() !== "";
    const isHybrid = mode === "hybrid" || (mode === "" && (!spec || spec.vector.model !== null));
    byId("fusion-group").disabled = !isHybrid || !hasQuery;
    byId("stages-group").disabled = !hasQuery && byId("like").value.trim() === "";
    const noReranker = spec !== undefined && !spec.rerank;
    byId("rerank").disabled = noReranker || !hasQuery;
    byId("rerank-note").hidden = !noReranker;
    byId("rerank-more").hidden = !byId("rerank").checked;
    byId("decay-more").hidden = byId("decay").value === "";
    byId("collapse-more").hidden = byId("collapse").value === "";
    byId("diversify-more").hidden = !byId("diversify").checked;
    const share = Number(byId("vector-weight").value);
    byId("vector-weight-said").textContent = `meaning ${share.toFixed(2)}, words ${(1 - share).toFixed(2)}`;
    byId("diversity-said").textContent = Number(byId("diversity").value).toFixed(2);
  }
}

function said({ answer }) {
  const hits = answer.results.length;
  return `${count(hits)} ${hits === 1 ? "hit" : "hits"} in ${milliseconds(answer.took_ms.total)}`;
}

function nothing() {
  return el("p", { class: "empty" }, "Nothing that you may see passes the filter and fits the query.");
}
