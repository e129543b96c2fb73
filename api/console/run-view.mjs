// How an answer came about: its version and age, its plan, and where its time went.

import { legend, stackedBar } from "./bars.mjs";
import { el } from "./dom.mjs";
import { ago, count, milliseconds } from "./figures.mjs";

/**
 * Return the lines under an answer of a search or a statement.
 * @param {import("./calls.mjs").Called} called
 * @returns {HTMLElement}
 */
export function runView({ answer, tookMs }) {
  return el(
    "div",
    { class: "run" },
    el("p", {}, ...spaced([...plan(answer), ...freshness(answer)])),
    times(answer, tookMs),
  );
}

function freshness(answer) {
  const source = answer.source ? `source version ${count(answer.source.version)}` : "nothing read from the source yet";
  return [`version ${count(answer.version)}`, source, `${ago(answer.age_seconds)} old`];
}

function plan({ plan }) {
  const told = [`mode ${plan.mode}`];
  if (plan.vector) told.push(`vectors ${plan.vector}`);
  if (typeof plan.passing === "number") told.push(`${count(plan.passing)} of ${count(plan.chunks)} chunks pass`);
  if (typeof plan.rows === "number") told.push(`${count(plan.rows)} rows looked at`);
  return told;
}

function times(answer, tookMs) {
  const { total, ...laps } = answer.took_ms;
  const parts = Object.entries(laps).map(([name, value]) => ({ name, value, shown: milliseconds(value) }));
  const label = `${milliseconds(total)} on the server, ${milliseconds(tookMs)} until it was here`;
  return el(
    "div",
    { class: "times" },
    el("p", {}, label),
    stackedBar(parts, `where the time went: ${label}`),
    legend(parts),
  );
}

function spaced(texts) {
  return texts.map((text) => el("span", {}, text));
}
