/** Short messages at the lower edge: what was done, and what went wrong. */

import { element, find } from "./ui.js";

const STAYS_MS = 6000;

/**
 * Show a message that goes by itself.
 * @param {string} text
 */
export function tell(text) {
  const shown = element("div", { class: "message", text });
  find(document, "#messages").append(shown);
  setTimeout(() => shown.remove(), STAYS_MS);
}

/**
 * Show what went wrong until it is dismissed.
 * @param {string} text what did not work
 * @param {unknown} [error] its cause
 */
export function tellError(text, error) {
  const cause = error === undefined ? "" : ` ${error instanceof Error ? error.message : error}`;
  const list = find(document, "#problems");
  for (const old of list.querySelectorAll(".message")) if (old.dataset.text === text + cause) old.remove();
  const shown = element("div", { class: "message error", "data-text": text + cause }, element("p", {}, text + cause));
  shown.append(element("button", { type: "button", text: "Dismiss", on: { click: () => shown.remove() } }));
  list.append(shown);
}

/** Take all messages away, for another page begins. */
export function clearMessages() {
  find(document, "#problems").replaceChildren();
}
