/** The annotations of the open dataset, as this page knows them. */

import { areaOf, boxOf, centroidOf } from "./geometry.js";

/** @typedef {import("./dataset.js").Position} Position */
/** @typedef {import("./geometry.js").Box} Box */

/** One annotation. The object stays the same when it is deleted and, by undoing that, made again. */
export class Annotation {
  /** @param {any} document as the server has it; without `_id` until it is saved */
  constructor({ _id, ...document }) {
    /** @type {string | null} */
    this.id = _id ?? null;
    /** @type {any} without `_id` */
    this.document = document;
    /** @type {Box} */
    this.box = boxOf(document.coordinates);
    this.place = placeKey(document.location);
    /** @type {number | undefined} */
    this._area = undefined;
  }

  /**
   * Take over what the server has.
   * @param {any} document
   */
  read(document) {
    Object.assign(this, new Annotation(document));
  }

  /** @returns {string[]} */
  get tags() {
    return this.document.tags;
  }

  /** @returns {import("./geometry.js").Point[]} */
  get points() {
    return this.document.coordinates;
  }

  /** Whether the last point is connected with the first. */
  get isClosed() {
    return this.document.shape === "polygon" || this.document.shape === "rectangle";
  }

  get area() {
    this._area ??= this.isClosed ? areaOf(this.points) : 0;
    return this._area;
  }

  get centroid() {
    return centroidOf(this.points);
  }
}

/**
 * @param {Partial<Position> | undefined} location an axis that is not named is at its start
 */
export const placeKey = (location) => `${location?.XY ?? 0},${location?.Z ?? 0},${location?.Time ?? 0}`;

/** The annotations of one position, with the number of each tag once it was asked for. */
class Place {
  constructor() {
    /** @type {Set<Annotation>} */
    this.annotations = new Set();
    /** @type {Map<string, number> | null} */
    this._counts = null;
  }

  /** Count the tags anew: something changed. */
  changed() {
    this._counts = null;
  }

  /** @returns {Map<string, number>} annotations without a tag count for the empty text */
  get counts() {
    if (!this._counts) {
      this._counts = new Map();
      for (const { tags } of this.annotations) {
        for (const tag of tags.length ? new Set(tags) : [""]) this._counts.set(tag, (this._counts.get(tag) ?? 0) + 1);
      }
    }
    return this._counts;
  }
}

/** All annotations of a dataset; dispatches `change`. */
export class Annotations extends EventTarget {
  constructor() {
    super();
    /** @type {Map<string, Place>} */
    this._places = new Map();
    /** @type {Map<string, Annotation>} every annotation that was ever saved */
    this._known = new Map();
  }

  /**
   * Take over what the server has.
   * @param {any[]} documents
   */
  replaceAll(documents) {
    this._places.clear();
    for (const document of documents) {
      let annotation = this._known.get(document._id);
      if (annotation) annotation.read(document);
      else annotation = new Annotation(document);
      this._place(annotation).annotations.add(annotation);
      this._known.set(document._id, annotation);
    }
    this._changed([]);
  }

  /** @param {Annotation[]} annotations */
  add(annotations) {
    for (const annotation of annotations) this._place(annotation).annotations.add(annotation);
    this._changed(annotations);
  }

  /** @param {Annotation[]} annotations */
  remove(annotations) {
    for (const annotation of annotations) this._place(annotation).annotations.delete(annotation);
    this._changed(annotations);
  }

  /**
   * Note the identifier that the server gave.
   * @param {Annotation} annotation
   * @param {string} id
   */
  setId(annotation, id) {
    annotation.id = id;
    this._known.set(id, annotation);
  }

  /** @param {{annotation: Annotation, tags: string[]}[]} changes */
  setTags(changes) {
    for (const { annotation, tags } of changes) annotation.document = { ...annotation.document, tags };
    this._changed(changes.map(({ annotation }) => annotation));
  }

  /** @param {Annotation} annotation */
  has(annotation) {
    return this._place(annotation).annotations.has(annotation);
  }

  /**
   * @param {Position} position
   * @returns {Annotation[]}
   */
  at(position) {
    return [...(this._places.get(placeKey(position))?.annotations ?? [])];
  }

  /**
   * Count the tags; annotations without one count for the empty text.
   * @param {Position} position
   * @returns {Map<string, {here: number, all: number}>} in alphabetical order, the empty text last
   */
  countTags(position) {
    const here = this._places.get(placeKey(position))?.counts;
    /** @type {Map<string, number>} */
    const all = new Map();
    for (const { counts } of this._places.values()) {
      for (const [tag, count] of counts) all.set(tag, (all.get(tag) ?? 0) + count);
    }
    const sorted = [...all].sort(([one], [other]) => Number(!one) - Number(!other) || one.localeCompare(other));
    return new Map(sorted.map(([tag, count]) => [tag, { here: here?.get(tag) ?? 0, all: count }]));
  }

  /** @param {Annotation} annotation */
  _place({ place }) {
    let found = this._places.get(place);
    if (!found) this._places.set(place, (found = new Place()));
    return found;
  }

  /** @param {Annotation[]} annotations */
  _changed(annotations) {
    for (const annotation of annotations) this._place(annotation).changed();
    this.dispatchEvent(new Event("change"));
  }
}
