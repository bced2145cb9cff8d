/** The legend: every tag with its colour and count, switched on and off. */

import { element, find } from "./ui.js";

/** Decides what is shown in which colour; dispatches `change`. */
export class Legend extends EventTarget {
  /**
   * @param {HTMLElement} root
   * @param {import("./colours.js").Colours} colours
   */
  constructor(root, colours) {
    super();
    this._colours = colours;
    this._list = find(root, "ul");
    this._empty = find(root, ".empty");
    /** @type {HTMLInputElement} */
    this._all = find(root, "#show-outlines");
    this._all.addEventListener("change", () => this._changed());
    /** @type {Set<string>} */
    this._hidden = new Set();
  }

  /**
   * @param {string[]} tags of an annotation
   * @returns {string | null} its colour, that of its last tag that is switched on; null if it is hidden
   */
  colourOf(tags) {
    if (!this._all.checked) return null;
    const tag = (tags.length ? tags : [""]).findLast((one) => !this._hidden.has(one));
    return tag === undefined ? null : this._colours.of(tag);
  }

  /** Hide all outlines, or show them again. */
  toggleAll() {
    this._all.checked = !this._all.checked;
    this._changed();
  }

  /** @param {Map<string, {here: number, all: number}>} counts */
  show(counts) {
    this._empty.hidden = counts.size > 0;
    const focused = this._list.contains(document.activeElement) ? document.activeElement?.getAttribute("data-tag") : null;
    this._list.replaceChildren(...[...counts].map(([tag, count]) => this._row(tag, count)));
    for (const box of this._list.querySelectorAll("input")) if (box.dataset.tag === focused) box.focus();
  }

  /**
   * @param {string} tag
   * @param {{here: number, all: number}} count
   */
  _row(tag, { here, all }) {
    const box = element("input", { type: "checkbox", "data-tag": tag, checked: !this._hidden.has(tag) });
    box.addEventListener("change", () => {
      if (box.checked) this._hidden.delete(tag);
      else this._hidden.add(tag);
      this._changed();
    });
    const swatch = element("span", { class: "swatch", "aria-hidden": "true" });
    swatch.style.backgroundColor = this._colours.of(tag);
    const name = element("span", { class: tag ? "name" : "name none", text: tag || "no tag", title: tag || undefined });
    const numbers = here === all ? here.toLocaleString("en") : `${here.toLocaleString("en")} of ${all.toLocaleString("en")}`;
    const title = `${here} at this position, ${all} in the dataset`;
    return element("li", {}, element("label", { title }, box, swatch, name, element("span", { class: "count", text: numbers })));
  }

  _changed() {
    this.dispatchEvent(new Event("change"));
  }
}
