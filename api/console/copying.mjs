// The request as it was sent, to look at and to take along.

import { curlLine } from "./curl.mjs";
import { el } from "./dom.mjs";
import { key } from "./key.mjs";

const TOLD_MS = 2000;

/**
 * Return the buttons that copy a request, and the request itself to unfold.
 * @param {import("./curl.mjs").Sent} sent
 * @param {...HTMLElement} others buttons that stand before
 * @returns {HTMLElement}
 */
export function requestView(sent, ...others) {
  const curl = curlLine(sent, key() !== null);
  const buttons = [...others, copyButton("Copy as curl", curl)];
  const shown = [el("pre", {}, curl)];
  if (sent.body !== undefined) {
    buttons.push(copyButton("Copy as JSON", sent.pretty));
    shown.push(el("pre", {}, sent.pretty));
  }
  return el("div", { class: "request" }, buttons, el("details", {}, el("summary", {}, "The request as sent"), shown));
}

function copyButton(label, text) {
  const button = el("button", { type: "button", class: "quiet", click: () => void copy() }, label);
  async function copy() {
    button.textContent = (await copied(text)) ? "Copied" : "Not copied: unfold the request";
    setTimeout(() => (button.textContent = label), TOLD_MS);
  }
  return button;
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copiedByHand(text); // over plain HTTP from another host a page has no clipboard
  }
}

function copiedByHand(text) {
  const area = el("textarea", { class: "aside" });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}
