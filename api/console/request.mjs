// From what stands in the forms, as texts by name, to the bodies of requests. What is left at its default is left out.

import { typedValue } from "./json.mjs";
import { parameterNames } from "./parameters.mjs";

/**
 * @typedef {Record<string, string>} Fields
 */

export const PARAMETER = "param.";

/**
 * Return the body of a search.
 * @param {Fields} fields
 * @returns {Record<string, any>}
 */
export function searchBody(fields) {
  const body = {};
  if (fields.query?.trim()) body.query = fields.query;
  if (fields.like?.trim()) body.like = keyRead(fields.like.trim());
  if (fields.mode) body.mode = fields.mode;
  if (fields.k) body.k = numberOf(fields.k);
  if (fields.filter?.trim()) {
    body.filter = fields.filter;
    Object.assign(body, parametersOf(fields.filter, fields), dialectOf(fields));
  }
  const fusion = fusionOf(fields);
  if (fusion) body.fusion = fusion;
  if (fields.rerank) body.rerank = depthOf(fields.rerank_depth);
  if (fields.decay) body.decay = decayOf(fields);
  if (fields.collapse) body.collapse = { column: fields.collapse, most: numberOf(fields.collapse_most || "1") };
  if (fields.diversify) body.diversify = { diversity: numberOf(fields.diversity || "0.5") };
  Object.assign(body, freshnessOf(fields));
  if (fields.explain !== "no") body.explain = true;
  return body;
}

/**
 * Return the body of a statement in SQL.
 * @param {Fields} fields
 * @returns {Record<string, any>}
 */
export function sqlBody(fields) {
  const sql = fields.sql ?? "";
  return { sql, ...parametersOf(sql, fields), ...dialectOf(fields) };
}

/**
 * Return the path of a row: a key's values, each percent-encoded, joined by commas.
 * @param {string} collection
 * @param {string[]} values
 * @returns {string}
 */
export function rowPath(collection, values) {
  return `v1/collections/${encodeURIComponent(collection)}/rows/${values.map(encodeURIComponent).join(",")}`;
}

/**
 * Return the text of a key that `like` takes: of a composite one a JSON list.
 * @param {(string | number | boolean)[]} values
 * @returns {string}
 */
export function keyText(values) {
  const [only] = values.map(String);
  return values.length === 1 && !only.startsWith("[") ? only : JSON.stringify(values.map(String));
}

function keyRead(text) {
  const value = text.startsWith("[") ? typedValue(text) : text;
  return Array.isArray(value) ? value : text;
}

function parametersOf(text, fields) {
  // One that was left empty is not sent: the server says that it is missing, and where it stands.
  const given = parameterNames(text).filter((name) => fields[PARAMETER + name]);
  if (given.length === 0) return {};
  return { params: Object.fromEntries(given.map((name) => [name, typedValue(fields[PARAMETER + name])])) };
}

function dialectOf(fields) {
  return fields.dialect ? { dialect: fields.dialect } : {};
}

function fusionOf(fields) {
  if (fields.mode && fields.mode !== "hybrid") return null;
  const fusion = {};
  if (fields.fusion) fusion.kind = fields.fusion;
  if (fields.vector_weight) {
    const vector = numberOf(fields.vector_weight);
    fusion.weights = { vector, keyword: Math.round((1 - vector) * 100) / 100 };
  }
  return Object.keys(fusion).length ? fusion : null;
}

function depthOf(depth) {
  return depth ? { depth: numberOf(depth) } : {};
}

function decayOf(fields) {
  const decay = { column: fields.decay };
  if (fields.decay_scale) decay.scale = typedValue(fields.decay_scale);
  if (fields.decay_kind) decay.kind = fields.decay_kind;
  if (fields.decay_origin) decay.origin = typedValue(fields.decay_origin);
  if (fields.decay_weight) decay.weight = numberOf(fields.decay_weight);
  return decay;
}

function freshnessOf(fields) {
  const asked = {};
  for (const name of ["min_version", "max_staleness_seconds", "deadline_ms"]) {
    if (fields[name]) asked[name] = typedValue(fields[name]);
  }
  return asked;
}

// What is no number goes to the server as it is, which says what it expected.
function numberOf(text) {
  const number = Number(text);
  return text.trim() && Number.isFinite(number) ? number : text;
}
