// Calling the server that the page came from.

import { readJson, writeJson } from "./json.mjs";
import { key } from "./key.mjs";
import { secondsToWait } from "./retry.mjs";

/**
 * @typedef {import("./curl.mjs").Sent} Sent
 * @typedef {{message: string, code?: string, field?: string, line?: number, column?: number, length?: number,
 *   hint?: string}} Mistake
 * @typedef {{answer: any, sent: Sent, tookMs: number}} Called
 */

const MISTAKE = {
  message: "string",
  code: "string",
  field: "string",
  hint: "string",
  line: "number",
  column: "number",
  length: "number",
};

/** What was answered instead (RFC 9457), or that nothing was. A proxy may have said it: what is odd is left out. */
export class Problem extends Error {
  /**
   * @param {Partial<{status: number, title: string, detail: string, code: string, request_id: string,
   *   errors: Mistake[]}>} body
   * @param {number | null} retryAfter seconds
   */
  constructor(body, retryAfter = null) {
    super(textOf(body.detail) || textOf(body.title));
    this.status = body.status ?? 0;
    this.title = textOf(body.title) || "The server said something that is no problem as it describes them";
    this.detail = textOf(body.detail);
    this.code = textOf(body.code);
    this.requestId = textOf(body.request_id);
    this.errors = mistakesOf(body.errors);
    this.retryAfter = retryAfter;
  }
}

/**
 * Return an error as a problem. What is none came from reading an answer that has not what the page expects in it.
 * @param {unknown} error
 * @returns {Problem}
 */
export function asProblem(error) {
  if (error instanceof Problem) return error;
  const detail = "It is not as this page expects it. If the server was just updated, reload the page.";
  return new Problem({ title: "The answer cannot be shown", detail, errors: [{ message: String(error) }] });
}

function textOf(value) {
  return typeof value === "string" ? value : "";
}

function mistakesOf(errors) {
  const known = (mistake) => Object.entries(mistake).filter(([name, value]) => typeof value === MISTAKE[name]);
  const said = Array.isArray(errors) ? errors.filter((mistake) => textOf(mistake?.message)) : [];
  return said.map((mistake) => Object.fromEntries(known(mistake)));
}

/** Tells of answers that want to know who is asking. */
export const doorbell = new EventTarget();

/**
 * Return what goes out for a path and a body.
 * @param {string} path relative to the page
 * @param {any} [body] makes it a POST
 * @returns {Sent}
 */
export function request(path, body) {
  const url = new URL(path, document.baseURI).href;
  if (body === undefined) return { method: "GET", url };
  return { method: "POST", url, body: writeJson(body), pretty: writeJson(body, "  ") };
}

/**
 * Send a request and return its answer; throws a Problem, or an AbortError after `signal`.
 * @param {Sent} sent
 * @param {AbortSignal} [signal]
 * @returns {Promise<Called>}
 */
export async function call(sent, signal) {
  const headers = sent.body === undefined ? {} : { "Content-Type": "application/json" };
  if (key()) headers.Authorization = `Bearer ${key()}`;
  const started = performance.now();
  let response, text;
  try {
    response = await fetch(sent.url, { method: sent.method, headers, body: sent.body, signal, cache: "no-store" });
    text = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ title: "The server cannot be reached", detail: "Nothing answered. Is it still running?" });
  }
  const tookMs = performance.now() - started;
  const answer = jsonOrNull(text);
  if (!response.ok || answer === null) {
    if (response.status === 401) doorbell.dispatchEvent(new Event("unauthenticated"));
    throw new Problem({ ...answer, status: response.status }, secondsToWait(response.headers.get("Retry-After")));
  }
  return { answer, sent, tookMs };
}

function jsonOrNull(text) {
  try {
    return readJson(text);
  } catch {
    return null;
  }
}
