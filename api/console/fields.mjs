// What stands in a form, as texts by name, without what is at its default (its `data-default`, or nothing).

/**
 * @typedef {import("./request.mjs").Fields} Fields
 */

/**
 * Return what stands in a form.
 * @param {HTMLFormElement} form
 * @returns {Fields}
 */
export function readFields(form) {
  const found = {};
  for (const control of named(form)) {
    const value = control.type === "checkbox" ? (control.checked ? "yes" : "no") : control.value;
    if (value !== defaultOf(control) && !control.matches(":disabled")) found[control.name] = value;
  }
  return found;
}

/**
 * Put fields into a form; what they do not name goes to its default.
 * @param {HTMLFormElement} form
 * @param {Fields} fields
 */
export function fillFields(form, fields) {
  for (const control of named(form)) {
    const value = fields[control.name] ?? defaultOf(control);
    if (control.type === "checkbox") control.checked = value === "yes";
    else if (control instanceof HTMLSelectElement) select(control, value);
    else control.value = value;
  }
}

/**
 * Choose a value; one that is not offered is offered from now on.
 * @param {HTMLSelectElement} control
 * @param {string} value
 */
export function select(control, value) {
  const isOffered = Array.from(control.options).some((option) => option.value === value);
  if (!isOffered && value) control.add(new Option(value, value));
  if (isOffered || value) control.value = value;
}

/**
 * Offer these values, and keep the choice.
 * @param {HTMLSelectElement} control
 * @param {string[]} values
 * @param {Option[]} before options that stand first
 */
export function offer(control, values, before = []) {
  const chosen = control.value;
  control.replaceChildren(...before, ...values.map((value) => new Option(value, value)));
  if (chosen) select(control, chosen);
}

function named(form) {
  return Array.from(form.elements).filter((control) => control.name);
}

function defaultOf(control) {
  return control.dataset.default ?? (control.type === "checkbox" ? "no" : "");
}
