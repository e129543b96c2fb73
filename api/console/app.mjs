// The page: its tabs, its address, and what the tabs share.

import { call, request } from "./calls.mjs";
import { CollectionsView } from "./collections-view.mjs";
import { byId } from "./dom.mjs";
import { offer } from "./fields.mjs";
import { KeyView } from "./key-view.mjs";
import { TABS, hashOf, placeOf } from "./place.mjs";
import { RowsView } from "./rows-view.mjs";
import { SearchView } from "./search-view.mjs";
import { SqlView } from "./sql-view.mjs";

/**
 * @typedef {{show: (fields: Record<string, string>) => Promise<void>, hide: () => void}} View
 */

/** What the tabs share: where they are, and what the server says that there is. */
export class Desk {
  constructor() {
    this._last = Object.fromEntries(TABS.map((tab) => [tab, { tab, fields: {} }]));
    this._collection = "";
  }

  /**
   * Put a place into the address, so that it can be shared and gone back to.
   * @param {import("./place.mjs").Place} place
   */
  visit(place) {
    if (hashOf(place) !== location.hash) history.pushState(null, "", hashOf(place));
    this.remember(place);
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
    const { collections } = (await call(request("v1/collections"))).answer;
    const names = collections.map((line) => line.name);
    for (const id of ["search-collection", "rows-collection"]) {
      offer(byId(id), names);
      if (!byId(id).value && names.length) byId(id).value = names[0];
    }
    return collections;
  }

  /**
   * Return a collection's spec and columns; null where the server does not say.
   * @param {string} name
   * @returns {Promise<any>}
   */
  async described(name) {
    try {
      return (await call(request(`v1/collections/${encodeURIComponent(name)}`))).answer;
    } catch {
      return null; // whatever is asked next says why
    }
  }
}

const desk = new Desk();
/** @type {Record<string, View>} */
const views = {
  collections: new CollectionsView(desk),
  search: new SearchView(desk),
  sql: new SqlView(desk),
  rows: new RowsView(desk),
};

async function show() {
  const place = placeOf(location.hash);
  desk.remember(place);
  for (const tab of TABS) {
    byId(tab).hidden = tab !== place.tab;
    byId(`to-${tab}`).setAttribute("aria-current", tab === place.tab ? "page" : "false");
    if (tab !== place.tab) views[tab].hide();
  }
  document.title = `Grebe: ${byId(`to-${place.tab}`).textContent.toLowerCase()}`;
  await views[place.tab].show(place.fields);
}

async function start() {
  await desk.collections().catch(() => []); // the tab that is shown says why there are none
  await show();
}

async function tellVersion() {
  const { answer } = await call(request("version"));
  byId("version").textContent = `Grebe ${answer.version}, Python ${answer.python}`;
}

if (matchMedia("(min-width: 60rem)").matches) {
  for (const group of document.querySelectorAll("details[data-open-wide]")) group.open = true;
}
new KeyView(() => void start());
addEventListener("hashchange", () => void show());
void start();
tellVersion().catch(() => {}); // the page is whole without it
