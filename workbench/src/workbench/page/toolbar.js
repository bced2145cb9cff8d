/** The buttons over the image: what the mouse does, undo and redo, zoom; and the state of saving. */

import { find } from "./ui.js";

const WHEEL_STEP = 1.4;

/** Connects the buttons. */
export class Toolbar {
  /**
   * @param {HTMLElement} root
   * @param {object} parts
   * @param {import("./stage.js").Stage} parts.stage
   * @param {import("./pointer.js").Pointer} parts.pointer
   * @param {import("./edit.js").Editor} parts.editor
   */
  constructor(root, { stage, pointer, editor }) {
    this._root = root;
    this._stage = stage;
    this._pointer = pointer;
    this._editor = editor;
    /** @type {HTMLButtonElement[]} */
    this._modes = [...root.querySelectorAll("button[data-mode]")].map((button) => /** @type {HTMLButtonElement} */ (button));
    for (const button of this._modes) {
      button.addEventListener("click", () => this.setMode(/** @type {any} */ (button.dataset.mode)));
    }
    find(root, "#undo").addEventListener("click", () => this.undo());
    find(root, "#redo").addEventListener("click", () => this.redo());
    find(root, "#zoom-in").addEventListener("click", () => this.zoom(1));
    find(root, "#zoom-out").addEventListener("click", () => this.zoom(-1));
    find(root, "#fit").addEventListener("click", () => this.fit());
    stage.addEventListener("move", () => this._showZoom());
    editor.addEventListener("change", () => this._showEdits());
    this.setMode("select");
    this._showZoom();
    this._showEdits();
  }

  /** @param {import("./pointer.js").Mode} mode */
  setMode(mode) {
    this._pointer.setMode(mode);
    for (const button of this._modes) button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
  }

  undo() {
    const name = this._editor.undo();
    this._announce(name ? `Taken back: ${name}.` : "There is nothing to undo.");
  }

  redo() {
    const name = this._editor.redo();
    this._announce(name ? `Done again: ${name}.` : "There is nothing to redo.");
  }

  /** @param {1 | -1} direction */
  zoom(direction) {
    this._stage.move((camera) => camera.zoom(WHEEL_STEP ** direction));
  }

  fit() {
    this._stage.move((camera) => camera.fit());
  }

  _showZoom() {
    find(this._root, "#zoom").textContent = `${Math.round(this._stage.camera.scale * 100)} %`;
  }

  _showEdits() {
    const { undoName, redoName, isSaving } = this._editor;
    const [undo, redo] = [find(this._root, "#undo"), find(this._root, "#redo")];
    undo.disabled = !undoName;
    redo.disabled = !redoName;
    undo.title = undoName ? `Undo: ${undoName} (Ctrl+Z)` : "Undo (Ctrl+Z)";
    redo.title = redoName ? `Redo: ${redoName} (Ctrl+Shift+Z)` : "Redo (Ctrl+Shift+Z)";
    find(this._root, "#saving").textContent = isSaving ? "Saving…" : undoName || redoName ? "Saved" : "";
  }

  /** @param {string} text for screen readers, and for whoever looks */
  _announce(text) {
    find(this._root, "#edit-state").textContent = text;
  }
}
