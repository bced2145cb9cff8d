/** What the mouse does in the image: move it, select, draw outlines and regions. */

import { closeLine } from "./geometry.js";

/** @typedef {"select" | "outline" | "region"} Mode */
/** @typedef {import("./dataset.js").Point} Point */
/**
 * @typedef {object} Actions
 * @property {(point: Point, isAdded: boolean) => void} onSelect a click
 * @property {(mode: Mode, points: Point[]) => void} onDrawn corners of an outline or a region
 */

const CLICK_PIXELS = 4;
const WHEEL_SPEED = 0.0016;
const LINE_PIXELS = 16; // of a wheel that counts lines
const TOLERANCES = { smallest: 0.25, largest: 1 }; // pixels of the image
const DRAFT_COLOUR = "#ffffff";
const DRAFT_HALO = "rgb(0 0 0 / 70%)";

/** Understands the mouse over a stage. */
export class Pointer {
  /**
   * @param {import("./stage.js").Stage} stage
   * @param {Actions} actions
   */
  constructor(stage, actions) {
    this._stage = stage;
    this._actions = actions;
    /** @type {Mode} */
    this.mode = "select";
    /** @type {Point[] | null} what is being drawn */
    this._line = null;
    /** @type {{start: Point, last: Point, isMoving: boolean, isClick: boolean, isAdded: boolean} | null} */
    this._drag = null;
    const { surface } = stage;
    surface.addEventListener("wheel", (event) => this._wheel(event), { passive: false });
    surface.addEventListener("pointerdown", (event) => this._down(event));
    surface.addEventListener("pointermove", (event) => this._move(event));
    surface.addEventListener("pointerup", () => this._up());
    surface.addEventListener("pointercancel", () => this.cancel());
  }

  /** @param {Mode} mode */
  setMode(mode) {
    this.cancel();
    this.mode = mode;
    this._stage.area.dataset.mode = mode;
  }

  /** Give up what is being drawn. */
  cancel() {
    this._line = this._drag = null;
    this._stage.redraw("overlay");
  }

  /**
   * Draw what is being drawn.
   * @param {CanvasRenderingContext2D} context
   * @param {number} pixel
   */
  draw(context, pixel) {
    if (!this._line || this._line.length < 2) return;
    const corners = this.mode === "region" ? rectangle(this._line[0], this._line[this._line.length - 1]) : this._line;
    context.beginPath();
    corners.forEach(({ x, y }) => context.lineTo(x, y));
    context.closePath();
    context.fillStyle = "rgb(255 255 255 / 12%)";
    context.fill();
    for (const [colour, width] of /** @type {const} */ ([[DRAFT_HALO, 3.5], [DRAFT_COLOUR, 1.5]])) {
      context.strokeStyle = colour;
      context.lineWidth = width * pixel;
      context.stroke();
    }
  }

  /** @param {WheelEvent} event */
  _wheel(event) {
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? LINE_PIXELS : 1);
    const speed = event.ctrlKey ? 4 * WHEEL_SPEED : WHEEL_SPEED; // two fingers on a touch pad
    const factor = Math.exp(-Math.max(-400, Math.min(400, pixels)) * speed);
    this._stage.move((camera) => camera.zoom(factor, this._stage.locate(event)));
  }

  /** @param {PointerEvent} event */
  _down(event) {
    if (event.button > 1 || this._drag) return;
    this._stage.surface.setPointerCapture(event.pointerId);
    const start = this._stage.locate(event);
    const isMoving = event.button === 1 || this.mode === "select";
    const isClick = event.button === 0 && this.mode === "select";
    this._drag = { start, last: start, isMoving, isClick, isAdded: event.shiftKey || event.ctrlKey || event.metaKey };
    if (!isMoving) this._line = [this._stage.camera.toImage(start)];
    event.preventDefault();
    this._stage.surface.focus({ preventScroll: true });
  }

  /** @param {PointerEvent} event */
  _move(event) {
    const drag = this._drag;
    if (!drag) return;
    const here = this._stage.locate(event);
    if (Math.hypot(here.x - drag.start.x, here.y - drag.start.y) > CLICK_PIXELS) drag.isClick = false;
    if (this._line) {
      const events = event.getCoalescedEvents?.() ?? [];
      for (const one of events.length ? events : [event]) {
        this._line.push(this._stage.camera.toImage(this._stage.locate(one)));
      }
      this._stage.redraw("overlay");
    } else if (!drag.isClick) {
      const { last } = drag;
      this._stage.move((camera) => camera.pan(here.x - last.x, here.y - last.y));
    }
    if (!drag.isClick) drag.last = here;
  }

  _up() {
    const [drag, line] = [this._drag, this._line];
    this.cancel();
    if (drag?.isClick) this._actions.onSelect(this._stage.camera.toImage(drag.start), drag.isAdded);
    if (!line || !drag || drag.isMoving) return;
    const { scale, image } = this._stage.camera;
    const tolerance = Math.min(TOLERANCES.largest, Math.max(TOLERANCES.smallest, 1 / scale));
    const isRegion = this.mode === "region";
    const corners = isRegion
      ? rectangle(line[0], line[line.length - 1]).map(({ x, y }) => ({ x: Math.round(x), y: Math.round(y) }))
      : line;
    this._actions.onDrawn(this.mode, closeLine(corners, isRegion ? 0 : tolerance, image));
  }
}

/**
 * @param {Point} one
 * @param {Point} other
 * @returns {Point[]} the corners, from the upper left one
 */
function rectangle(one, other) {
  const [left, right] = [Math.min(one.x, other.x), Math.max(one.x, other.x)];
  const [top, bottom] = [Math.min(one.y, other.y), Math.max(one.y, other.y)];
  return [
    { x: left, y: top },
    { x: right, y: top },
    { x: right, y: bottom },
    { x: left, y: bottom },
  ];
}
