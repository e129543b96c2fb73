// A collection in the list: what is served, how old it is, and what somebody should see to.

import { adviceOf } from "./advice.mjs";
import { el, withCode } from "./dom.mjs";
import { ago, count, moment, size } from "./figures.mjs";
import { hashOf } from "./place.mjs";
import { Sparkline } from "./sparkline.mjs";

/** One card; it stays the same element while what it says changes. */
export class CollectionCard {
  /**
   * @param {string} name
   */
  constructor(name) {
    this.name = name;
    this._state = el("span", { class: "badge" });
    this._age = el("output", { class: "age" });
    this._rows = el("span");
    this._version = el("span");
    this._line = new Sparkline();
    this._facts = el("dl", { class: "facts" });
    this._advice = el("ul", { class: "advice", "aria-live": "polite" });
    this._told = "";
    this._known = null;
    this.element = el(
      "li",
      { class: "card collection" },
      el("header", {}, el("h3", {}, name), this._state, el("nav", { "aria-label": name }, links(name))),
      el(
        "dl",
        { class: "main" },
        el("div", {}, el("dt", {}, "age"), el("dd", {}, this._age)),
        el("div", {}, el("dt", {}, "rows"), el("dd", {}, this._rows)),
        el("div", {}, el("dt", {}, "version"), el("dd", {}, this._version)),
        this._line.element,
      ),
      this._facts,
      this._advice,
    );
  }

  /**
   * Show what the list says, before the status is there.
   * @param {{state: string, version: number | null}} line
   */
  list({ state }) {
    if (!this._known) this._badge(state, []);
  }

  /**
   * Show a status.
   * @param {any} status
   */
  update(status) {
    this._known = { status, at: performance.now() };
    const advice = adviceOf(status);
    this._badge(status.state, advice);
    this._rows.textContent = count(status.rows);
    this._version.textContent = count(status.version);
    this._facts.replaceChildren(
      ...factsOf(status).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))),
    );
    const told = JSON.stringify(advice);
    if (told !== this._told) {
      this._told = told;
      this._advice.replaceChildren(...advice.map(({ level, text }) => el("li", { class: level }, withCode(text))));
    }
    this.tick();
  }

  /**
   * Show that the status could not be read.
   * @param {import("./calls.mjs").Problem} problem
   */
  fail(problem) {
    this._told = "";
    this._advice.replaceChildren(el("li", { class: "bad" }, `${problem.title}. ${problem.detail}`));
  }

  /** A second has passed: an age grows until the next look. */
  tick() {
    const age = this._known?.status.age_seconds ?? null;
    const now = age === null ? null : age + (performance.now() - this._known.at) / 1000;
    this._age.textContent = ago(now);
    if (now !== null) this._line.add(now);
  }

  _badge(state, advice) {
    const isWell = advice.every(({ level }) => level === "note");
    const isBad = state === "failed" || advice.some(({ level }) => level === "bad");
    this._state.textContent = state === "open" && !isWell ? "look below" : state;
    this._state.className = `badge ${isBad ? "bad" : isWell ? "good" : "warn"}`;
  }
}

function links(name) {
  const fields = { collection: name };
  const sql = `SELECT * FROM ${/^[a-z_]\w*$/i.test(name) ? name : `\`${name}\``} LIMIT 20`;
  return [
    el("a", { href: hashOf({ tab: "search", fields }) }, "Search"),
    el("a", { href: hashOf({ tab: "sql", fields: { sql } }) }, "SQL"),
    el("a", { href: hashOf({ tab: "rows", fields }) }, "Rows"),
  ];
}

function factsOf(status) {
  const { source, sync } = status;
  const newer = status.latest_version > status.version ? [["coming", `version ${count(status.latest_version)}`]] : [];
  const facts = [
    ...newer,
    ["source", source ? [`version ${count(source.version)}`, since(source.committed_at)] : "–"],
    ["last look", sync ? `${ago(sync.seconds_ago)} ago` : "–"],
  ];
  if (status.rows === undefined) return [...facts, ["counts", "for callers with the action 'monitor'"]];
  return [
    ...facts,
    ["last sync", status.sync_failed_at ? ["failed", since(status.sync_failed_at)] : sync ? "went well" : "–"],
    ["retention used", retention(status)],
    ["held", status.held ? [status.held.kind.replace("_", " "), since(status.held.since)] : "no"],
    ["set aside", count(status.dead_letters)],
    ["chunks", `${count(status.chunks)}, ${count(status.deleted_chunks)} deleted`],
    ["segments", `${count(status.segments)}, ${size(status.size_bytes)}`],
  ];
}

function since(time) {
  if (!time) return null;
  return el("time", { datetime: time, title: moment(time) }, `, ${ago((Date.now() - Date.parse(time)) / 1000)} ago`);
}

function retention({ retention_used: used, retention_seconds: kept, reads }) {
  if (reads === "snapshots") return "needs none: compares snapshots";
  if (used === null) return "–";
  return el(
    "span",
    { class: "retention" },
    el("meter", { min: "0", max: "1", low: "0.5", high: "0.9", optimum: "0", value: String(Math.min(1, used)) }),
    ` ${(used * 100).toFixed(used < 0.1 ? 1 : 0)} % of ${ago(kept)}`,
  );
}
