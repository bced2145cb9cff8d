/** Tabs: the arrows move between them, and one panel is shown. */

/**
 * @param {HTMLElement} list with buttons that name their panels in `aria-controls`
 * @param {(name: string) => void} onShow gets the identifier of the panel
 * @returns {(name: string) => void} shows a panel
 */
export function makeTabs(list, onShow) {
  const tabs = [...list.querySelectorAll("[role=tab]")].map((tab) => /** @type {HTMLElement} */ (tab));
  const nameOf = (/** @type {HTMLElement} */ tab) => tab.getAttribute("aria-controls") ?? "";
  const show = (/** @type {string} */ name) => {
    for (const tab of tabs) {
      const isShown = nameOf(tab) === name;
      tab.setAttribute("aria-selected", String(isShown));
      tab.tabIndex = isShown ? 0 : -1;
      const panel = document.getElementById(nameOf(tab));
      if (panel) panel.hidden = !isShown;
    }
    onShow(name);
  };
  tabs.forEach((tab, index) => {
    tab.addEventListener("click", () => show(nameOf(tab)));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      const next = tabs[(index + step + tabs.length) % tabs.length];
      show(nameOf(next));
      next.focus();
    });
  });
  return show;
}
