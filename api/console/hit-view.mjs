// A hit as a card: its passage with the query's words marked, its fields, and why it has its score.

import { el } from "./dom.mjs";
import { explanationView, legsBar } from "./explanation-view.mjs";
import { explainedParts } from "./explanation.mjs";
import { score } from "./figures.mjs";
import { hashOf } from "./place.mjs";
import { keyText } from "./request.mjs";
import { valueView } from "./value-view.mjs";
import { markedPieces } from "./words.mjs";

/**
 * @typedef {{collection: string, query: string, language: string, masked: string[], best: number,
 *   key: string[]}} Setting `key` names the key's columns, which the title of a card has already
 */

/**
 * Return the largest sum of legs among hits: the length of a full bar.
 * @param {any[]} hits
 * @returns {number}
 */
export function bestOf(hits) {
  return Math.max(0, ...hits.map((hit) => (hit.explanation ? explainedParts(hit.explanation).fused : 0)));
}

/**
 * Return the card of a hit.
 * @param {any} hit
 * @param {number} rank from 1
 * @param {Setting} setting
 * @returns {HTMLElement}
 */
export function hitView(hit, rank, setting) {
  const keys = Array.isArray(hit.key) ? hit.key : [hit.key];
  return el(
    "li",
    { class: "card hit" },
    el(
      "header",
      {},
      el("span", { class: "rank" }, String(rank)),
      el("h3", { dir: "auto" }, keys.join(" · ")),
      hit.explanation ? legsBar(hit.explanation, setting.best) : null,
      el("span", { class: "score", title: String(hit.score) }, score(hit.score)),
    ),
    passageView(hit.text, setting),
    fieldsView(hit.fields, setting),
    el(
      "nav",
      { class: "onward", "aria-label": `Onward from ${keys.join(" · ")}` },
      el("a", { href: likeLink(setting.collection, keys) }, "More like this"),
      el("a", { href: rowLink(setting.collection, keys) }, "Whole row"),
    ),
    hit.explanation ? whyView(hit) : null,
  );
}

function passageView(text, { query, language }) {
  if (text === null) return el("p", { class: "passage none" }, "No passage: its text is masked for you.");
  const pieces = markedPieces(text, query, language);
  return el(
    "p",
    { class: "passage", dir: "auto" },
    pieces.map((piece) => (piece.marked ? el("mark", {}, piece.text) : piece.text)),
  );
}

function fieldsView(fields, { key, masked }) {
  const others = Object.entries(fields).filter(([name]) => !key.includes(name));
  const pair = ([name, value]) =>
    el("div", {}, el("dt", {}, name), el("dd", { dir: "auto" }, valueView(value, masked.includes(name))));
  return el("dl", { class: "fields" }, others.map(pair));
}

function whyView(hit) {
  return el(
    "details",
    { class: "why" },
    el("summary", {}, "Why this score"),
    explanationView(hit.explanation, hit.score),
  );
}

function likeLink(collection, keys) {
  return hashOf({ tab: "search", fields: { collection, like: keyText(keys) } });
}

function rowLink(collection, keys) {
  const fields = Object.fromEntries(keys.map((value, at) => [`key.${at}`, String(value)]));
  return hashOf({ tab: "rows", fields: { collection, ...fields } });
}
