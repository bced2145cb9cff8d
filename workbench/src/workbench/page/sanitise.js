/** Text with simple mark-up from a tool, made harmless: only what is listed here is kept of it. */

const KEPT = new Set(["B", "STRONG", "I", "EM", "U", "CODE", "SUB", "SUP", "BR", "P", "UL", "OL", "LI"]);
const DROPPED = new Set(["SCRIPT", "STYLE", "TEMPLATE", "IFRAME", "OBJECT", "NOSCRIPT", "TITLE", "TEXTAREA", "SVG", "MATH"]);

/**
 * @param {string} markup HTML that nobody vouches for
 * @returns {DocumentFragment} its text, with the listed elements and no attributes
 */
export function sanitise(markup) {
  const result = document.createDocumentFragment();
  // A document of its own, in which nothing is run and nothing is loaded.
  copy(new DOMParser().parseFromString(markup, "text/html").body, result);
  return result;
}

/**
 * @param {Node} from
 * @param {Node} to
 */
function copy(from, to) {
  for (const node of from.childNodes) {
    if (node instanceof Text || node.nodeType === Node.TEXT_NODE) to.appendChild(document.createTextNode(node.nodeValue ?? ""));
    if (node.nodeType !== Node.ELEMENT_NODE) continue;
    const name = node.nodeName.toUpperCase();
    if (DROPPED.has(name)) continue;
    copy(node, KEPT.has(name) ? to.appendChild(document.createElement(name)) : to);
  }
}
