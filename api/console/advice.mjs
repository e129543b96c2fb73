// What somebody should see to in a collection, in plain words.

import { count, moment } from "./figures.mjs";

/**
 * @typedef {{level: "bad" | "warn" | "note", text: string}} Advice `text` has commands between backticks
 */

/**
 * Return what a status answer gives reason to say, the worst first.
 * @param {any} status
 * @returns {Advice[]}
 */
export function adviceOf(status) {
  const { name, failure } = status;
  const said = [];
  if (status.state === "opening") said.push({ level: "note", text: "The first version is being opened." });
  if (status.state === "failed" && !failure)
    said.push({ level: "bad", text: "No version could be opened; the server's log says why." });
  if (failure) said.push({ level: "bad", text: failureSentence(status) });
  for (const warning of status.warnings ?? []) said.push({ level: "warn", text: withoutName(warning, name) });
  if (status.dead_letters) {
    const rows = status.dead_letters === 1 ? "1 row is" : `${count(status.dead_letters)} rows are`;
    said.push({
      level: "warn",
      text: `${rows} set aside, because they cannot be indexed: \`grebe status ${name}\` lists them and why.`,
    });
  }
  if (status.rebuild_pending) {
    said.push({
      level: "note",
      text: `A spec waits for its index: \`grebe sync ${name}\` builds it, beside the one that serves.`,
    });
  }
  if (status.state === "open" && !status.source) {
    said.push({ level: "note", text: `Nothing has been read from the source yet: \`grebe sync ${name}\`.` });
  }
  return said;
}

function failureSentence({ failure, version }) {
  const which = failure.version === null ? "The newest version" : `Version ${failure.version}`;
  const served = version === null ? "nothing is served" : `version ${version} is served on`;
  const file = failure.file ? ` (${failure.file})` : "";
  const then = `Until it can, ${served}; the next try is at ${moment(failure.retry_at)}.`;
  return `${which} cannot be opened${file}: ${failure.error}. ${then}`;
}

function withoutName(warning, name) {
  const rest = warning.startsWith(`${name}: `) ? warning.slice(name.length + 2) : warning;
  return rest.charAt(0).toUpperCase() + rest.slice(1);
}
