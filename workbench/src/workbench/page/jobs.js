/** Follows the jobs of the server: about once a second while one has not ended, not at all otherwise. */

import { cancelJob, listJobs } from "./api.js";
import { hasEnded, STATUS } from "./job_status.js";

const POLL_MS = 1000;
const JOBS_SHOWN = 50;
const JOBS_READ = 100; // those that only read a tool's fields are among them

/** Dispatches `change`, and `end` with the job as detail when one has ended. */
export class Jobs extends EventTarget {
  constructor() {
    super();
    /** @type {any[]} the newest first */
    this.list = [];
    this.problem = "";
    this._timer = 0;
    this._isClosed = false;
    this._isReading = false;
    this._onVisible = () => {
      if (!document.hidden) this.refresh();
    };
    document.addEventListener("visibilitychange", this._onVisible);
  }

  /** @returns {any[]} jobs that have not ended, the one that is first in turn first */
  get active() {
    return this.list.filter((job) => !hasEnded(job)).reverse();
  }

  /** Look at the jobs now. */
  async refresh() {
    clearTimeout(this._timer);
    if (this._isClosed || this._isReading) return;
    this._isReading = true;
    const wereActive = new Set(this.active.map(({ _id }) => _id));
    try {
      const all = await listJobs(JOBS_READ);
      this.list = all.filter((/** @type {any} */ job) => job.request !== "interface").slice(0, JOBS_SHOWN);
      this.problem = "";
    } catch (error) {
      this.problem = error instanceof Error ? error.message : String(error);
    }
    this._isReading = false;
    if (this._isClosed) return;
    this.dispatchEvent(new Event("change"));
    for (const job of this.list) {
      if (wereActive.has(job._id) && hasEnded(job)) this.dispatchEvent(new CustomEvent("end", { detail: job }));
    }
    if (this.active.length) this._timer = setTimeout(() => this.refresh(), POLL_MS);
  }

  /**
   * Follow a job that was just submitted.
   * @param {any} job
   */
  add(job) {
    this.list = [job, ...this.list.filter(({ _id }) => _id !== job._id)];
    this.dispatchEvent(new Event("change"));
    clearTimeout(this._timer);
    this._timer = setTimeout(() => this.refresh(), POLL_MS / 4);
  }

  /** @param {string} id */
  async cancel(id) {
    await cancelJob(id);
    await this.refresh();
  }

  /**
   * @param {any} job that waits
   * @returns {number} how many jobs of its queue come before it
   */
  countBefore(job) {
    const queue = this.active.filter((one) => one.queue === job.queue);
    return queue.findIndex(({ _id }) => _id === job._id);
  }

  /** @param {any} job */
  isWaiting(job) {
    return job.status === STATUS.waiting || job.status === STATUS.inactive;
  }

  /** Follow no more. */
  close() {
    this._isClosed = true;
    clearTimeout(this._timer);
    document.removeEventListener("visibilitychange", this._onVisible);
  }
}
