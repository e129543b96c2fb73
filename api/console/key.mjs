// The caller's key or token. It lives in the storage of this tab's session and goes into one header, nowhere else.

const PLACE = "grebe.key";

/**
 * Return the key, null if there is none.
 * @returns {string | null}
 */
export function key() {
  return sessionStorage.getItem(PLACE);
}

/**
 * Keep a key; null forgets it.
 * @param {string | null} value
 */
export function keepKey(value) {
  if (value === null) sessionStorage.removeItem(PLACE);
  else sessionStorage.setItem(PLACE, value);
}

/**
 * Say whether a text can be a key or a token at all: what a header may carry, without spaces.
 * @param {string} value
 * @returns {boolean}
 */
export function canBeKey(value) {
  return /^[\x21-\x7e]+$/.test(value);
}
