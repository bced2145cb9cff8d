/** Keys that do something, and the list of them behind "?". */

import { element, find, isTyping } from "./ui.js";

/**
 * @typedef {object} Shortcut
 * @property {string[]} keys such as `Ctrl+Shift+Z`
 * @property {() => void} run
 * @property {string} [does] for the list; left out if it is listed with another one
 * @property {string} [label] for the list, instead of the keys
 */

/**
 * Listen to the keyboard while a screen is shown.
 * @param {Shortcut[]} shortcuts
 * @returns {() => void} what ends it
 */
export function listenToKeys(shortcuts) {
  const actions = new Map(shortcuts.flatMap(({ keys, run }) => keys.map((key) => [key.toLowerCase(), run])));
  const dialog = find(document, "#shortcuts");
  fillDialog(dialog, shortcuts);
  const help = find(document, "#help");
  const open = () => dialog.showModal();
  help.hidden = false;
  help.addEventListener("click", open);
  const listen = (/** @type {KeyboardEvent} */ event) => {
    if (isTyping(event.target) || dialog.open) return;
    if (belongsToControl(event)) return;
    const run = event.key === "?" ? open : actions.get(nameOf(event));
    if (!run) return;
    event.preventDefault();
    run();
  };
  document.addEventListener("keydown", listen);
  return () => {
    help.hidden = true;
    help.removeEventListener("click", open);
    document.removeEventListener("keydown", listen);
  };
}

/**
 * Arrows and space work the control that has the focus.
 * @param {KeyboardEvent} event
 */
function belongsToControl(event) {
  const isControl = event.target instanceof HTMLElement && event.target.matches("input, button, a, summary, [role=tab]");
  return isControl && /^(Arrow.*|Home|End|PageUp|PageDown|Enter| )$/.test(event.key);
}

/** @param {KeyboardEvent} event */
function nameOf(event) {
  const isLetter = /^[a-z]$/i.test(event.key);
  const parts = [
    (event.ctrlKey || event.metaKey) && "ctrl",
    event.altKey && "alt",
    event.shiftKey && (isLetter || event.key.length > 1) && "shift",
    event.key.toLowerCase(),
  ];
  return parts.filter(Boolean).join("+");
}

/**
 * @param {HTMLElement} dialog
 * @param {Shortcut[]} shortcuts
 */
function fillDialog(dialog, shortcuts) {
  const rows = shortcuts
    .filter(({ does }) => does)
    .map(({ keys, does, label }) => {
      const names = (label ? [label] : keys).flatMap((key, index) => [index ? " or " : "", element("kbd", { text: key })]);
      return element("tr", {}, element("th", { scope: "row" }, ...names), element("td", { text: does }));
    });
  find(dialog, "tbody").replaceChildren(...rows);
}
