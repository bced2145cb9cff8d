/** Edits of annotations: shown at once, saved in the background, undone and done again. */

import * as api from "./api.js";

/** @typedef {import("./annotations.js").Annotation} Annotation */
/** @typedef {import("./annotations.js").Annotations} Annotations */
/**
 * @typedef {object} Change
 * @property {string} name such as "delete 3 outlines"
 * @property {Annotation[]} [added]
 * @property {Annotation[]} [removed]
 * @property {{annotation: Annotation, before: string[], after: string[]}[]} [retagged]
 */

const STEPS_KEPT = 200;

/** Makes, saves and takes back changes; dispatches `change` when one was made or saved. */
export class Editor extends EventTarget {
  /**
   * @param {string} datasetId
   * @param {Annotations} annotations
   * @param {(text: string, error: unknown) => void} onFailure
   */
  constructor(datasetId, annotations, onFailure) {
    super();
    this._datasetId = datasetId;
    this._annotations = annotations;
    this._onFailure = onFailure;
    /** @type {Change[]} */
    this._done = [];
    /** @type {Change[]} */
    this._undone = [];
    /** @type {Change[]} made here and not yet saved, in their order */
    this._unsaved = [];
    this._queue = Promise.resolve();
  }

  /** @returns {string | null} name of the change that undo takes back */
  get undoName() {
    return this._done.at(-1)?.name ?? null;
  }

  /** @returns {string | null} */
  get redoName() {
    return this._undone.at(-1)?.name ?? null;
  }

  get isSaving() {
    return this._unsaved.length > 0;
  }

  /**
   * Make a change.
   * @param {Change} change
   */
  perform(change) {
    this._done = [...this._done, change].slice(-STEPS_KEPT);
    this._undone = [];
    this._make(change);
  }

  /** @returns {string | null} name of what was taken back */
  undo() {
    const change = this._done.pop();
    if (!change) return null;
    this._undone.push(change);
    this._make(inverse(change));
    return change.name;
  }

  /** @returns {string | null} name of what was done again */
  redo() {
    const change = this._undone.pop();
    if (!change) return null;
    this._done.push(change);
    this._make(change);
    return change.name;
  }

  /** Read all annotations from the server, when what was changed here is saved. */
  reload() {
    return this._enqueue(() => this._read());
  }

  /** @param {Change} change */
  _make(change) {
    const possible = this._possible(change);
    this._apply(possible);
    this._unsaved.push(possible);
    this._enqueue(() => this._save(possible));
    this._changed();
  }

  /**
   * Leave out what another program deleted meanwhile.
   * @param {Change} change
   * @returns {Change}
   */
  _possible({ name, added = [], removed = [], retagged = [] }) {
    const isThere = (/** @type {Annotation} */ annotation) => this._annotations.has(annotation);
    return {
      name,
      added: added.filter((annotation) => !isThere(annotation)),
      removed: removed.filter(isThere),
      retagged: retagged.filter(({ annotation }) => isThere(annotation)),
    };
  }

  /** @param {Change} change */
  _apply({ added = [], removed = [], retagged = [] }) {
    if (removed.length) this._annotations.remove(removed);
    if (added.length) this._annotations.add(added);
    if (retagged.length) {
      this._annotations.setTags(retagged.map(({ annotation, after }) => ({ annotation, tags: after })));
    }
  }

  /** @param {Change} change */
  async _save(change) {
    if (!this._unsaved.includes(change)) return; // taken back with one before it
    const { added = [], removed = [], retagged = [] } = change;
    try {
      if (removed.length) await api.deleteAnnotations(removed.map(savedId));
      if (added.length) {
        const documents = await api.createAnnotations(added.map(({ document }) => document));
        added.forEach((annotation, index) => this._annotations.setId(annotation, documents[index]._id));
      }
      if (retagged.length) {
        await api.updateAnnotations(retagged.map(({ annotation, after }) => ({ id: savedId(annotation), tags: after })));
      }
      this._unsaved.shift();
      this._changed();
    } catch (error) {
      await this._takeBack(change, error);
    }
  }

  /**
   * @param {Change} change that could not be saved
   * @param {unknown} error
   */
  async _takeBack(change, error) {
    for (const unsaved of this._unsaved.reverse()) this._apply(inverse(unsaved));
    this._unsaved = [];
    this._done = [];
    this._undone = [];
    this._changed();
    this._onFailure(`Not saved, and taken back: ${change.name}.`, error);
    try {
      await this._read(); // a part of it may have arrived
    } catch {
      // The failure has been told; what is shown is what was saved last.
    }
  }

  async _read() {
    const documents = await api.listAnnotations(this._datasetId);
    this._annotations.replaceAll(documents);
    for (const change of this._unsaved) this._apply(change);
    this._changed();
  }

  /** @param {() => Promise<void>} action */
  _enqueue(action) {
    const result = this._queue.then(action);
    this._queue = result.catch(() => {});
    return result;
  }

  _changed() {
    this.dispatchEvent(new Event("change"));
  }
}

/**
 * @param {Change} change
 * @returns {Change} what takes it back
 */
function inverse({ name, added, removed, retagged }) {
  return {
    name,
    added: removed,
    removed: added,
    retagged: retagged?.map(({ annotation, before, after }) => ({ annotation, before: after, after: before })),
  };
}

/** @param {Annotation} annotation */
function savedId(annotation) {
  if (annotation.id === null) throw new Error("This outline is not saved yet.");
  return annotation.id;
}
