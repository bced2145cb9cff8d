/** Draws what is selected. */

import { trace } from "./outlines.js";

const FILL = "rgb(255 255 255 / 18%)";
const LINES = /** @type {const} */ ([["#000000", 5], ["#ffffff", 2.5]]);

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Set<import("./annotations.js").Annotation>} selected
 * @param {number} pixel size of a pixel of the screen, in pixels of the image
 */
export function drawSelection(context, selected, pixel) {
  if (!selected.size) return;
  const path = new Path2D();
  for (const annotation of selected) trace(path, annotation);
  context.fillStyle = FILL;
  context.fill(path, "evenodd");
  context.lineJoin = "round";
  for (const [colour, width] of LINES) {
    context.strokeStyle = colour;
    context.lineWidth = width * pixel;
    context.stroke(path);
  }
}
