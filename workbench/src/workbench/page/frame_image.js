/** The picture of one frame: the whole frame at once, and what is seen of it in full detail. */

import { getRegion } from "./api.js";

/** @typedef {import("./camera.js").Camera} Camera */
/** @typedef {{min: number, max: number}} Contrast grey values that are shown black and white */
/** @typedef {{picture: ImageBitmap, left: number, top: number, right: number, bottom: number}} Piece */

const WHOLE_PIXELS = 2048; // a frame that is larger is shown smaller, and its details are fetched
const PICTURES_KEPT = 8;
const DETAIL_SCALE = 2; // from here on single pixels are seen: they must be exact
const DETAIL_MARGIN = 0.25;
const DETAIL_AFTER_MS = 120;

/** Fetches and draws the picture of a frame. */
export class FrameImage {
  /**
   * @param {import("./dataset.js").Dataset} dataset
   * @param {{onChange: () => void, onState: (state: "loading" | "ready" | "failed", error?: unknown) => void}} options
   */
  constructor(dataset, { onChange, onState }) {
    this._dataset = dataset;
    this._onChange = onChange;
    this._onState = onState;
    /** @type {Map<string, ImageBitmap>} */
    this._kept = new Map();
    /** @type {{key: string, frame: number, contrast: Contrast | null} | null} */
    this._wanted = null;
    this._isLoading = false;
    /** @type {{key: string, piece: Piece} | null} */
    this._whole = null;
    /** @type {{key: string, piece: Piece, scale: number} | null} */
    this._detail = null;
    this._timer = 0;
    this._number = 0;
  }

  /**
   * Show a frame; the one before stays until the picture has come.
   * @param {number} frame
   * @param {Contrast | null} contrast null for an image in colours
   */
  show(frame, contrast) {
    this._wanted = { key: JSON.stringify([frame, contrast]), frame, contrast };
    if (!this._isLoading) this._load();
  }

  /** Show nothing. */
  clear() {
    this._wanted = this._whole = this._detail = null;
    this._onChange();
  }

  /** Try again what failed. */
  retry() {
    if (!this._isLoading) this._load();
  }

  /**
   * Fetch the details of what is seen, soon after it stops moving.
   * @param {Camera} camera
   * @param {number} density
   */
  look(camera, density) {
    clearTimeout(this._timer);
    this._timer = setTimeout(() => this._loadDetail(camera, density), DETAIL_AFTER_MS);
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {Camera} camera
   */
  draw(context, camera) {
    if (!this._whole) return;
    context.imageSmoothingEnabled = camera.scale < DETAIL_SCALE;
    context.imageSmoothingQuality = "medium";
    const pieces = [this._whole, this._detail?.key === this._whole.key ? this._detail : null];
    for (const piece of pieces.map((shown) => shown?.piece)) {
      if (!piece) continue;
      const { picture, left, top, right, bottom } = piece;
      context.drawImage(picture, left, top, right - left, bottom - top);
    }
  }

  /** One request at a time, then the one that is wanted by then: a slider asks faster than pictures come. */
  async _load() {
    const wanted = this._wanted;
    if (!wanted) return;
    this._isLoading = true;
    if (!this._kept.has(wanted.key)) this._onState("loading");
    try {
      const picture = this._kept.get(wanted.key) ?? (await this._fetchWhole(wanted));
      this._keep(wanted.key, picture);
      if (this._wanted) {
        const { width: right, height: bottom } = this._dataset;
        this._whole = { key: wanted.key, piece: { picture, left: 0, top: 0, right, bottom } };
        this._onChange();
      }
      this._isLoading = false;
      if (this._wanted && this._wanted.key !== wanted.key) this._load();
      else this._onState("ready");
    } catch (error) {
      this._isLoading = false;
      if (this._wanted && this._wanted.key !== wanted.key) this._load();
      else this._onState("failed", error);
    }
  }

  /** @param {{frame: number, contrast: Contrast | null}} wanted */
  _fetchWhole({ frame, contrast }) {
    const size = { width: WHOLE_PIXELS, height: WHOLE_PIXELS };
    return getRegion(this._dataset.itemId, { frame, style: contrast, ...size, encoding: "JPEG", jpegQuality: 95 });
  }

  /**
   * @param {string} key
   * @param {ImageBitmap} picture
   */
  _keep(key, picture) {
    this._kept.delete(key);
    this._kept.set(key, picture);
    while (this._kept.size > PICTURES_KEPT) {
      const oldest = this._kept.keys().next().value ?? "";
      this._kept.get(oldest)?.close();
      this._kept.delete(oldest);
    }
  }

  /**
   * @param {Camera} camera
   * @param {number} density
   */
  async _loadDetail(camera, density) {
    const { width, height, itemId } = this._dataset;
    const whole = this._whole;
    if (!whole || !this._wanted || this._wanted.key !== whole.key) return;
    const wholeScale = whole.piece.picture.width / width;
    const isSharp = wholeScale >= 1 || camera.scale * density <= wholeScale;
    if (isSharp && camera.scale < DETAIL_SCALE) return;
    const seen = camera.seen();
    const [marginX, marginY] = [(seen.right - seen.left) * DETAIL_MARGIN, (seen.bottom - seen.top) * DETAIL_MARGIN];
    const left = Math.max(0, Math.floor(seen.left - marginX));
    const top = Math.max(0, Math.floor(seen.top - marginY));
    const right = Math.min(width, Math.ceil(seen.right + marginX));
    const bottom = Math.min(height, Math.ceil(seen.bottom + marginY));
    if (left >= right || top >= bottom || this._hasDetail(seen, camera.scale)) return;
    const limit = Math.ceil(Math.max(right - left, bottom - top) * Math.min(1, camera.scale * density));
    const number = ++this._number;
    const { frame, contrast } = this._wanted;
    const query = { frame, left, top, right, bottom, width: limit, height: limit };
    try {
      const encoding = camera.scale < DETAIL_SCALE ? { encoding: "JPEG", jpegQuality: 95 } : { encoding: "PNG" };
      const picture = await getRegion(itemId, { ...query, style: contrast, ...encoding });
      if (number !== this._number) return;
      this._detail?.piece.picture.close();
      this._detail = { key: whole.key, piece: { picture, left, top, right, bottom }, scale: camera.scale };
      this._onChange();
    } catch (error) {
      console.warn("no details of the image:", error); // the whole frame is seen, and its failures are told
    }
  }

  /**
   * @param {import("./geometry.js").Box} seen
   * @param {number} scale
   */
  _hasDetail(seen, scale) {
    if (!this._detail || this._detail.key !== this._whole?.key) return false;
    const { left, top, right, bottom } = this._detail.piece;
    const isFine = scale <= this._detail.scale || this._detail.scale >= DETAIL_SCALE;
    const { width, height } = this._dataset;
    return (
      isFine &&
      left <= Math.max(0, seen.left) &&
      top <= Math.max(0, seen.top) &&
      right >= Math.min(width, seen.right) &&
      bottom >= Math.min(height, seen.bottom)
    );
  }
}
