/** Keeps what was drawn, so that moving the image stays smooth however much there is to draw. */

const MARGIN = 0.25; // of the view, on each side, is drawn in advance
const SLOW_MS = 12;
const REST_MS = 90;

/** Wraps a drawing. While the image moves, what is kept is shown moved and stretched; at rest it is drawn sharp. */
export class CachedDrawing {
  /**
   * @param {import("./stage.js").Draw} draw
   * @param {() => void} redraw asks for another call of `draw`
   */
  constructor(draw, redraw) {
    this._draw = draw;
    this._redraw = redraw;
    /** @type {{canvas: OffscreenCanvas, scale: number, density: number, seen: import("./geometry.js").Box, cost: number} | null} */
    this._kept = null;
    this._timer = 0;
  }

  /** Forget what is kept, for there is something else to draw. */
  invalidate() {
    this._kept = null;
  }

  /**
   * @param {CanvasRenderingContext2D} context in pixels of the image
   * @param {import("./camera.js").Camera} camera
   */
  draw(context, camera) {
    clearTimeout(this._timer);
    const density = window.devicePixelRatio || 1;
    if (this._kept?.density !== density) this._kept = null;
    if (this._kept && !this._isSharp(camera) && this._kept.cost > SLOW_MS) {
      this._timer = setTimeout(() => {
        this.invalidate();
        this._redraw();
      }, REST_MS);
    } else if (!this._kept || !this._isSharp(camera)) this._render(camera, density);
    const { canvas, scale, seen } = /** @type {NonNullable<CachedDrawing["_kept"]>} */ (this._kept);
    const [left, top] = [seen.left * camera.scale + camera.left, seen.top * camera.scale + camera.top];
    const stretch = camera.scale / scale;
    context.setTransform(stretch, 0, 0, stretch, Math.round(left * density), Math.round(top * density));
    context.drawImage(canvas, 0, 0);
  }

  /** @param {import("./camera.js").Camera} camera */
  _isSharp(camera) {
    if (!this._kept || this._kept.scale !== camera.scale) return false;
    const [kept, seen] = [this._kept.seen, camera.seen()];
    return kept.left <= seen.left && kept.top <= seen.top && kept.right >= seen.right && kept.bottom >= seen.bottom;
  }

  /**
   * @param {import("./camera.js").Camera} camera
   * @param {number} density
   */
  _render(camera, density) {
    const { width, height } = camera.view;
    const start = performance.now();
    const wide = camera.widened({ width: Math.round(width * MARGIN), height: Math.round(height * MARGIN) });
    const size = [wide.view.width, wide.view.height].map((length) => Math.ceil(length * density));
    const canvas = new OffscreenCanvas(size[0], size[1]);
    const context = /** @type {any} */ (canvas.getContext("2d"));
    const { scale, left, top } = wide;
    context.setTransform(scale * density, 0, 0, scale * density, left * density, top * density);
    this._draw(context, wide, 1 / scale);
    this._kept = { canvas, scale, density, seen: wide.seen(), cost: performance.now() - start };
  }
}
