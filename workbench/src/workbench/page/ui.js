/** Small helpers around the document. */

/**
 * Make an element.
 * @param {string} tag
 * @param {Record<string, any>} [properties] attributes; `text` is the text in it, `on` its listeners by event
 * @param {...(Node | string | null | false)} children
 * @returns {any} the element
 */
export function element(tag, { text, on = {}, ...attributes } = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  for (const [type, listener] of Object.entries(on)) made.addEventListener(type, listener);
  if (text !== undefined) made.textContent = text;
  made.append(...children.filter((child) => child !== null && child !== false));
  return made;
}

/**
 * @param {ParentNode} parent
 * @param {string} selector of an element that is there
 * @returns {any}
 */
export function find(parent, selector) {
  const found = parent.querySelector(selector);
  if (!found) throw new Error(`no ${selector}`);
  return found;
}

/**
 * @param {string} id of a template
 * @returns {DocumentFragment}
 */
export function fromTemplate(id) {
  return document.importNode(find(document, `#${id}`).content, true);
}

/**
 * Write a number for a person.
 * @param {number} value
 */
export function formatNumber(value) {
  const isLong = !Number.isInteger(value) && Math.abs(value) < 1000;
  return value.toLocaleString("en", isLong ? { maximumSignificantDigits: 4 } : { maximumFractionDigits: 0 });
}

/**
 * @param {number} count
 * @param {string} noun in the singular, with a plural on -s
 */
export function counted(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

/**
 * @param {number} bytes
 */
export function formatBytes(bytes) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(bytes, 1)) / 3));
  return `${(bytes / 1000 ** power).toLocaleString("en", { maximumSignificantDigits: 3 })} ${units[power]}`;
}

/**
 * Say whether the keyboard belongs to a field at the moment.
 * @param {EventTarget | null} target
 */
export function isTyping(target) {
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement) return !["checkbox", "radio", "range", "button"].includes(target.type);
  return target.matches("textarea, select") || target.isContentEditable;
}
