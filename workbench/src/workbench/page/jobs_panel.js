/** The jobs panel: every job with its progress, its messages and its log. */

import { getJobLog } from "./api.js";
import { hasEnded, readMessage, STATUS, statusWord } from "./job_status.js";
import { tellError } from "./messages.js";
import { counted, element, find, fromTemplate } from "./ui.js";

/** Shows the jobs; a card stays the same element as long as its job is listed. */
export class JobsPanel {
  /**
   * @param {HTMLElement} root
   * @param {import("./jobs.js").Jobs} jobs
   * @param {string} datasetId the dataset that is open
   */
  constructor(root, jobs, datasetId) {
    this._root = root;
    this._jobs = jobs;
    this._datasetId = datasetId;
    /** @type {Map<string, JobCard>} */
    this._cards = new Map();
    this._list = find(root, "ul");
    jobs.addEventListener("change", () => this._show());
  }

  _show() {
    const { list, problem } = this._jobs;
    find(this._root, ".empty").hidden = list.length > 0;
    const problemText = find(this._root, ".problem");
    problemText.textContent = problem;
    problemText.hidden = !problem;
    const cards = new Map(list.map((job) => [job._id, this._cards.get(job._id) ?? new JobCard(this._jobs)]));
    for (const job of list) cards.get(job._id)?.show(job, job.datasetId !== this._datasetId);
    const roots = [...cards.values()].map(({ root }) => root);
    // Only if there is something to move: moved elements lose the focus.
    if (roots.some((root, index) => this._list.children[index] !== root)) this._list.replaceChildren(...roots);
    this._cards = cards;
  }
}

/** One job. */
class JobCard {
  /** @param {import("./jobs.js").Jobs} jobs */
  constructor(jobs) {
    this._jobs = jobs;
    /** @type {any} */
    this._job = null;
    this._messages = "";
    this.root = find(fromTemplate("job-card"), "li");
    this._bar = find(this.root, "progress");
    this._log = find(this.root, "details");
    this._cancel = find(this.root, ".cancel");
    this._cancel.addEventListener("click", () => this._stop());
    this._log.addEventListener("toggle", () => this._readLog());
  }

  /**
   * @param {any} job
   * @param {boolean} isElsewhere whether it works on another dataset
   */
  show(job, isElsewhere) {
    const wasEnded = this._job !== null && hasEnded(this._job);
    this._job = job;
    this.root.dataset.status = statusWord(job);
    this.root.dataset.id = job._id;
    find(this.root, "h3").textContent = job.title;
    find(this.root, ".status").textContent = statusWord(job);
    const time = new Date(job.created).toLocaleTimeString("en", { timeStyle: "short", hourCycle: "h23" });
    find(this.root, ".when").textContent = `${time}${isElsewhere ? " · in another dataset" : ""}`;
    this._showProgress(job);
    this._showMessages(job);
    this._cancel.hidden = hasEnded(job);
    this._cancel.disabled = job.status === STATUS.cancelling;
    if (this._log.open && !wasEnded) this._readLog();
  }

  /** @param {any} job */
  _showProgress(job) {
    const { progress, title, info } = job.progress ?? {};
    this._bar.hidden = hasEnded(job) || this._jobs.isWaiting(job);
    if (progress > 0) this._bar.value = Math.min(1, progress);
    else this._bar.removeAttribute("value");
    this._bar.setAttribute("aria-label", `${job.title}: progress`);
    // At the end only what the tool says about its result; where it stopped otherwise is no longer of interest.
    const isOver = job.status === STATUS.failed || job.status === STATUS.cancelled;
    find(this.root, ".progress-title").textContent = isOver ? "" : title ?? "";
    find(this.root, ".progress-info").textContent = this._jobs.isWaiting(job) ? this._waiting(job) : isOver ? "" : info ?? "";
  }

  /** @param {any} job */
  _waiting(job) {
    const before = this._jobs.countBefore(job);
    return before > 0 ? `${counted(before, "job")} before it.` : "It starts in a moment.";
  }

  /** @param {any} job */
  _showMessages(job) {
    const messages = (job.messages ?? []).map(readMessage);
    if (job.status === STATUS.failed && !messages.some((/** @type {any} */ { kind }) => kind === "error")) {
      const code = job.exitCode === null ? "" : ` (exit code ${job.exitCode})`;
      messages.push({ kind: "error", title: "The tool failed", text: `It ended without saying why${code}. See its log.` });
    }
    const shown = JSON.stringify(messages);
    if (shown === this._messages) return;
    this._messages = shown;
    const boxes = messages.map((/** @type {any} */ { kind, title, text }) =>
      element("div", { class: `job-message ${kind}` }, element("strong", { text: title }), element("p", { text })),
    );
    find(this.root, ".job-messages").replaceChildren(...boxes);
  }

  async _stop() {
    this._cancel.disabled = true;
    try {
      await this._jobs.cancel(this._job._id);
    } catch (error) {
      this._cancel.disabled = false;
      tellError(`${this._job.title} was not cancelled.`, error);
    }
  }

  async _readLog() {
    if (!this._log.open) return;
    const shown = find(this.root, "pre");
    const isAtEnd = shown.scrollTop + shown.clientHeight >= shown.scrollHeight - 4;
    try {
      shown.textContent = (await getJobLog(this._job._id)) || "Nothing yet.";
    } catch (error) {
      shown.textContent = error instanceof Error ? error.message : String(error);
    }
    if (isAtEnd) shown.scrollTop = shown.scrollHeight;
  }
}
