// What the tabs share: where each was left, and what the server says that there is.

import { call, request } from "./calls.mjs";
import { byId } from "./dom.mjs";
import { offer } from "./fields.mjs";
import { TABS, hashOf } from "./place.mjs";

const CHOICES = ["search-collection", "rows-collection"];

/** One for the page. */
export class Desk {
  constructor() {
    this._last = Object.fromEntries(TABS.map((tab) => [tab, { tab, fields: {} }]));
    this._collection = "";
    /** Settles when the server has said for the first time which collections there are, or that it does not. */
    this.listed = new Promise((settle) => (this._settle = settle));
  }

  /**
   * Put a place into the address, so that it can be shared and gone back to.
   * @param {import("./place.mjs").Place} place
   * @returns {string} what the address says from now on
   */
  visit(place) {
    if (hashOf(place) !== location.hash) history.pushState(null, "", hashOf(place));
    this.remember(place);
    return hashOf(place);
  }

  /**
   * Keep in mind where a tab was left, and which collection was meant.
   * @param {import("./place.mjs").Place} place
   */
  remember(place) {
    this._last[place.tab] = place;
    this._collection = place.fields.collection || this._collection;
    for (const tab of TABS) byId(`to-${tab}`).href = hashOf(this._placeOf(tab));
  }

  _placeOf(tab) {
    const { fields } = this._last[tab];
    return { tab, fields: tab === "search" || tab === "rows" ? { collection: this._collection, ...fields } : fields };
  }

  /**
   * Return the collections that the caller may use, and offer them wherever one is chosen; throws a Problem.
   * @returns {Promise<{name: string, state: string, version: number | null}[]>}
   */
  async collections() {
    try {
      const { collections } = (await call(request("v1/collections"))).answer;
      const names = collections.map((line) => line.name);
      for (const id of CHOICES) {
        offer(byId(id), names);
        if (!byId(id).value && names.length) byId(id).value = names[0];
      }
      return collections;
    } catch (error) {
      for (const id of CHOICES) byId(id).querySelector("[data-asking]")?.remove();
      throw error;
    } finally {
      this._settle();
    }
  }

  /**
   * Return a collection's spec and columns; null where the server does not say.
   * @param {string} name
   * @param {AbortSignal} signal after which it is null too
   * @returns {Promise<any>}
   */
  async described(name, signal) {
    try {
      return (await call(request(`v1/collections/${encodeURIComponent(name)}`), signal)).answer;
    } catch {
      return null; // whatever is asked next says why
    }
  }
}
