/** What part of the image is seen, and how large. */

/** @typedef {import("./dataset.js").Point} Point */
/** @typedef {{width: number, height: number}} Size */

const MARGIN = 0.96;
const SMALLEST = 0.5; // of the size that fits
const LARGEST = 64; // pixels of the screen per pixel of the image

/** Maps the image to the screen: `screen = image * scale + offset`. */
export class Camera {
  /** @param {Size} image */
  constructor(image) {
    this.image = image;
    /** @type {Size} */
    this.view = { width: 1, height: 1 };
    this.scale = 1;
    this.left = 0;
    this.top = 0;
    this._fits = true;
  }

  /** Show the whole image, and keep doing so when the window changes. */
  fit() {
    this._fits = true;
    this.scale = this._fittingScale();
    this.left = (this.view.width - this.image.width * this.scale) / 2;
    this.top = (this.view.height - this.image.height * this.scale) / 2;
  }

  /**
   * @param {Size} margin on each side
   * @returns {Camera} one that sees more of the image, in the same scale
   */
  widened({ width, height }) {
    const wide = new Camera(this.image);
    wide.view = { width: this.view.width + 2 * width, height: this.view.height + 2 * height };
    return Object.assign(wide, { scale: this.scale, left: this.left + width, top: this.top + height });
  }

  /** @param {Size} view */
  resize(view) {
    const [dx, dy] = [(view.width - this.view.width) / 2, (view.height - this.view.height) / 2];
    this.view = view;
    if (this._fits) this.fit();
    else this.pan(dx, dy);
  }

  /**
   * @param {number} factor
   * @param {Point} [point] of the screen that keeps its place; the centre if it is left out
   */
  zoom(factor, { x, y } = { x: this.view.width / 2, y: this.view.height / 2 }) {
    const smallest = Math.min(1, this._fittingScale() * SMALLEST);
    const scale = Math.min(Math.max(LARGEST, this._fittingScale()), Math.max(smallest, this.scale * factor));
    this.left = x - ((x - this.left) * scale) / this.scale;
    this.top = y - ((y - this.top) * scale) / this.scale;
    this.scale = scale;
    this._stay();
  }

  /**
   * @param {number} dx
   * @param {number} dy
   */
  pan(dx, dy) {
    this.left += dx;
    this.top += dy;
    this._stay();
  }

  /**
   * Move so that a part of the image is in sight.
   * @param {import("./geometry.js").Box} box
   */
  reveal(box) {
    const { left, top, right, bottom } = this.seen();
    if (box.left >= left && box.right <= right && box.top >= top && box.bottom <= bottom) return;
    this.pan(
      ((left + right) / 2 - (box.left + box.right) / 2) * this.scale,
      ((top + bottom) / 2 - (box.top + box.bottom) / 2) * this.scale,
    );
  }

  /**
   * @param {Point} point of the screen
   * @returns {Point} of the image
   */
  toImage({ x, y }) {
    return { x: (x - this.left) / this.scale, y: (y - this.top) / this.scale };
  }

  /** @returns {import("./geometry.js").Box} what is seen, in pixels of the image */
  seen() {
    const start = this.toImage({ x: 0, y: 0 });
    const end = this.toImage({ x: this.view.width, y: this.view.height });
    return { left: start.x, top: start.y, right: end.x, bottom: end.y };
  }

  _fittingScale() {
    return Math.min(this.view.width / this.image.width, this.view.height / this.image.height) * MARGIN;
  }

  /** Keep some of the image in sight. */
  _stay() {
    this._fits = false;
    const [width, height] = [this.image.width * this.scale, this.image.height * this.scale];
    const [x, y] = [this.view.width / 2, this.view.height / 2];
    this.left = Math.min(x, Math.max(x - width, this.left));
    this.top = Math.min(y, Math.max(y - height, this.top));
  }
}
