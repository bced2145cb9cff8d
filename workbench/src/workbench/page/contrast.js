/** The grey values that are shown black and white: found by themselves, changed with two sliders over a histogram. */

import { getHistogram } from "./api.js";
import { tellError } from "./messages.js";
import { find, formatNumber } from "./ui.js";

/** @typedef {import("./frame_image.js").Contrast} Contrast */
/** @typedef {{edges: number[], counts: number[]}} Histogram */

const BINS = 16_384; // so that one hot pixel does not make them coarse
const SAMPLE_PIXELS = 1024;
const LEFT_OUT = 0.005; // of the pixels, at either end
const HEADROOM = 2; // the sliders reach beyond the chosen range by this many times its width
const STEPS = 1000;

/**
 * @param {import("./dataset.js").Dataset} dataset
 * @param {number} frame
 * @returns {Promise<Histogram>}
 */
async function readHistogram(dataset, frame) {
  const bins = dataset.dtype === "uint8" ? 256 : BINS;
  const query = { frame, bins, width: SAMPLE_PIXELS, height: SAMPLE_PIXELS, resample: false };
  const [band] = await getHistogram(dataset.itemId, query);
  return { edges: band.bin_edges, counts: band.hist };
}

/**
 * @param {Histogram} histogram
 * @returns {Contrast} from the 0.5th to the 99.5th percentile
 */
export function chooseContrast({ edges, counts }) {
  const total = counts.reduce((sum, count) => sum + count, 0);
  const valueAt = (/** @type {number} */ rank) => {
    let sum = 0;
    const bin = counts.findIndex((count) => (sum += count) > rank);
    return edges[bin < 0 ? counts.length : bin];
  };
  const min = valueAt(total * LEFT_OUT);
  const max = valueAt(total * (1 - LEFT_OUT));
  return { min, max: max > min ? max : min + 1 };
}

/** The sliders of the channel that is looked at. */
export class ContrastControl {
  /**
   * @param {HTMLElement} root
   * @param {import("./view.js").View} view
   */
  constructor(root, view) {
    this._view = view;
    this._root = root;
    /** @type {HTMLInputElement} */
    this._black = find(root, "input.black");
    /** @type {HTMLInputElement} */
    this._white = find(root, "input.white");
    /** @type {Map<number, {histogram: Histogram, low: number, high: number}>} by channel */
    this._ranges = new Map();
    root.hidden = view.dataset.isColour;
    for (const slider of [this._black, this._white]) slider.addEventListener("input", () => this._slide(slider));
    find(root, "button").addEventListener("click", () => this.automatic());
    view.addEventListener("contrast", () => this._show());
    view.addEventListener("place", () => this._show());
  }

  /** Choose the contrast by the frame that is looked at. */
  async automatic() {
    const { dataset, channel, frame } = this._view;
    if (dataset.isColour || frame === undefined) return;
    let histogram;
    try {
      histogram = await readHistogram(dataset, frame);
    } catch (error) {
      tellError("The contrast cannot be chosen by itself.", error);
      histogram = { edges: [0, dataset.dtype === "uint16" ? 65_535 : dataset.dtype === "uint8" ? 255 : 1], counts: [1] };
    }
    const contrast = chooseContrast(histogram);
    const room = HEADROOM * (contrast.max - contrast.min);
    const low = Math.max(Math.min(histogram.edges[0], contrast.min), contrast.min - room);
    const high = Math.min(Math.max(histogram.edges[histogram.edges.length - 1], contrast.max), contrast.max + room);
    this._ranges.set(channel, { histogram, low, high });
    this._view.setContrast(channel, contrast);
  }

  /** @param {HTMLInputElement} moved */
  _slide(moved) {
    const range = this._ranges.get(this._view.channel);
    if (!range) return;
    const gap = STEPS / 200;
    if (Number(this._white.value) - Number(this._black.value) < gap) {
      moved.value = String(moved === this._black ? Number(this._white.value) - gap : Number(this._black.value) + gap);
    }
    const toValue = (/** @type {HTMLInputElement} */ slider) =>
      range.low + (Number(slider.value) / STEPS) * (range.high - range.low);
    this._view.setContrast(this._view.channel, { min: toValue(this._black), max: toValue(this._white) });
  }

  _show() {
    const { contrast, channel } = this._view;
    const range = this._ranges.get(channel);
    if (!contrast || !range) return;
    const round = (/** @type {number} */ value) =>
      formatNumber(/int/.test(this._view.dataset.dtype) ? Math.round(value) : value);
    for (const [slider, value] of /** @type {const} */ ([[this._black, contrast.min], [this._white, contrast.max]])) {
      slider.value = String(Math.round(((value - range.low) / (range.high - range.low)) * STEPS));
      slider.setAttribute("aria-valuetext", round(value));
    }
    find(this._root, "output").textContent = `${round(contrast.min)} to ${round(contrast.max)}`;
    this._drawHistogram(range);
  }

  /** @param {{histogram: Histogram, low: number, high: number}} range */
  _drawHistogram({ histogram: { edges, counts }, low, high }) {
    /** @type {HTMLCanvasElement} */
    const canvas = find(this._root, "canvas");
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    const columns = new Float64Array(canvas.width);
    counts.forEach((count, bin) => {
      const column = Math.floor((((edges[bin] + edges[bin + 1]) / 2 - low) / (high - low)) * columns.length);
      if (column >= 0 && column < columns.length) columns[column] += count;
    });
    const tallest = Math.sqrt(Math.max(...columns, 1));
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.fillStyle = getComputedStyle(canvas).color;
    columns.forEach((count, column) => {
      const height = (Math.sqrt(count) / tallest) * canvas.height;
      context.fillRect(column, canvas.height - height, 1, height);
    });
  }
}
