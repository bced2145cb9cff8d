/** A dataset: its image, and what the image's frames are. */

import { getFolder, getTiles, listItems } from "./api.js";

/** @typedef {{XY: number, Z: number, Time: number}} Position counted from 0 */
/** @typedef {{x: number, y: number}} Point in pixels of the image; the upper left corner of its first pixel is 0, 0 */

export const AXES = /** @type {const} */ (["XY", "Z", "Time"]);
const INDEX_KEYS = { XY: "IndexXY", Z: "IndexZ", Time: "IndexT" };

/**
 * Give the item that is a dataset's image.
 * @param {any} folder
 * @param {any[]} items
 */
export function imageOf(folder, items) {
  const images = items.filter((item) => item.largeImage);
  const selected = images.find((item) => item._id === folder.meta?.selectedLargeImageId);
  if (!images.length) throw new Error(`The dataset ${folder.name} has no image. Import it again.`);
  return selected ?? images[0];
}

/** What the page knows about a dataset. */
export class Dataset {
  /**
   * @param {any} folder
   * @param {any} item its image
   * @param {any} tiles the image's metadata
   */
  constructor(folder, item, tiles) {
    this.id = folder._id;
    this.name = folder.name;
    this.itemId = item._id;
    this.width = tiles.sizeX;
    this.height = tiles.sizeY;
    this.dtype = tiles.dtype ?? "";
    this.isColour = (tiles.bandCount ?? 1) > 2;
    this.pixelSizeMm = tiles.mm_x ?? null;
    /** @type {Record<"XY" | "Z" | "Time", number>} */
    this.sizes = { XY: 1, Z: 1, Time: 1 };
    const frames = tiles.frames ?? [{ Frame: 0 }];
    for (const axis of AXES) this.sizes[axis] = countOf(tiles, frames, INDEX_KEYS[axis]);
    /** @type {string[]} */
    this.channels = channelNames(tiles, frames, countOf(tiles, frames, "IndexC"));
    this._frames = new Map(
      frames.map((/** @type {any} */ frame, /** @type {number} */ number) => [
        [frame.IndexXY, frame.IndexZ, frame.IndexT, frame.IndexC].map((index) => index ?? 0).join(),
        frame.Frame ?? number,
      ]),
    );
  }

  /**
   * @param {string} id
   * @returns {Promise<Dataset>}
   */
  static async load(id) {
    const folder = await getFolder(id);
    const item = imageOf(folder, await listItems(id));
    return new Dataset(folder, item, await getTiles(item._id));
  }

  /**
   * @param {Position} position
   * @param {number} channel
   * @returns {number | undefined} number of the frame; undefined where the dataset has none
   */
  frame({ XY, Z, Time }, channel) {
    return this._frames.get([XY, Z, Time, channel].join());
  }
}

/**
 * @param {any} tiles
 * @param {any[]} frames
 * @param {string} key
 */
function countOf(tiles, frames, key) {
  const used = frames.reduce((most, frame) => Math.max(most, (frame[key] ?? 0) + 1), 1);
  return Math.max(used, tiles.IndexRange?.[key] ?? 1);
}

/**
 * @param {any} tiles
 * @param {any[]} frames
 * @param {number} count
 */
function channelNames(tiles, frames, count) {
  return Array.from({ length: count }, (_, channel) => {
    const frame = frames.find((one) => (one.IndexC ?? 0) === channel && one.Channel);
    return tiles.channels?.[channel] ?? frame?.Channel ?? `Channel ${channel + 1}`;
  });
}
