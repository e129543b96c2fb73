// The numbers that made a score, in the order in which they did.

const LEGS = ["vector", "keyword"];
const STAGES = ["rerank", "decay", "collapse", "diversify"];

/**
 * @typedef {{name: string, rank: number, raw_score: number, normalised_score: number, weight: number,
 *   added: number}} Leg
 * @typedef {{name: string, numbers: Record<string, number | null>}} Stage
 * @typedef {{legs: Leg[], fused: number, stages: Stage[]}} Explained `fused` is what the legs add up to
 */

/**
 * Take an explanation of the server's apart.
 * @param {Record<string, any>} explanation
 * @returns {Explained}
 */
export function explainedParts(explanation) {
  const legs = LEGS.filter((name) => explanation[name]).map((name) => ({ name, ...explanation[name] }));
  return {
    legs,
    fused: legs.reduce((sum, leg) => sum + leg.added, 0),
    stages: STAGES.filter((name) => explanation[name]).map((name) => ({ name, numbers: explanation[name] })),
  };
}

/**
 * Say in a sentence what a stage did to a score, from its numbers.
 * @param {Stage} stage
 * @param {(score: number | null) => string} show
 * @returns {string}
 */
export function stageSentence({ name, numbers }, show) {
  const from = `was ${show(numbers.score_before)}, rank ${numbers.rank_before}`;
  if (name === "rerank") return `${from}; the model's ${show(numbers.raw_score)} makes it ${show(numbers.score)}`;
  if (name === "decay") {
    const factor = `factor ${show(numbers.factor)} with weight ${show(numbers.weight)}`;
    const distance = numbers.distance === null ? "no value, so " : "";
    return `${from}; ${show(numbers.relevance)} of the best, ${distance}${factor}: ${show(numbers.score)}`;
  }
  if (name === "collapse") {
    return numbers.turn === 0 ? `${from}; it has no value, and stays` : `${from}; number ${numbers.turn} of its value`;
  }
  const penalty = `less ${show(numbers.penalty)} for likeness ${show(numbers.similarity)} to a hit above`;
  const relevance = `its relevance ${show(numbers.relevance)} × ${show(1 - numbers.diversity)}`;
  return `${from}; picked at ${show(numbers.mmr)}: ${relevance}, ${penalty}`;
}
