// Which words of a passage a query asked for. The index has its own analysers; this comes near enough to read by.

const WORD = /[\p{L}\p{N}][\p{L}\p{N}\p{M}]*/gu;
const ENDINGS = ["ingly", "edly", "ings", "ing", "ied", "ies", "ers", "er", "ed", "es", "ly", "s"];
const STOP_WORDS = new Set([
  ..."a an and are as at be but by for if in into is it no not of on or such that the their then there".split(" "),
  ..."these they this to was will with".split(" "),
]);

/**
 * @typedef {{text: string, marked: boolean}} Piece
 */

/**
 * Cut a text into pieces, of which those are marked that are words of the query or read like one.
 * @param {string} text
 * @param {string} query
 * @param {string} [language] of the collection's text; English words are compared without their endings
 * @returns {Piece[]} which together are the text
 */
export function markedPieces(text, query, language = "none") {
  const wanted = new Set(wordsOf(query, language));
  const pieces = [];
  let end = 0;
  for (const found of text.matchAll(WORD)) {
    if (!wanted.has(folded(found[0], language))) continue;
    if (found.index > end) pieces.push({ text: text.slice(end, found.index), marked: false });
    end = found.index + found[0].length;
    pieces.push({ text: found[0], marked: true });
  }
  if (end < text.length) pieces.push({ text: text.slice(end), marked: false });
  return pieces;
}

function wordsOf(query, language) {
  const words = Array.from(query.matchAll(WORD), (found) => found[0].toLowerCase());
  return words.filter((word) => language !== "english" || !STOP_WORDS.has(word)).map((word) => folded(word, language));
}

function folded(word, language) {
  const lower = word.normalize("NFC").toLowerCase();
  return language === "english" ? stem(lower) : lower;
}

function stem(word) {
  const ending = ENDINGS.find((end) => word.endsWith(end) && word.length - end.length >= 3);
  if (!ending || word.endsWith("ss")) return word.replace(/(?<=...)[ey]$/, "");
  const rest = word.slice(0, -ending.length);
  return rest.replace(/([^aeiousl])\1$/, "$1").replace(/(?<=...)[eiy]$/, "");
}
