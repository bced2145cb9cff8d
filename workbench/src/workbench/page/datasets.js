/** The screen with all datasets. */

import { getRegion, listDatasets, listItems } from "./api.js";
import { imageOf } from "./dataset.js";
import { element, formatBytes, fromTemplate } from "./ui.js";

const PREVIEW_PIXELS = 320;
const PREVIEW_STYLE = { min: "min:0.005", max: "max:0.005" };

/**
 * Show the datasets, the newest first.
 * @param {HTMLElement} screen
 * @returns {Promise<() => void>} what to call when the screen is left
 */
export async function showDatasets(screen) {
  const datasets = await listDatasets();
  if (!datasets.length) {
    screen.replaceChildren(fromTemplate("no-datasets"));
    return () => {};
  }
  const observer = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      observer.unobserve(target);
      const dataset = datasets.find((folder) => folder._id === target.getAttribute("data-id"));
      drawPreview(/** @type {HTMLCanvasElement} */ (target.querySelector("canvas")), dataset);
    }
  });
  const cards = datasets.map(makeCard);
  cards.forEach((card) => observer.observe(card));
  screen.replaceChildren(
    element("section", { class: "datasets" }, element("h1", { text: "Datasets" }), element("ul", {}, ...cards)),
  );
  return () => observer.disconnect();
}

/** @param {any} folder */
function makeCard(folder) {
  const created = new Date(folder.created);
  const date = created.toLocaleString("en", { dateStyle: "medium", timeStyle: "short", hourCycle: "h23" });
  return element(
    "li",
    { "data-id": folder._id },
    element(
      "a",
      { href: `#/dataset/${folder._id}` },
      element("canvas", { width: PREVIEW_PIXELS, height: PREVIEW_PIXELS * 0.75, "aria-hidden": "true" }),
      element("strong", { text: folder.name }),
      element("span", {}, element("time", { datetime: folder.created, text: date }), ` · ${formatBytes(folder.size ?? 0)}`),
    ),
  );
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {any} folder
 */
async function drawPreview(canvas, folder) {
  try {
    const item = imageOf(folder, await listItems(folder._id));
    const size = { width: PREVIEW_PIXELS, height: PREVIEW_PIXELS };
    const picture = await getRegion(item._id, { ...size, style: PREVIEW_STYLE, encoding: "JPEG" });
    const scale = Math.max(canvas.width / picture.width, canvas.height / picture.height);
    const [width, height] = [picture.width * scale, picture.height * scale];
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    context.drawImage(picture, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
    picture.close();
  } catch (error) {
    console.warn(`no preview of ${folder.name}:`, error);
  }
}
