/** The channel menu and the sliders for XY, Z and Time, where there is something to choose. */

import { AXES } from "./dataset.js";
import { element } from "./ui.js";

/**
 * Fill in the controls.
 * @param {HTMLElement} root
 * @param {import("./view.js").View} view
 */
export function makePlaceControls(root, view) {
  const { dataset } = view;
  if (dataset.channels.length > 1) root.append(makeChannelMenu(view));
  for (const axis of AXES) if (dataset.sizes[axis] > 1) root.append(makeSlider(view, axis));
  root.hidden = !root.children.length;
}

/** @param {import("./view.js").View} view */
function makeChannelMenu(view) {
  const menu = element("select", { id: "channel", on: { change: () => view.go({}, Number(menu.value)) } });
  view.dataset.channels.forEach((name, channel) => menu.append(element("option", { value: channel, text: name })));
  view.addEventListener("place", () => (menu.value = String(view.channel)));
  return element("div", { class: "place" }, element("label", { for: menu.id, text: "Channel" }), menu);
}

/**
 * @param {import("./view.js").View} view
 * @param {"XY" | "Z" | "Time"} axis
 */
function makeSlider(view, axis) {
  const count = view.dataset.sizes[axis];
  const shown = element("span", { class: "number", "aria-hidden": "true" });
  const slider = element("input", {
    type: "range",
    id: `position-${axis}`,
    min: 1,
    max: count,
    value: 1,
    on: { input: () => view.go({ [axis]: Number(slider.value) - 1 }) },
  });
  const show = () => {
    slider.value = String(view.position[axis] + 1);
    shown.textContent = `${view.position[axis] + 1} / ${count}`;
    slider.setAttribute("aria-valuetext", `${view.position[axis] + 1} of ${count}`);
  };
  view.addEventListener("place", show);
  show();
  return element("div", { class: "place" }, element("label", { for: slider.id, text: axis }), shown, slider);
}
