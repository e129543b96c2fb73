// The collections and how they are, looked at again every few seconds while somebody sees them.

import { asProblem, call, request } from "./calls.mjs";
import { CollectionCard } from "./collection-card.mjs";
import { byId } from "./dom.mjs";
import { count } from "./figures.mjs";
import { problemView } from "./problem-view.mjs";

const LOOK_MS = 3000;
const LOOK_MS_EACH = 500;
/** Two looks a second at most, however many collections there are: a caller may have a quota, and a log every call. */

/** The tab that lists the collections. */
export class CollectionsView {
  /**
   * @param {import("./desk.mjs").Desk} desk
   */
  constructor(desk) {
    this._desk = desk;
    this._said = byId("collections-said");
    this._list = byId("collections-list");
    this._trouble = byId("collections-trouble");
    this._cards = new Map();
    this._shown = false;
    this._look = 0;
    setInterval(() => this._isSeen() && this._cards.forEach((card) => card.tick()), 1000);
    document.addEventListener("visibilitychange", () => this._isSeen() && void this._refresh());
  }

  /** Show the tab, and keep it new. */
  async show() {
    this._shown = true;
    await this._refresh();
  }

  /** Leave the tab: nothing is asked any more. */
  hide() {
    this._shown = false;
    clearTimeout(this._look);
  }

  _isSeen() {
    return this._shown && document.visibilityState === "visible";
  }

  async _refresh() {
    clearTimeout(this._look);
    let wait = 0;
    try {
      const lines = await this._desk.collections();
      this._trouble.replaceChildren();
      this._arrange(lines);
      for (const line of lines) wait = Math.max(wait, await this._status(line.name));
    } catch (error) {
      this._trouble.replaceChildren(problemView(error));
      this._arrange([]);
      if (error.status === 401) return;
      wait = error.retryAfter ?? 0;
    }
    clearTimeout(this._look);
    wait = Math.max(LOOK_MS, LOOK_MS_EACH * this._cards.size, wait * 1000);
    if (this._isSeen()) this._look = setTimeout(() => void this._refresh(), wait);
  }

  _arrange(lines) {
    const names = lines.map((line) => line.name);
    if (names.join("\n") !== [...this._cards.keys()].join("\n")) {
      this._cards = new Map(names.map((name) => [name, this._cards.get(name) ?? new CollectionCard(name)]));
      this._list.replaceChildren(...Array.from(this._cards.values(), (card) => card.element));
    }
    const said = names.length === 1 ? "1 collection" : names.length ? `${count(names.length)} collections` : "";
    if (this._said.textContent !== said) this._said.textContent = said;
    byId("collections-none").hidden = names.length > 0 || this._trouble.hasChildNodes();
    for (const line of lines) this._cards.get(line.name).list(line);
  }

  // The seconds that the server wants to be left alone for.
  async _status(name) {
    try {
      const { answer } = await call(request(`v1/collections/${encodeURIComponent(name)}/status`));
      this._cards.get(name)?.update(answer);
      return 0;
    } catch (error) {
      this._cards.get(name)?.fail(asProblem(error));
      return error.retryAfter ?? 0;
    }
  }
}
