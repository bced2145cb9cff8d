/** The form of one tool, built from the fields that the tool tells. */

import { compute } from "./api.js";
import { AXES } from "./dataset.js";
import { initialValue, isOffered, makeField } from "./fields.js";
import { inOrder, readInterface } from "./interfaces.js";
import { recall, remember } from "./session.js";
import { newId, toolRequest } from "./tool_request.js";
import { find, fromTemplate } from "./ui.js";

/** @typedef {import("./fields.js").Field} Field */

/** Shows the form and sends it. */
export class ToolForm {
  /**
   * @param {HTMLElement} root
   * @param {import("./tool_request.js").Tool} tool
   * @param {import("./view.js").View} view
   * @param {{onBack: () => void, onSubmitted: (job: any) => void}} actions
   */
  constructor(root, tool, view, { onBack, onSubmitted }) {
    this._tool = tool;
    this._view = view;
    this._onSubmitted = onSubmitted;
    /** @type {Map<string, Field>} */
    this._fields = new Map();
    /** @type {Set<string>} fields that a person changed, which the next form starts with */
    this._changed = new Set();
    root.replaceChildren(fromTemplate("tool-form"));
    this._form = find(root, "form");
    this._state = find(root, ".tool-state");
    this._submit = find(root, "button.primary");
    find(root, "h2").textContent = tool.name;
    find(root, ".description").textContent = tool.description;
    find(root, ".back").addEventListener("click", onBack);
    find(root, ".reload").addEventListener("click", () => this.load(true));
    this._form.addEventListener("submit", (/** @type {Event} */ event) => {
      event.preventDefault();
      this._send();
    });
    this._form.addEventListener("change", () => this._keepValues());
    this._showPlace = () => {
      find(this._form, ".place-text").textContent = tool.hasTags ? placeText(view) : "";
    };
    view.addEventListener("place", this._showPlace);
    this._showPlace();
    find(root, ".back").focus();
  }

  /** Remember the values and stop following what is looked at. */
  close() {
    this._keepValues();
    this._view.removeEventListener("place", this._showPlace);
  }

  /**
   * Ask for the fields and show them.
   * @param {boolean} [isForced]
   */
  async load(isForced = false) {
    this._keepValues();
    this._form.hidden = true;
    this._say("Asking the tool for its fields…", "loading");
    try {
      this._show(await readInterface(this._tool.image, isForced));
      this._say("");
      this._form.hidden = false;
    } catch (error) {
      this._say(error instanceof Error ? error.message : String(error), "problem");
    }
  }

  /** @param {Record<string, any>} descriptions */
  _show(descriptions) {
    const { channels } = this._view.dataset;
    const kept = recall(this._key, { values: /** @type {Record<string, any>} */ ({}), choices: /** @type {any} */ ({}) });
    this._fields.clear();
    this._changed.clear();
    inOrder(descriptions).forEach(([name, description], index) => {
      const isKept = name in kept.values && isOffered(description, kept.values[name], channels.length);
      if (isKept) this._changed.add(name);
      const value = isKept ? kept.values[name] : initialValue(description, channels.length);
      const onChange = () => this._changed.add(name);
      this._fields.set(name, makeField({ id: `field-${index}`, name, description, value, channels, onChange }));
    });
    find(this._form, ".fields").replaceChildren(...[...this._fields.values()].map(({ root }) => root));
    this._showOutput(kept.choices);
  }

  /** @param {{channel?: number, tags?: string[], connectTags?: string[]}} kept */
  _showOutput(kept) {
    const { channels } = this._view.dataset;
    const make = (/** @type {string} */ id, /** @type {string} */ name, /** @type {any} */ description, /** @type {any} */ value) =>
      makeField({ id, name, description, value, channels, onChange: () => {} });
    const channel = kept.channel !== undefined && kept.channel < channels.length ? kept.channel : this._view.channel;
    this._channel = make("tool-channel", "Channel to work on", { type: "channel", required: true }, channel);
    const tagsNote = "By these tags you find, show and hide what the tool makes.";
    this._tags = make("tool-tags", "Tags of the new outlines", { type: "tags", tooltip: tagsNote }, kept.tags ?? [this._tool.name]);
    const connectNote = "New outlines are connected with the nearest ones that have one of these tags. Usually left empty.";
    this._connect = make("tool-connect", "Connect to", { type: "tags", tooltip: connectNote }, kept.connectTags ?? []);
    find(this._form, ".output").replaceChildren(...(this._tool.hasTags ? [this._channel.root, this._tags.root] : []));
    find(this._form, ".advanced").hidden = !this._tool.hasConnections;
    find(this._form, ".advanced div").replaceChildren(this._connect.root);
  }

  get _key() {
    return `tool ${this._tool.image}`;
  }

  /** What is chosen beside the tool's own fields. */
  get _choices() {
    return { channel: this._channel?.value(), tags: this._tags?.value(), connectTags: this._connect?.value() };
  }

  /** Remember what was changed by hand, so that defaults that the tool renews are not frozen. */
  _keepValues() {
    if (!this._fields.size) return;
    const changed = [...this._fields].filter(([name]) => this._changed.has(name));
    const values = Object.fromEntries(changed.map(([name, field]) => [name, field.value()]));
    remember(this._key, { values, choices: this._choices });
  }

  async _send() {
    const problem = [...this._fields.values()].find((field) => field.problem());
    if (problem) {
      this._say(problem.problem(), "problem");
      find(problem.root, "input, select").focus();
      return;
    }
    this._keepValues();
    const values = Object.fromEntries([...this._fields].map(([name, field]) => [name, field.value()]));
    const { dataset, position } = this._view;
    const id = recall(`${this._key} id`, newId());
    remember(`${this._key} id`, id);
    this._submit.disabled = true;
    try {
      this._onSubmitted(await compute(dataset.id, toolRequest(this._tool, dataset, position, { ...this._choices, id, values })));
      this._say("");
    } catch (error) {
      this._say(`The tool was not started. ${error instanceof Error ? error.message : error}`, "problem");
    } finally {
      this._submit.disabled = false;
    }
  }

  /**
   * @param {string} text
   * @param {"loading" | "problem" | ""} kind
   */
  _say(text, kind = "") {
    this._state.textContent = text;
    this._state.className = `tool-state ${kind}`;
    this._state.hidden = !text;
  }
}

/** @param {import("./view.js").View} view */
function placeText({ dataset, position }) {
  const axes = AXES.filter((axis) => dataset.sizes[axis] > 1);
  const place = axes.map((axis) => `${axis} ${position[axis] + 1}`).join(", ");
  return place ? `Runs at ${place}, unless other positions are chosen above.` : "";
}
