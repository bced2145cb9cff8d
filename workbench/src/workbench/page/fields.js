/** The nine kinds of fields that a tool can have, each as an element and a way to read its value. */

import { sanitise } from "./sanitise.js";
import { TagsField } from "./tags_field.js";
import { element, formatNumber } from "./ui.js";

/**
 * @typedef {object} Field a field of a form
 * @property {HTMLElement} root
 * @property {() => any} value what the tool gets
 * @property {() => string} problem what is wrong with the value; empty if nothing is
 */
/** @typedef {{id: string, name: string, description: any, value: any, channels: string[], onChange: () => void}} FieldOptions */

/**
 * What a field starts with.
 * @param {any} description
 * @param {number} channelCount
 */
export function initialValue(description, channelCount) {
  const { type, default: given } = description;
  if (type === "channelCheckboxes") return initialBoxes(given, channelCount);
  if (type === "layer") return given || (description.vueAttrs?.any ? null : layerId(0));
  if (given) return given;
  return { number: 0, checkbox: false, channel: 0, tags: [] }[/** @type {"number"} */ (type)] ?? "";
}

/**
 * @param {any} given `{"0": true}`, or a list of channels
 * @param {number} channelCount
 */
function initialBoxes(given, channelCount) {
  const chosen = new Set(Array.isArray(given) ? given.map(String) : Object.keys(given ?? {}).filter((key) => given[key]));
  return Object.fromEntries(Array.from({ length: channelCount }, (_, channel) => [channel, chosen.has(String(channel))]));
}

/**
 * Whether a value that was remembered can still be chosen.
 * @param {any} description
 * @param {any} value
 * @param {number} channelCount
 */
export function isOffered(description, value, channelCount) {
  if (description.type === "select") return value === null || value === "" || description.items?.includes(value);
  if (description.type === "channel") return value === null || value < channelCount;
  if (description.type === "channelCheckboxes") return Object.keys(value).length === channelCount;
  return true;
}

/**
 * The server has no layers: each channel is one.
 * @param {number} channel
 */
export const layerId = (channel) => `channel-${channel}`;

/**
 * @param {FieldOptions} options
 * @returns {Field}
 */
export function makeField(options) {
  const make = MAKERS[/** @type {keyof MAKERS} */ (options.description.type)] ?? makeText;
  return make(options);
}

const MAKERS = {
  notes: makeNotes,
  number: makeNumber,
  text: makeText,
  select: (/** @type {FieldOptions} */ options) =>
    makeMenu(options, (options.description.items ?? []).map((/** @type {any} */ item) => [item, String(item)])),
  checkbox: makeCheckbox,
  channel: (/** @type {FieldOptions} */ options) => makeMenu(options, [...options.channels.entries()]),
  channelCheckboxes: makeChannelBoxes,
  tags: makeTags,
  layer: (/** @type {FieldOptions} */ options) =>
    makeMenu(options, options.channels.map((name, channel) => [layerId(channel), name]), !options.description.vueAttrs?.any),
};

/** @param {FieldOptions} options */
function makeNotes({ name, description }) {
  const root = element("div", { class: "notes", role: "note", "aria-label": name });
  root.append(sanitise(String(description.value ?? "")));
  return { root, value: () => description.default || "", problem: () => "" };
}

/**
 * A label, the input, and what there is to say about it.
 * @param {FieldOptions} options
 * @param {HTMLElement} input
 * @param {string} [hint]
 */
function labelled({ id, name, description }, input, hint) {
  const notes = [hint && ["hint", hint], description.tooltip && ["tooltip", description.tooltip]].filter(Boolean);
  if (notes.length) input.setAttribute("aria-describedby", notes.map(([kind]) => `${id}-${kind}`).join(" "));
  return element(
    "div",
    { class: hint ? "field with-hint" : "field" },
    element("label", { for: id, text: name }),
    input,
    ...notes.map(([kind, text]) => element("p", { class: kind, id: `${id}-${kind}`, text })),
  );
}

/** @param {FieldOptions} options */
function makeNumber(options) {
  const { id, name, description, value, onChange } = options;
  const { min, max, step, unit } = description;
  const input = element("input", { type: "number", id, value, step: step ?? "any", on: { input: onChange } });
  input.placeholder = description.default === undefined ? "" : `default: ${description.default}`;
  const limits = [min !== undefined && `from ${formatNumber(min)}`, max !== undefined && `to ${formatNumber(max)}`];
  const hint = [...limits, unit].filter(Boolean).join(" ");
  const problem = () => {
    if (input.validity.badInput) return `${name} must be a number.`;
    if (input.value === "") return "";
    const number = input.valueAsNumber;
    const isWithin = number >= (min ?? -Infinity) && number <= (max ?? Infinity);
    return isWithin ? "" : `${name} must be a number ${limits.filter(Boolean).join(" ")}.`;
  };
  const read = () => (input.value === "" ? "" : input.valueAsNumber);
  return { root: labelled(options, input, hint), value: read, problem };
}

/** @param {FieldOptions} options */
function makeText(options) {
  const { id, description, value, onChange } = options;
  const placeholder = description.vueAttrs?.placeholder;
  const input = element("input", { type: "text", id, value, placeholder, autocomplete: "off", on: { input: onChange } });
  const isUntouched = () => input.value === String(value);
  return { root: labelled(options, input), value: () => (isUntouched() ? value : input.value), problem: () => "" };
}

/**
 * @param {FieldOptions} options
 * @param {[any, string][]} choices values with their texts
 * @param {boolean} [isRequired]
 */
function makeMenu(options, choices, isRequired = options.description.required) {
  const { id, name, value, onChange } = options;
  const empty = options.description.type === "select" ? "" : value === -1 ? -1 : null; // -1: how tools write "none"
  const all = isRequired && choices.some(([offered]) => offered === value) ? choices : [[empty, "(none)"], ...choices];
  const menu = element("select", { id, on: { change: onChange } });
  all.forEach(([, text], index) => menu.append(element("option", { value: index, text })));
  menu.selectedIndex = Math.max(0, all.findIndex(([offered]) => offered === value));
  const read = () => all[menu.selectedIndex][0];
  const problem = () => (isRequired && (read() === null || read() === "") ? `Choose one: ${name}.` : "");
  return { root: labelled(options, menu), value: read, problem };
}

/** @param {FieldOptions} options */
function makeCheckbox({ id, name, description, value, onChange }) {
  const input = element("input", { type: "checkbox", id, checked: Boolean(value), on: { change: onChange } });
  const root = element("div", { class: "field" }, element("label", { class: "check" }, input, name));
  if (description.tooltip) {
    input.setAttribute("aria-describedby", `${id}-tooltip`);
    root.append(element("p", { class: "tooltip", id: `${id}-tooltip`, text: description.tooltip }));
  }
  return { root, value: () => input.checked, problem: () => "" };
}

/** @param {FieldOptions} options */
function makeChannelBoxes({ id, name, description, value, channels, onChange }) {
  const boxes = channels.map((_, channel) =>
    element("input", { type: "checkbox", id: `${id}-${channel}`, checked: Boolean(value[channel]), on: { change: onChange } }),
  );
  const root = element("fieldset", { class: "field" }, element("legend", { text: name }));
  boxes.forEach((box, channel) => root.append(element("label", { class: "check" }, box, channels[channel])));
  if (description.tooltip) root.append(element("p", { class: "tooltip", text: description.tooltip }));
  const read = () => Object.fromEntries(boxes.map((box, channel) => [channel, box.checked]));
  return { root, value: read, problem: () => "" };
}

/** @param {FieldOptions} options */
function makeTags(options) {
  const { id, name, value, onChange } = options;
  const values = Array.isArray(value) ? value.map(String) : [String(value)];
  const field = new TagsField({ id, label: name, values, onChange });
  const root = labelled(options, field.root);
  const read = () => {
    field.commit();
    return field.values;
  };
  return { root, value: read, problem: () => "" };
}
