/** What a person does to outlines: draw, select, delete, tag, accept. Shows the selection in the panel. */

import { Annotation } from "./annotations.js";
import { areaOf, isInside } from "./geometry.js";
import { tell } from "./messages.js";
import { recall, remember } from "./session.js";
import { TagsField } from "./tags_field.js";
import { counted, find, formatNumber } from "./ui.js";

const SMALLEST_AREA = 4; // pixels; less is a slip of the hand

/** Keeps the selection; dispatches `select`. */
export class Corrections extends EventTarget {
  /**
   * @param {HTMLElement} root the panel
   * @param {object} parts
   * @param {import("./view.js").View} parts.view
   * @param {import("./annotations.js").Annotations} parts.annotations
   * @param {import("./edit.js").Editor} parts.editor
   * @param {import("./outlines.js").Outlines} parts.outlines
   */
  constructor(root, { view, annotations, editor, outlines }) {
    super();
    this._view = view;
    this._annotations = annotations;
    this._editor = editor;
    this._outlines = outlines;
    /** @type {Set<Annotation>} */
    this.selected = new Set();
    /** @type {Set<string>} tags that all of the selection have */
    this._common = new Set();
    /** @type {Set<string>} tags that some of it have */
    this._partial = new Set();
    this._summary = find(root, ".summary");
    this._actions = find(root, ".actions");
    this._accept = find(root, "#accept");
    this._tags = new TagsField({ label: "Tags of the selection", onChange: (tags) => this._retag(tags) });
    find(root, ".selection-tags").append(this._tags.root);
    find(root, "#delete").addEventListener("click", () => this.delete());
    this._accept.addEventListener("click", () => this.acceptAll());
    this._settings = { corrected: "corrected", region: "region", ...recall(`tags of ${view.dataset.id}`, {}) };
    for (const name of /** @type {const} */ (["corrected", "region"])) {
      /** @type {HTMLInputElement} */
      const input = find(root, `#tag-${name}`);
      input.value = this._settings[name];
      input.addEventListener("change", () => {
        input.value = this._settings[name] = input.value.trim() || name;
        remember(`tags of ${view.dataset.id}`, this._settings);
        annotations.dispatchEvent(new Event("change")); // what is a region may have changed
      });
    }
    this.update();
  }

  /**
   * @param {Annotation} annotation
   * @returns {boolean} whether it bounds what was corrected, and is no object itself
   */
  isRegion(annotation) {
    return annotation.document.shape === "rectangle" || annotation.tags.includes(this._settings.region);
  }

  /**
   * Select what is at a point.
   * @param {import("./dataset.js").Point} point
   * @param {number} pixel size of a pixel of the screen
   * @param {boolean} isAdded to the selection, or taken out of it
   */
  selectAt(point, pixel, isAdded) {
    const found = this._outlines.at(point, pixel);
    if (!isAdded) this.select(found ? [found] : []);
    else if (found) {
      const others = [...this.selected].filter((annotation) => annotation !== found);
      this.select(this.selected.has(found) ? others : [...others, found]);
    }
  }

  /** @param {Annotation[]} annotations */
  select(annotations) {
    this.selected = new Set(annotations);
    this.update();
  }

  /** Select everything that is shown. */
  selectAll() {
    this.select(this._outlines.shown.map(({ annotation }) => annotation));
  }

  /**
   * Select the next outline, in the order of their making.
   * @param {1 | -1} step
   * @returns {Annotation | undefined}
   */
  selectNext(step) {
    const all = this._outlines.shown.map(({ annotation }) => annotation);
    const current = all.findIndex((annotation) => this.selected.has(annotation));
    const next = all.at(current < 0 ? (step > 0 ? 0 : -1) : (current + step) % all.length);
    this.select(next ? [next] : []);
    return next;
  }

  /**
   * Make an annotation of what was drawn.
   * @param {import("./pointer.js").Mode} mode
   * @param {import("./dataset.js").Point[]} points
   */
  draw(mode, points) {
    const isRegion = mode === "region";
    if (points.length < 3 || areaOf(points) < SMALLEST_AREA) {
      tell(`Too small. Keep the mouse button down and draw ${isRegion ? "across the region" : "around the object"}.`);
      return;
    }
    const annotation = new Annotation({
      datasetId: this._view.dataset.id,
      shape: isRegion ? "rectangle" : "polygon",
      coordinates: points,
      tags: [isRegion ? this._settings.region : this._settings.corrected],
      channel: this._view.channel,
      location: this._view.position,
    });
    this._editor.perform({ name: isRegion ? "draw a region" : "draw an outline", added: [annotation] });
    this.select([annotation]);
  }

  /** Delete the selection. */
  delete() {
    const removed = [...this.selected];
    if (!removed.length) return;
    this.select([]);
    this._editor.perform({ name: `delete ${this._count(removed)}`, removed });
  }

  /** Add the tag of corrected outlines to all that are shown and have their centre in a selected region. */
  acceptAll() {
    const regions = [...this.selected].filter((annotation) => this.isRegion(annotation));
    if (!regions.length) return tell("Select a region first: choose Select, then click on its dashed line.");
    const tag = this._settings.corrected;
    const isWithin = (/** @type {Annotation} */ { centroid }) => regions.some(({ points }) => isInside(centroid, points));
    const inside = this._annotations
      .at(this._view.position)
      .filter((annotation) => annotation.document.shape === "polygon" && !this.isRegion(annotation))
      .filter(isWithin);
    const seen = new Set(this._outlines.shown.map(({ annotation }) => annotation));
    const shown = inside.filter((annotation) => seen.has(annotation));
    const changed = shown.filter((annotation) => !annotation.tags.includes(tag));
    if (changed.length) {
      const retagged = changed.map((one) => ({ annotation: one, before: one.tags, after: [...one.tags, tag] }));
      this._editor.perform({ name: `accept ${counted(changed.length, "outline")}`, retagged });
    }
    const hidden = inside.length - shown.length;
    const already = shown.length - changed.length;
    tell(
      `${counted(changed.length, "outline")} got the tag “${tag}”` +
        (already ? `; ${already.toLocaleString("en")} had it already` : "") +
        (hidden ? `; ${counted(hidden, "hidden outline")} left as they are` : "") +
        ".",
    );
  }

  /** Show the selection, without what is hidden or gone. */
  update() {
    const shown = new Set(this._outlines.shown.map(({ annotation }) => annotation));
    this.selected = new Set([...this.selected].filter((annotation) => shown.has(annotation)));
    const selected = [...this.selected];
    this._actions.hidden = !selected.length;
    this._accept.disabled = !selected.some((annotation) => this.isRegion(annotation));
    this._summary.textContent = selected.length ? this._describe(selected) : "Nothing is selected. Click an outline.";
    /** @type {Map<string, number>} */
    const counts = new Map();
    for (const { tags } of selected) for (const tag of new Set(tags)) counts.set(tag, (counts.get(tag) ?? 0) + 1);
    const partial = [...counts].filter(([, count]) => count < selected.length);
    const notes = new Map(partial.map(([tag, count]) => [tag, `on ${count} of ${selected.length}`]));
    this._tags.set([...counts.keys()], notes);
    this._common = new Set([...counts.keys()].filter((tag) => !notes.has(tag)));
    this._partial = new Set(notes.keys());
    this.dispatchEvent(new Event("select"));
  }

  /** @param {string[]} tags that the field holds now */
  _retag(tags) {
    const kept = new Set(tags);
    const removed = [...this._common, ...this._partial].filter((tag) => !kept.has(tag));
    const added = tags.filter((tag) => !this._common.has(tag) && this._tags.holds(tag));
    const retagged = [...this.selected].map((annotation) => {
      const before = annotation.tags;
      const rest = before.filter((tag) => !removed.includes(tag));
      return { annotation, before, after: [...rest, ...added.filter((tag) => !rest.includes(tag))] };
    });
    this._editor.perform({ name: `change tags of ${this._count([...this.selected])}`, retagged });
  }

  /** @param {Annotation[]} annotations */
  _count(annotations) {
    const isRegion = annotations.every((annotation) => this.isRegion(annotation));
    return counted(annotations.length, isRegion ? "region" : "outline");
  }

  /** @param {Annotation[]} selected */
  _describe(selected) {
    if (selected.length > 1) return `${this._count(selected)} selected.`;
    const [annotation] = selected;
    const names = new Map([["polygon", "Outline"], ["point", "Point"], ["line", "Line"]]);
    const name = this.isRegion(annotation) ? "Region" : names.get(annotation.document.shape);
    const size = this._view.dataset.pixelSizeMm;
    const area = `${formatNumber(annotation.area)} px²`;
    const real = size ? ` (${formatNumber(annotation.area * (size * 1000) ** 2)} µm²)` : "";
    return `${name}${annotation.isClosed ? `, ${area}${real}` : ""}.`;
  }
}
