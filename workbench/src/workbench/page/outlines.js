/** Draws outlines, thousands of them, and finds the one under the mouse. */

import { boxOf, distanceToOutline, isInside, overlap } from "./geometry.js";

/** @typedef {import("./annotations.js").Annotation} Annotation */
/** @typedef {import("./geometry.js").Box} Box */
/** @typedef {{annotation: Annotation, colour: string, isRegion: boolean}} Shown */
/** @typedef {{annotations: Annotation[], paths: Map<number, Path2D>, colour: string, isRegion: boolean}} Line */

const SPACINGS = [8, 2, 0]; // pixels of the image between the corners that are drawn, when they are seen from afar
const CELL = 256; // outlines whose centres share such a square are drawn as one path per colour
const WIDTHS = { near: { line: 1.6, halo: 3.4 }, far: { line: 1.1, halo: 2.2 } };
const HALO = "rgb(0 0 0 / 55%)";
const DASH = [9, 6];
const REACH = 5; // pixels of the screen

/** The outlines of the position that is shown. */
export class Outlines {
  constructor() {
    /** @type {Shown[]} */
    this.shown = [];
    /** @type {{box: Box, lines: Line[]}[]} */
    this._cells = [];
  }

  /**
   * Say what is to be drawn.
   * @param {Shown[]} shown
   */
  set(shown) {
    this.shown = shown;
    /** @type {Map<string, {boxes: Box[], lines: Map<string, Line>}>} */
    const cells = new Map();
    for (const { annotation, colour, isRegion } of shown) {
      const { left, top, right, bottom } = annotation.box;
      const place = `${Math.floor((left + right) / 2 / CELL)},${Math.floor((top + bottom) / 2 / CELL)}`;
      let cell = cells.get(place);
      if (!cell) cells.set(place, (cell = { boxes: [], lines: new Map() }));
      cell.boxes.push(annotation.box);
      const kind = `${colour} ${isRegion}`;
      let line = cell.lines.get(kind);
      if (!line) cell.lines.set(kind, (line = { annotations: [], paths: new Map(), colour, isRegion }));
      line.annotations.push(annotation);
    }
    this._cells = [...cells.values()].map(({ boxes, lines }) => ({
      box: boxOf(boxes.flatMap(({ left, top, right, bottom }) => [{ x: left, y: top }, { x: right, y: bottom }])),
      lines: [...lines.values()],
    }));
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {import("./camera.js").Camera} camera
   * @param {number} pixel
   */
  draw(context, camera, pixel) {
    const seen = camera.seen();
    const spacing = SPACINGS.find((length) => length <= pixel) ?? 0;
    const lines = this._cells
      .filter(({ box }) => overlap(box, seen))
      .flatMap((cell) => cell.lines.map((line) => ({ ...line, path: pathOf(line, spacing) })));
    context.lineJoin = "round";
    context.strokeStyle = HALO;
    const width = spacing ? WIDTHS.far : WIDTHS.near;
    context.lineWidth = width.halo * pixel;
    for (const { path } of lines) context.stroke(path);
    context.lineWidth = width.line * pixel;
    for (const { path, colour, isRegion } of lines) {
      context.strokeStyle = colour;
      context.setLineDash(isRegion ? DASH.map((length) => length * pixel) : []);
      context.stroke(path);
    }
    context.setLineDash([]);
  }

  /**
   * Find the smallest outline at a point, or the nearest one within reach.
   * @param {import("./dataset.js").Point} point of the image
   * @param {number} pixel
   * @returns {Annotation | null}
   */
  at(point, pixel) {
    const reach = REACH * pixel;
    const near = { left: point.x - reach, top: point.y - reach, right: point.x + reach, bottom: point.y + reach };
    const candidates = this.shown.map(({ annotation }) => annotation).filter(({ box }) => overlap(box, near));
    const around = candidates.filter((annotation) => annotation.isClosed && isInside(point, annotation.points));
    const beside = candidates
      .map((annotation) => ({ annotation, distance: distanceToOutline(point, annotation.points, annotation.isClosed) }))
      .filter(({ distance }) => distance <= reach)
      .sort((one, other) => one.distance - other.distance);
    const open = beside.find(({ annotation }) => !annotation.isClosed);
    if (open) return open.annotation;
    const smallest = around.sort((one, other) => one.area - other.area)[0];
    return smallest ?? beside[0]?.annotation ?? null;
  }
}

/**
 * @param {Line} line
 * @param {number} spacing
 */
function pathOf({ annotations, paths }, spacing) {
  let path = paths.get(spacing);
  if (!path) {
    paths.set(spacing, (path = new Path2D()));
    for (const annotation of annotations) trace(path, annotation, spacing);
  }
  return path;
}

/**
 * Add an annotation's line to a path.
 * @param {Path2D} path
 * @param {Annotation} annotation
 * @param {number} [spacing] leave out corners that are nearer than this to the one before
 */
export function trace(path, annotation, spacing = 0) {
  const [first, ...others] = annotation.points;
  if (annotation.document.shape === "point") {
    path.moveTo(first.x + 2, first.y);
    path.arc(first.x, first.y, 2, 0, 2 * Math.PI);
    return;
  }
  path.moveTo(first.x, first.y);
  let last = first;
  for (const point of others) {
    if (Math.abs(point.x - last.x) + Math.abs(point.y - last.y) < spacing) continue;
    path.lineTo(point.x, point.y);
    last = point;
  }
  if (annotation.isClosed) path.closePath();
}
