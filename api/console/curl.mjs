// A request as a line for a shell. The key is never in it: the shell has it in $KEY.

/**
 * @typedef {{method: string, url: string, body?: string, pretty?: string}} Sent what went out: `body` is JSON, and
 *   `pretty` the same in lines
 */

/**
 * Return the line that asks the same with curl.
 * @param {Sent} sent
 * @param {boolean} withKey whether a key goes along
 * @returns {string}
 */
export function curlLine(sent, withKey) {
  const parts = ["curl -fsS", quoted(sent.url)];
  if (withKey) parts.push('-H "Authorization: Bearer $KEY"');
  if (sent.body !== undefined) parts.push("-H 'content-type: application/json'", "-d", quoted(sent.body));
  return parts.join(" ");
}

function quoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
