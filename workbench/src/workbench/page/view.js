/** What is looked at: a position, a channel, and the contrast of each channel. */

/** @typedef {import("./dataset.js").Position} Position */
/** @typedef {import("./frame_image.js").Contrast} Contrast */

/** Dispatches `place` when another frame is looked at and `contrast` when its grey values are shown differently. */
export class View extends EventTarget {
  /** @param {import("./dataset.js").Dataset} dataset */
  constructor(dataset) {
    super();
    this.dataset = dataset;
    /** @type {Position} */
    this.position = { XY: 0, Z: 0, Time: 0 };
    this.channel = 0;
    /** @type {Map<number, Contrast>} */
    this._contrasts = new Map();
  }

  /** @returns {number | undefined} number of the frame, undefined where there is none */
  get frame() {
    return this.dataset.frame(this.position, this.channel);
  }

  /** @returns {Contrast | undefined} */
  get contrast() {
    return this._contrasts.get(this.channel);
  }

  /**
   * Look at another frame.
   * @param {Partial<Position>} change
   * @param {number} [channel]
   */
  go(change, channel = this.channel) {
    const position = { ...this.position, ...change };
    for (const axis of /** @type {const} */ (["XY", "Z", "Time"])) {
      position[axis] = Math.max(0, Math.min(this.dataset.sizes[axis] - 1, position[axis]));
    }
    this.position = position;
    this.channel = channel;
    this.dispatchEvent(new Event("place"));
  }

  /**
   * @param {number} channel
   * @param {Contrast} contrast
   */
  setContrast(channel, contrast) {
    this._contrasts.set(channel, contrast);
    if (channel === this.channel) this.dispatchEvent(new Event("contrast"));
  }
}
