// The page: its tabs and its address.

import { call, request } from "./calls.mjs";
import { CollectionsView } from "./collections-view.mjs";
import { Desk } from "./desk.mjs";
import { byId } from "./dom.mjs";
import { KeyView } from "./key-view.mjs";
import { TABS, placeOf } from "./place.mjs";
import { RowsView } from "./rows-view.mjs";
import { SearchView } from "./search-view.mjs";
import { SqlView } from "./sql-view.mjs";

/**
 * @typedef {{show: (fields: Record<string, string>) => Promise<void>, hide: () => void}} View
 */

byId("late").hidden = true; // it is for those whom a server of another version did not give this module

const desk = new Desk();
/** @type {Record<string, View>} */
const views = {
  collections: new CollectionsView(desk),
  search: new SearchView(desk),
  sql: new SqlView(desk),
  rows: new RowsView(desk),
};

let shown = "";

async function show() {
  const place = placeOf(location.hash);
  if (shown && shown !== place.tab) views[shown].hide();
  shown = place.tab;
  desk.remember(place);
  for (const tab of TABS) {
    byId(tab).hidden = tab !== place.tab;
    byId(`to-${tab}`).setAttribute("aria-current", tab === place.tab ? "page" : "false");
  }
  document.title = `Grebe: ${byId(`to-${place.tab}`).textContent.toLowerCase()}`;
  await views[place.tab].show(place.fields);
}

async function tellVersion() {
  const { answer } = await call(request("version"));
  byId("version").textContent = `Grebe ${answer.version}, Python ${answer.python}`;
}

if (matchMedia("(min-width: 60rem)").matches) {
  for (const group of document.querySelectorAll("details[data-open-wide]")) group.open = true;
}
new KeyView(() => location.reload()); // nothing stays of what another caller was shown
byId("skip").addEventListener("click", (event) => {
  event.preventDefault(); // its target would be taken for a tab
  byId("main").focus();
});
addEventListener("hashchange", () => void show());
void show();
desk.collections().catch(() => {}); // the tab that lists them says why there are none
tellVersion().catch(() => {}); // the page is whole without it
