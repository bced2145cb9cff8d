/** Plane geometry of outlines, in pixels of the image. */

/** @typedef {import("./dataset.js").Point} Point */
/** @typedef {{left: number, top: number, right: number, bottom: number}} Box */

/**
 * @param {Point[]} points
 * @returns {Box}
 */
export function boxOf(points) {
  const box = { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity };
  for (const { x, y } of points) {
    if (x < box.left) box.left = x;
    if (x > box.right) box.right = x;
    if (y < box.top) box.top = y;
    if (y > box.bottom) box.bottom = y;
  }
  return box;
}

/**
 * @param {Box} one
 * @param {Box} other
 */
export function overlap(one, other) {
  return one.left <= other.right && one.right >= other.left && one.top <= other.bottom && one.bottom >= other.top;
}

/**
 * Twice the area, by the shoelace formula; its sign is the turning direction.
 * @param {Point[]} points
 */
function doubleArea(points) {
  let sum = 0;
  for (let index = 0, last = points.length - 1; index < points.length; last = index++) {
    sum += points[last].x * points[index].y - points[index].x * points[last].y;
  }
  return sum;
}

/**
 * @param {Point[]} points of a closed outline
 */
export const areaOf = (points) => Math.abs(doubleArea(points)) / 2;

/**
 * The centre of mass of a closed outline; of one without area, the mean of its points.
 * @param {Point[]} points
 * @returns {Point}
 */
export function centroidOf(points) {
  const area = doubleArea(points);
  const origin = points[0];
  let [x, y] = [0, 0];
  if (Math.abs(area) < 1e-9) {
    for (const point of points) [x, y] = [x + point.x / points.length, y + point.y / points.length];
    return { x, y };
  }
  for (let index = 0, last = points.length - 1; index < points.length; last = index++) {
    // Relative to a point of the outline, so that far from the image's corner no digits are lost.
    const [ax, ay] = [points[last].x - origin.x, points[last].y - origin.y];
    const [bx, by] = [points[index].x - origin.x, points[index].y - origin.y];
    const cross = ax * by - bx * ay;
    x += (ax + bx) * cross;
    y += (ay + by) * cross;
  }
  return { x: origin.x + x / (3 * area), y: origin.y + y / (3 * area) };
}

/**
 * @param {Point} point
 * @param {Point[]} points of a closed outline, by the even-odd rule
 */
export function isInside({ x, y }, points) {
  let inside = false;
  for (let index = 0, last = points.length - 1; index < points.length; last = index++) {
    const [a, b] = [points[index], points[last]];
    if (a.y > y !== b.y > y && x < ((b.x - a.x) * (y - a.y)) / (b.y - a.y) + a.x) inside = !inside;
  }
  return inside;
}

/**
 * @param {Point} point
 * @param {Point} start
 * @param {Point} end
 * @returns {number} distance of the point from the line between start and end
 */
export function distanceToLine(point, start, end) {
  const [dx, dy] = [end.x - start.x, end.y - start.y];
  const length = dx * dx + dy * dy;
  const along = length ? ((point.x - start.x) * dx + (point.y - start.y) * dy) / length : 0;
  const part = Math.min(1, Math.max(0, along));
  return Math.hypot(point.x - start.x - part * dx, point.y - start.y - part * dy);
}

/**
 * @param {Point} point
 * @param {Point[]} points
 * @param {boolean} closed whether a line leads from the last point to the first
 */
export function distanceToOutline(point, points, closed) {
  let nearest = Math.hypot(point.x - points[0].x, point.y - points[0].y);
  for (let index = closed ? 0 : 1; index < points.length; index++) {
    const last = points[(index + points.length - 1) % points.length];
    nearest = Math.min(nearest, distanceToLine(point, last, points[index]));
  }
  return nearest;
}

/**
 * Leave out points of a line that hardly change it (Douglas and Peucker 1973).
 * @param {Point[]} points
 * @param {number} tolerance how far the line may move
 * @returns {Point[]}
 */
export function simplify(points, tolerance) {
  if (points.length < 3) return points;
  const kept = new Uint8Array(points.length);
  kept[0] = kept[points.length - 1] = 1;
  const parts = [[0, points.length - 1]];
  for (let part = parts.pop(); part; part = parts.pop()) {
    const [start, end] = part;
    let [farthest, distance] = [0, tolerance];
    for (let index = start + 1; index < end; index++) {
      const here = distanceToLine(points[index], points[start], points[end]);
      if (here > distance) [farthest, distance] = [index, here];
    }
    if (farthest) {
      kept[farthest] = 1;
      parts.push([start, farthest], [farthest, end]);
    }
  }
  return points.filter((_, index) => kept[index]);
}

/**
 * Make an outline of a drawn line: closed, simplified, within the image.
 * @param {Point[]} line as the mouse went
 * @param {number} tolerance in pixels of the image
 * @param {{width: number, height: number}} image
 * @returns {Point[]} its corners, without the first one again at the end
 */
export function closeLine(line, tolerance, { width, height }) {
  const clamped = line.map(({ x, y }) => ({
    x: Math.round(Math.min(width, Math.max(0, x)) * 100) / 100,
    y: Math.round(Math.min(height, Math.max(0, y)) * 100) / 100,
  }));
  const simple = simplify([...clamped, clamped[0]], tolerance);
  return simple.slice(0, -1);
}
