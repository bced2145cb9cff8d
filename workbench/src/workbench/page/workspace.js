/** The screen of one dataset: puts the parts together. */

import { Annotations } from "./annotations.js";
import { CachedDrawing } from "./cached_drawing.js";
import { Colours } from "./colours.js";
import { ContrastControl } from "./contrast.js";
import { Corrections } from "./corrections.js";
import { Dataset } from "./dataset.js";
import { Editor } from "./edit.js";
import { FrameImage } from "./frame_image.js";
import { Jobs } from "./jobs.js";
import { JobsPanel } from "./jobs_panel.js";
import { Legend } from "./legend.js";
import { tell, tellError } from "./messages.js";
import { Outlines } from "./outlines.js";
import { makePlaceControls } from "./place_controls.js";
import { Pointer } from "./pointer.js";
import { addScaleBar } from "./scale_bar.js";
import { drawSelection } from "./selection_layer.js";
import { listenToKeys } from "./shortcuts.js";
import { Stage } from "./stage.js";
import { makeTabs } from "./tabs.js";
import { proposeTags } from "./tags_field.js";
import { Toolbar } from "./toolbar.js";
import { ToolsPanel } from "./tools.js";
import { counted, element, find, fromTemplate } from "./ui.js";
import { View } from "./view.js";
import { workspaceShortcuts } from "./workspace_keys.js";

/**
 * Open a dataset.
 * @param {HTMLElement} screen
 * @param {string} datasetId
 * @returns {Promise<() => void>} what to call when the screen is left
 */
export async function openWorkspace(screen, datasetId) {
  const dataset = await Dataset.load(datasetId);
  document.title = `${dataset.name} – Workbench`;
  find(document, "#place").replaceChildren(element("h1", { text: dataset.name }));
  screen.replaceChildren(fromTemplate("workspace"));
  const workspace = new Workspace(screen, dataset);
  return () => workspace.close();
}

class Workspace {
  /**
   * @param {HTMLElement} root
   * @param {Dataset} dataset
   */
  constructor(root, dataset) {
    this._root = root;
    this.view = new View(dataset);
    this._annotations = new Annotations();
    this.editor = new Editor(dataset.id, this._annotations, tellError);
    this._outlines = new Outlines();
    this._drawing = new CachedDrawing(
      (context, camera, pixel) => this._outlines.draw(context, camera, pixel),
      () => this.stage.redraw("outlines"),
    );
    this._colours = new Colours();
    this.legend = new Legend(find(root, ".legend"), this._colours);
    this.stage = new Stage(find(root, ".canvas-area"), dataset);
    this._picture = new FrameImage(dataset, {
      onChange: () => this._pictureChanged(),
      onState: (state, error) => this._showPictureState(state, error),
    });
    const { view, editor, stage } = this;
    const annotations = this._annotations;
    this.corrections = new Corrections(find(root, "#correct"), { view, annotations, editor, outlines: this._outlines });
    this._pointer = new Pointer(stage, {
      onSelect: (point, isAdded) => this.corrections.selectAt(point, 1 / stage.camera.scale, isAdded),
      onDrawn: (mode, points) => this.corrections.draw(mode, points),
    });
    addScaleBar(stage, dataset.pixelSizeMm);
    this.toolbar = new Toolbar(find(root, ".stage"), { stage, pointer: this._pointer, editor });
    this._contrast = new ContrastControl(find(root, ".contrast"), view);
    makePlaceControls(find(root, ".places"), view);
    this._jobs = new Jobs();
    new JobsPanel(find(root, "#jobs"), this._jobs, dataset.id);
    const tools = new ToolsPanel(find(root, "#tools"), view, (job) => this._submitted(job));
    let isListed = false;
    this._showTab = makeTabs(find(root, "[role=tablist]"), (name) => {
      if (name !== "tools" || isListed) return;
      isListed = true;
      tools.showList();
    });
    this._connect();
    const { corrections, legend, toolbar } = this;
    const escape = () => this._escape();
    this._endKeys = listenToKeys(workspaceShortcuts({ corrections, legend, stage, toolbar, view, escape }));
    this._showTab("correct");
    this._goTo();
    this.loadOutlines();
    this._jobs.refresh();
  }

  /** Stop everything that goes on in the background. */
  close() {
    this._endKeys();
    this._jobs.close();
    this.stage.close();
  }

  /** Read the outlines from the server. */
  async loadOutlines() {
    const state = find(this._root, "#outline-state");
    state.textContent = "Loading outlines…";
    try {
      await this.editor.reload();
      this._showCounts();
    } catch (error) {
      state.textContent = "The outlines are not loaded.";
      tellError("The outlines could not be loaded.", error);
    }
  }

  /** Give up what is being drawn, then the mode, then the selection. */
  _escape() {
    this._pointer.cancel();
    if (this._pointer.mode !== "select") this.toolbar.setMode("select");
    else this.corrections.select([]);
  }

  _connect() {
    const { stage, view } = this;
    stage.addLayer("image", (context, camera) => this._picture.draw(context, camera));
    stage.addLayer("outlines", (context, camera) => this._drawing.draw(context, camera));
    stage.addLayer("overlay", (context, _, pixel) => {
      drawSelection(context, this.corrections.selected, pixel);
      this._pointer.draw(context, pixel);
    });
    stage.addEventListener("move", () => this._picture.look(stage.camera, stage.density));
    view.addEventListener("place", () => this._goTo());
    view.addEventListener("contrast", () => this._showPicture());
    this._annotations.addEventListener("change", () => this._updateOutlines());
    this.legend.addEventListener("change", () => this._updateOutlines());
    this.corrections.addEventListener("select", () => {
      stage.redraw("overlay");
      this._showCounts();
    });
    this._jobs.addEventListener("change", () => this._showJobChip());
    this._jobs.addEventListener("end", (event) => this._jobEnded(/** @type {CustomEvent} */ (event).detail));
    const chip = find(document, "#job-chip");
    chip.onclick = () => this._showTab("jobs");
  }

  _goTo() {
    this._updateOutlines();
    if (this.view.frame === undefined) {
      this._picture.clear();
      this._showPictureState("missing");
    } else if (this.view.contrast || this.view.dataset.isColour) this._showPicture();
    else this._contrast.automatic();
  }

  _showPicture() {
    const { frame, contrast, dataset } = this.view;
    if (frame === undefined) return;
    if (dataset.isColour) this._picture.show(frame, null);
    else if (contrast) this._picture.show(frame, contrast);
  }

  _pictureChanged() {
    this.stage.redraw("image");
    this._picture.look(this.stage.camera, this.stage.density);
  }

  /**
   * @param {"loading" | "ready" | "failed" | "missing"} state
   * @param {unknown} [error]
   */
  _showPictureState(state, error) {
    const box = find(this._root, ".picture-state");
    box.className = `picture-state ${state}`;
    const text = error instanceof Error ? error.message : String(error ?? "");
    find(box, "p").textContent = {
      loading: "Loading the image…",
      ready: "",
      failed: `The image could not be loaded. ${text}`,
      missing: "The dataset has no image at this position.",
    }[state];
    find(box, "button").hidden = state !== "failed";
    find(box, "button").onclick = () => this._picture.retry();
  }

  _updateOutlines() {
    const counts = this._annotations.countTags(this.view.position);
    for (const tag of counts.keys()) this._colours.of(tag); // in the order of the legend
    const shown = [];
    for (const annotation of this._annotations.at(this.view.position)) {
      const colour = this.legend.colourOf(annotation.tags);
      if (colour) shown.push({ annotation, colour, isRegion: this.corrections.isRegion(annotation) });
    }
    this._outlines.set(shown);
    this._drawing.invalidate();
    this.legend.show(counts);
    proposeTags(counts.keys());
    this.corrections.update();
    this.stage.redraw("outlines", "overlay");
  }

  _showCounts() {
    const { shown } = this._outlines;
    const regions = shown.filter(({ isRegion }) => isRegion).length;
    const selected = this.corrections.selected.size;
    const counts = [counted(shown.length - regions, "outline"), regions ? counted(regions, "region") : ""];
    const text = [...counts, selected ? `${selected.toLocaleString("en")} selected` : ""].filter(Boolean).join(", ");
    find(this._root, "#outline-state").textContent = text;
  }

  /** @param {any} job */
  _submitted(job) {
    this._jobs.add(job);
    this._showTab("jobs");
    document.getElementById("tab-jobs")?.focus();
  }

  _showJobChip() {
    const { active } = this._jobs;
    const chip = find(document, "#job-chip");
    chip.hidden = !active.length;
    const progress = active.map((job) => job.progress?.progress).find((part) => part > 0);
    chip.textContent = `${counted(active.length, "job")}${progress ? ` · ${Math.round(progress * 100)} %` : ""}`;
    const badge = find(this._root, "#tab-jobs .badge");
    badge.textContent = active.length ? String(active.length) : "";
  }

  /** @param {any} job */
  _jobEnded(job) {
    if (job.status === 4) tellError(`${job.title} failed. See Jobs for the reason.`);
    else tell(`${job.title} ${job.status === 3 ? "is done" : "was cancelled"}.`);
    if (job.datasetId === this.view.dataset.id) this.loadOutlines();
  }
}
