// A field for each `:name` parameter of a text.

import { el } from "./dom.mjs";
import { parameterNames } from "./parameters.mjs";
import { PARAMETER } from "./request.mjs";

/**
 * Show a field for each parameter of `sql` in `box`, keeping what was typed; `given` are values to begin with.
 * @param {HTMLElement} box
 * @param {string} sql
 * @param {import("./request.mjs").Fields} [given]
 */
export function showParameters(box, sql, given) {
  const names = parameterNames(sql);
  const shown = Array.from(box.querySelectorAll("input"));
  if (!given && names.join() === shown.map((input) => input.name.slice(PARAMETER.length)).join()) return;
  const typed = given ?? Object.fromEntries(shown.map((input) => [input.name, input.value]));
  box.replaceChildren(...names.map((name) => field(name, typed[PARAMETER + name] ?? "")));
}

function field(name, value) {
  const input = el("input", { name: PARAMETER + name, autocomplete: "off", spellcheck: "false", class: "code" });
  input.value = value;
  return el("label", { class: "field" }, el("span", {}, el("code", {}, `:${name}`)), input);
}
