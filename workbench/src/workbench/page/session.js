/** The token that opens the server: it comes with the address and stays in this tab until it is closed. */

const KEY = "workbench-token";

/** Take the token out of the address bar, if it is there, so that it is not copied or shown by accident. */
export function takeTokenFromAddress() {
  const found = /[#&]token=([^&]+)/.exec(location.hash);
  if (!found) return;
  keepToken(found[1]);
  const rest = location.hash.replace(found[0], "").replace(/^&/, "#");
  history.replaceState(null, "", location.pathname + rest);
}

/** @returns {string} the token, or an empty text */
export function token() {
  return sessionStorage.getItem(KEY) ?? "";
}

/** @param {string} text the token, or the whole address that holds it */
export function keepToken(text) {
  sessionStorage.setItem(KEY, text.trim().replace(/^.*token=/, ""));
}

/** Forget a token that the server does not accept. */
export function forgetToken() {
  sessionStorage.removeItem(KEY);
}

/**
 * Remember a value until the tab is closed.
 * @param {string} name
 * @param {unknown} value anything that JSON can hold
 */
export function remember(name, value) {
  sessionStorage.setItem(`workbench:${name}`, JSON.stringify(value));
}

/**
 * @template T
 * @param {string} name
 * @param {T} fallback what to give when nothing was remembered
 * @returns {T}
 */
export function recall(name, fallback) {
  const text = sessionStorage.getItem(`workbench:${name}`);
  return text === null ? fallback : JSON.parse(text);
}
