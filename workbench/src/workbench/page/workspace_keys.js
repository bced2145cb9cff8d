/** What the keys do while a dataset is open. */

const PAN_PIXELS = 80;

/**
 * @param {object} parts
 * @param {import("./corrections.js").Corrections} parts.corrections
 * @param {import("./legend.js").Legend} parts.legend
 * @param {import("./stage.js").Stage} parts.stage
 * @param {import("./toolbar.js").Toolbar} parts.toolbar
 * @param {import("./view.js").View} parts.view
 * @param {() => void} parts.escape
 * @returns {import("./shortcuts.js").Shortcut[]}
 */
export function workspaceShortcuts({ corrections, legend, stage, toolbar, view, escape }) {
  const pan = (/** @type {number} */ dx, /** @type {number} */ dy) => () =>
    stage.move((camera) => camera.pan(dx * PAN_PIXELS, dy * PAN_PIXELS));
  const step = (/** @type {"XY" | "Z" | "Time"} */ axis, /** @type {number} */ by) => () =>
    view.go({ [axis]: view.position[axis] + by });
  const select = (/** @type {1 | -1} */ by) => () => {
    const next = corrections.selectNext(by);
    if (next) stage.move((camera) => camera.reveal(next.box));
  };
  const steps = [
    { keys: [","], does: "previous Z", run: step("Z", -1), axis: "Z" },
    { keys: ["."], does: "next Z", run: step("Z", 1), axis: "Z" },
    { keys: ["["], does: "previous time", run: step("Time", -1), axis: "Time" },
    { keys: ["]"], does: "next time", run: step("Time", 1), axis: "Time" },
    { keys: ["PageUp"], does: "previous XY position", run: step("XY", -1), axis: "XY" },
    { keys: ["PageDown"], does: "next XY position", run: step("XY", 1), axis: "XY" },
  ];
  return [
    { keys: ["V"], does: "select, and move the image", run: () => toolbar.setMode("select") },
    { keys: ["O"], does: "draw outlines", run: () => toolbar.setMode("outline") },
    { keys: ["R"], does: "draw regions", run: () => toolbar.setMode("region") },
    { keys: ["Escape"], does: "stop drawing, or select nothing", run: escape },
    { keys: ["Delete", "Backspace"], label: "Delete", does: "delete the selection", run: () => corrections.delete() },
    { keys: ["Ctrl+Z"], does: "undo", run: () => toolbar.undo() },
    { keys: ["Ctrl+Shift+Z", "Ctrl+Y"], label: "Ctrl+Shift+Z", does: "redo", run: () => toolbar.redo() },
    { keys: ["N"], does: "select the next outline", run: select(1) },
    { keys: ["P"], does: "select the previous outline", run: select(-1) },
    { keys: ["Ctrl+A"], does: "select all outlines that are shown", run: () => corrections.selectAll() },
    { keys: ["A"], does: "accept all outlines in the selected region", run: () => corrections.acceptAll() },
    { keys: ["H"], does: "hide the outlines, or show them", run: () => legend.toggleAll() },
    { keys: ["+", "="], label: "+", does: "zoom in", run: () => toolbar.zoom(1) },
    { keys: ["-"], does: "zoom out", run: () => toolbar.zoom(-1) },
    { keys: ["0"], does: "show the whole image", run: () => toolbar.fit() },
    { keys: ["ArrowLeft"], label: "Arrow keys", does: "move the image", run: pan(1, 0) },
    { keys: ["ArrowRight"], run: pan(-1, 0) },
    { keys: ["ArrowUp"], run: pan(0, 1) },
    { keys: ["ArrowDown"], run: pan(0, -1) },
    ...steps.filter(({ axis }) => view.dataset.sizes[/** @type {"XY" | "Z" | "Time"} */ (axis)] > 1),
  ];
}
