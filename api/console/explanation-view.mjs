// Why a hit has its score, to look at: what each leg added, and what each stage made of it.

import { legend, stackedBar } from "./bars.mjs";
import { el } from "./dom.mjs";
import { explainedParts, stageSentence } from "./explanation.mjs";
import { score } from "./figures.mjs";

/**
 * Return the bar of a hit's legs; `best` is the largest sum of a hit in the answer.
 * @param {Record<string, any>} explanation
 * @param {number} best
 * @returns {HTMLElement}
 */
export function legsBar(explanation, best) {
  const { legs, fused } = explainedParts(explanation);
  return stackedBar(legs.map(partOf), `${legs.map(sentence).join(", ")}; ${score(fused)} together`, best);
}

/**
 * Return the whole explanation of a hit.
 * @param {Record<string, any>} explanation
 * @param {number} hitScore
 * @returns {HTMLElement}
 */
export function explanationView(explanation, hitScore) {
  const explained = explainedParts(explanation);
  return el(
    "div",
    { class: "explanation" },
    stackedBar(explained.legs.map(partOf), "what each leg added"),
    legend(explained.legs.map(partOf)),
    legsTable(explained),
    explained.stages.length ? el("ol", { class: "stages" }, explained.stages.map(stageItem)) : null,
    explained.stages.length ? el("p", { class: "final" }, "The score: ", el("b", {}, score(hitScore))) : null,
  );
}

function legsTable({ legs, fused }) {
  const heads = ["leg", "rank", "raw", "normalised", "weight", "added"];
  const rows = legs.map((leg) => {
    const numbers = [
      String(leg.rank),
      ...["raw_score", "normalised_score", "weight", "added"].map((name) => score(leg[name])),
    ];
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, leg.name),
      numbers.map((number) => el("td", {}, number)),
    );
  });
  const sum = el(
    "tr",
    {},
    el("th", { scope: "row", colspan: "5" }, "together"),
    el("td", { class: "sum" }, score(fused)),
  );
  return el(
    "div",
    { class: "scrolling" },
    el(
      "table",
      { class: "numbers" },
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          heads.map((head) => el("th", { scope: "col" }, head)),
        ),
      ),
      el("tbody", {}, rows),
      el("tfoot", {}, sum),
    ),
  );
}

function stageItem(stage) {
  const value = stage.numbers.score ?? stage.numbers.mmr;
  const bar = stackedBar([{ name: stage.name, value, shown: score(value) }], `${stage.name}: ${score(value)} of 1`, 1);
  return el("li", {}, el("b", {}, stage.name), ` ${stageSentence(stage, score)}`, bar);
}

function partOf(leg) {
  return { name: leg.name, value: leg.added, shown: score(leg.added) };
}

function sentence(leg) {
  return `${leg.name} ${score(leg.added)}`;
}
