// Calling the server that the page came from.

import { readJson, writeJson } from "./json.mjs";
import { key } from "./key.mjs";

/**
 * @typedef {import("./curl.mjs").Sent} Sent
 * @typedef {{message: string, code?: string, field?: string, line?: number, column?: number, length?: number,
 *   hint?: string}} Mistake
 * @typedef {{answer: any, sent: Sent, tookMs: number}} Called
 */

/** What the server answered instead (RFC 9457), or that it did not answer. */
export class Problem extends Error {
  /**
   * @param {Partial<{status: number, title: string, detail: string, code: string, request_id: string,
   *   errors: Mistake[]}>} body
   * @param {string | null} retryAfter seconds
   */
  constructor(body, retryAfter = null) {
    super(body.detail ?? body.title ?? "");
    this.status = body.status ?? 0;
    this.title = body.title ?? "The server said something that is no problem as it describes them";
    this.detail = body.detail ?? "";
    this.code = body.code ?? "";
    this.requestId = body.request_id ?? "";
    this.errors = body.errors ?? [];
    this.retryAfter = retryAfter;
  }
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
    throw new Problem({ status: response.status, ...answer }, response.headers.get("Retry-After"));
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
