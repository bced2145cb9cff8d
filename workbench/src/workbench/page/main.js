/** The page: which screen is shown. The address says so: `#/dataset/<id>`, or the list of datasets. */

import { isSignedIn } from "./api.js";
import { showDatasets } from "./datasets.js";
import { clearMessages } from "./messages.js";
import { forgetToken, keepToken, takeTokenFromAddress } from "./session.js";
import { element, find, fromTemplate } from "./ui.js";
import { openWorkspace } from "./workspace.js";

const screen = find(document, "#screen");
let leave = () => {};
let visit = 0;

async function show() {
  const number = ++visit;
  leave();
  leave = () => {};
  clearMessages();
  find(document, "#place").replaceChildren();
  find(document, "#job-chip").hidden = true;
  document.title = "Workbench";
  screen.replaceChildren(element("p", { class: "loading", text: "Loading…" }));
  try {
    if (!(await isSignedIn())) {
      forgetToken();
      showSignIn();
      return;
    }
    const datasetId = /^#\/dataset\/([0-9a-f]{24})$/.exec(location.hash)?.[1];
    const opened = datasetId ? await openWorkspace(screen, datasetId) : await showDatasets(screen);
    if (number === visit) leave = opened;
    else opened();
  } catch (error) {
    if (number === visit) showFailure(error);
  }
}

function showSignIn() {
  screen.replaceChildren(fromTemplate("sign-in"));
  const form = find(screen, "form");
  form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    keepToken(find(form, "input").value);
    show();
  });
}

/** @param {unknown} error */
function showFailure(error) {
  console.warn(error);
  const again = element("button", { type: "button", class: "primary", text: "Try again", on: { click: show } });
  const text = error instanceof Error ? error.message : String(error);
  screen.replaceChildren(
    element(
      "section",
      { class: "card notice", role: "alert" },
      element("h1", { text: "This did not work" }),
      element("p", { text }),
      element("p", {}, again, " ", element("a", { href: "#/", text: "All datasets" })),
    ),
  );
}

takeTokenFromAddress();
window.addEventListener("hashchange", () => {
  takeTokenFromAddress();
  show();
});
window.addEventListener("workbench:signed-out", () => {
  visit++;
  leave();
  leave = () => {};
  showSignIn();
});
show();
