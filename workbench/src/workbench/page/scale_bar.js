/** A bar that tells how large things are, where the dataset knows it. */

import { element } from "./ui.js";

const LONGEST_PIXELS = 140;
const STEPS = [5, 2, 1];

/**
 * Show the bar.
 * @param {import("./stage.js").Stage} stage
 * @param {number | null} pixelSizeMm
 */
export function addScaleBar(stage, pixelSizeMm) {
  if (!pixelSizeMm) return;
  const line = element("span", { class: "line" });
  const text = element("span");
  stage.area.append(element("p", { class: "scale-bar" }, line, text));
  const show = () => {
    const micrometres = (pixelSizeMm * 1000) / stage.camera.scale; // per pixel of the screen
    const longest = LONGEST_PIXELS * micrometres;
    const power = 10 ** Math.floor(Math.log10(longest));
    const length = power * (STEPS.find((step) => step * power <= longest) ?? 1);
    line.style.width = `${length / micrometres}px`;
    text.textContent = length >= 1 ? `${length} µm` : `${Number((length * 1000).toPrecision(1))} nm`;
  };
  stage.addEventListener("move", show);
  show();
}
