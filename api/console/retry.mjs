// When to try again: what `Retry-After` says, in seconds or as a date (RFC 9110).

const LONGEST = 300;

/**
 * Return the seconds to wait, from 1 to 300; null where the header is not there or says something else.
 * @param {string | null} header
 * @param {number} [now] in milliseconds
 * @returns {number | null}
 */
export function secondsToWait(header, now = Date.now()) {
  const text = (header ?? "").trim();
  const isDate = /^[A-Z][a-z]+, .+ GMT$/.test(text);
  const seconds = isDate ? (Date.parse(text) - now) / 1000 : /^\d+(\.\d+)?$/.test(text) ? Number(text) : NaN;
  return Number.isNaN(seconds) ? null : Math.ceil(Math.min(LONGEST, Math.max(1, seconds)));
}

/**
 * Return the sentence that says so.
 * @param {number} seconds
 * @returns {string}
 */
export function retrySentence(seconds) {
  if (seconds > 90) return `Try again in ${Math.ceil(seconds / 60)} minutes.`;
  return `Try again in ${seconds} ${seconds === 1 ? "second" : "seconds"}.`;
}
