/** The canvases on top of each other that show the image, the outlines, and what is being done to them. */

import { Camera } from "./camera.js";
import { find } from "./ui.js";

/**
 * @callback Draw
 * @param {CanvasRenderingContext2D} context in pixels of the image
 * @param {Camera} camera
 * @param {number} pixel size of a pixel of the screen, in pixels of the image
 * @returns {void}
 */

/** @typedef {"image" | "outlines" | "overlay"} LayerName */

/** Draws layers when something changed; dispatches `move` when another part of the image is seen. */
export class Stage extends EventTarget {
  /**
   * @param {HTMLElement} area that holds a canvas of the class of each layer
   * @param {import("./camera.js").Size} image
   */
  constructor(area, image) {
    super();
    this.area = area;
    /** @type {HTMLCanvasElement} the uppermost layer, which the mouse and the keyboard are over */
    this.surface = find(area, "canvas.overlay");
    this.camera = new Camera(image);
    /** @type {Map<LayerName, {canvas: HTMLCanvasElement, draw: Draw, isStale: boolean}>} */
    this._layers = new Map();
    this._request = 0;
    this._observer = new ResizeObserver(() => this._resize());
    this._observer.observe(area);
  }

  /**
   * Say how a layer is drawn.
   * @param {LayerName} name
   * @param {Draw} draw
   */
  addLayer(name, draw) {
    this._layers.set(name, { canvas: find(this.area, `canvas.${name}`), draw, isStale: true });
    this._resize();
  }

  /**
   * Draw layers anew, in the next frame.
   * @param {...LayerName} names
   */
  redraw(...names) {
    for (const name of names) {
      const layer = this._layers.get(name);
      if (layer) layer.isStale = true;
    }
    this._request ||= requestAnimationFrame(() => this._draw());
  }

  /**
   * Show another part of the image.
   * @param {(camera: Camera) => void} change
   */
  move(change) {
    change(this.camera);
    this.redraw(...this._layers.keys());
    this.dispatchEvent(new Event("move"));
  }

  /** Pixels of the screen per CSS pixel. */
  get density() {
    return window.devicePixelRatio || 1;
  }

  /**
   * @param {MouseEvent} event
   * @returns {import("./dataset.js").Point} where it happened, from the area's corner
   */
  locate(event) {
    const box = this.area.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  /** Stop watching the window. */
  close() {
    this._observer.disconnect();
    cancelAnimationFrame(this._request);
  }

  _resize() {
    const { clientWidth: width, clientHeight: height } = this.area;
    if (!width || !height) return;
    for (const { canvas } of this._layers.values()) {
      const [wide, high] = [Math.round(width * this.density), Math.round(height * this.density)];
      if (canvas.width !== wide) canvas.width = wide;
      if (canvas.height !== high) canvas.height = high;
    }
    this.move((camera) => camera.resize({ width, height }));
  }

  _draw() {
    this._request = 0;
    const { scale, left, top } = this.camera;
    const density = this.density;
    for (const layer of this._layers.values()) {
      if (!layer.isStale) continue;
      layer.isStale = false;
      const context = /** @type {CanvasRenderingContext2D} */ (layer.canvas.getContext("2d"));
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.clearRect(0, 0, layer.canvas.width, layer.canvas.height);
      context.setTransform(scale * density, 0, 0, scale * density, left * density, top * density);
      layer.draw(context, this.camera, 1 / scale);
    }
  }
}
