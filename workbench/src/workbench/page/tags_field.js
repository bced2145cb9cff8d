/** A field for several tags: each a chip that can be removed, and a text box that proposes the known ones. */

import { element } from "./ui.js";

export const KNOWN_TAGS = "known-tags"; // the <datalist>

/**
 * Say which tags text boxes propose.
 * @param {Iterable<string>} tags
 */
export function proposeTags(tags) {
  const list = document.getElementById(KNOWN_TAGS);
  list?.replaceChildren(...[...tags].filter(Boolean).map((tag) => element("option", { value: tag })));
}

/** The field; put its `root` somewhere. */
export class TagsField {
  /**
   * @param {{id?: string, label: string, values?: string[], onChange?: (values: string[]) => void}} options
   *   `label` names the field for screen readers
   */
  constructor({ id, label, values = [], onChange = () => {} }) {
    this._onChange = onChange;
    /** @type {Map<string, string>} tags, with what is to be said about them */
    this._tags = new Map();
    this._input = element("input", {
      id,
      list: KNOWN_TAGS,
      "aria-label": `${label}: add a tag`,
      placeholder: "add a tag",
      autocomplete: "off",
      on: {
        keydown: (/** @type {KeyboardEvent} */ event) => this._key(event),
        input: (/** @type {InputEvent} */ event) => {
          if (event.inputType === "insertReplacementText" || !event.inputType) this.commit(); // chosen from the list
        },
        blur: () => this.commit(),
      },
    });
    this.root = element("div", { class: "tags-field", role: "group", "aria-label": label });
    this.set(values);
  }

  /** @returns {string[]} */
  get values() {
    return [...this._tags.keys()];
  }

  /**
   * @param {string} tag
   * @returns {boolean} whether the field has it without a note
   */
  holds(tag) {
    return this._tags.get(tag) === "";
  }

  /**
   * @param {string[]} values
   * @param {Map<string, string>} [notes] what to say about tags that do not quite hold
   */
  set(values, notes = new Map()) {
    this._tags = new Map(values.map((tag) => [tag, notes.get(tag) ?? ""]));
    this._render();
  }

  /** Take what is typed as a tag. */
  commit() {
    const typed = this._input.value.split(",").map((/** @type {string} */ part) => part.trim());
    this._input.value = "";
    const added = typed.filter((/** @type {string} */ tag) => tag && !this.holds(tag));
    if (!added.length) return;
    for (const tag of added) this._tags.set(tag, "");
    this._changed();
  }

  /** @param {KeyboardEvent} event */
  _key(event) {
    if (event.key === "Enter" || event.key === ",") {
      if (event.key === "," || this._input.value) event.preventDefault();
      this.commit();
    } else if (event.key === "Backspace" && !this._input.value && this._tags.size) {
      this._remove(this.values[this._tags.size - 1]);
    }
  }

  /** @param {string} tag */
  _remove(tag) {
    this._tags.delete(tag);
    this._changed();
    this._input.focus();
  }

  _changed() {
    this._render();
    this._onChange(this.values);
  }

  _render() {
    const hadFocus = document.activeElement === this._input;
    const chips = [...this._tags].map(([tag, note]) =>
      element(
        "span",
        { class: note ? "tag partial" : "tag", title: note || undefined },
        element("span", { text: tag }),
        element("button", {
          type: "button",
          text: "×",
          "aria-label": `Remove the tag ${tag}`,
          on: { click: () => this._remove(tag) },
        }),
      ),
    );
    this.root.replaceChildren(...chips, this._input);
    if (hadFocus) this._input.focus();
  }
}
