/** The tools panel: the list of tools, and one of them opened. */

import { listTools } from "./api.js";
import { ToolForm } from "./tool_form.js";
import { toolsOf } from "./tool_request.js";
import { element, find } from "./ui.js";

/** Shows the list or the form of a tool. */
export class ToolsPanel {
  /**
   * @param {HTMLElement} root
   * @param {import("./view.js").View} view
   * @param {(job: any) => void} onSubmitted
   */
  constructor(root, view, onSubmitted) {
    this._root = root;
    this._view = view;
    this._onSubmitted = onSubmitted;
    /** @type {ToolForm | null} */
    this._form = null;
  }

  /** Read the list of tools and show it. */
  async showList() {
    this._form?.close();
    this._form = null;
    this._root.replaceChildren(element("p", { class: "loading", text: "Looking for tools…" }));
    try {
      const tools = toolsOf(await listTools());
      this._root.replaceChildren(...(tools.length ? this._list(tools) : [find(document, "#no-tools").content.cloneNode(true)]));
    } catch (error) {
      const again = element("button", { type: "button", text: "Try again", on: { click: () => this.showList() } });
      const text = error instanceof Error ? error.message : String(error);
      this._root.replaceChildren(element("p", { class: "problem", role: "alert", text }), again);
    }
  }

  /** @param {import("./tool_request.js").Tool[]} tools */
  _list(tools) {
    const categories = [...new Set(tools.map(({ category }) => category))];
    return categories.flatMap((category) => {
      const rows = tools.filter((tool) => tool.category === category).map((tool) => this._row(tool));
      return [element("h2", { text: category }), element("ul", { class: "tools" }, ...rows)];
    });
  }

  /** @param {import("./tool_request.js").Tool} tool */
  _row(tool) {
    return element(
      "li",
      {},
      element(
        "button",
        { type: "button", "data-image": tool.image, title: tool.image, on: { click: () => this._open(tool) } },
        element("strong", { text: tool.name }),
        element("span", { text: tool.description }),
      ),
    );
  }

  /** @param {import("./tool_request.js").Tool} tool */
  _open(tool) {
    this._form = new ToolForm(this._root, tool, this._view, { onBack: () => this.showList(), onSubmitted: this._onSubmitted });
    this._form.load();
  }
}
