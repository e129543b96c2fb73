// Saying who is asking.

import { doorbell } from "./calls.mjs";
import { byId } from "./dom.mjs";
import { canBeKey, keepKey, key } from "./key.mjs";

/** The field for the key, and the button that opens it. */
export class KeyView {
  /**
   * @param {() => void} changed called when there is another key, or none any more
   */
  constructor(changed) {
    this._changed = changed;
    this._panel = byId("key-panel");
    this._button = byId("key-button");
    this._input = byId("key");
    this._button.addEventListener("click", () => this._open(this._panel.hidden));
    byId("key-forget").addEventListener("click", () => this._keep(null));
    byId("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this._take(this._input.value.trim());
    });
    doorbell.addEventListener("unauthenticated", () => this._refused());
    this._tell();
  }

  _take(value) {
    if (canBeKey(value)) this._keep(value);
    else byId("key-said").textContent = "That is no key or token: it has letters, digits and signs, and no spaces.";
  }

  _keep(value) {
    keepKey(value);
    this._input.value = "";
    byId("key-said").textContent = "";
    this._tell();
    this._open(false);
    this._changed();
  }

  _refused() {
    byId("key-said").textContent = key()
      ? "The server does not take this key: it is not known, has expired or was revoked."
      : "The server wants to know who is asking.";
    this._tell(key() === null ? "No key" : "Key refused");
    this._open(true);
  }

  _open(isOpen) {
    const wasHidden = this._panel.hidden;
    this._panel.hidden = !isOpen;
    this._button.setAttribute("aria-expanded", String(isOpen));
    if (isOpen && wasHidden) this._input.focus();
  }

  _tell(said = key() === null ? "No key" : "Key in use") {
    byId("key-forget").hidden = key() === null;
    this._button.textContent = said;
    this._button.classList.toggle("on", key() !== null);
  }
}
