/** The states of a job, and what a job says about itself. */

export const STATUS = { inactive: 0, waiting: 1, running: 2, done: 3, failed: 4, cancelled: 5, cancelling: 824 };

const WORDS = new Map([
  [STATUS.inactive, "not started"],
  [STATUS.waiting, "waiting"],
  [STATUS.running, "running"],
  [STATUS.done, "done"],
  [STATUS.failed, "failed"],
  [STATUS.cancelled, "cancelled"],
  [STATUS.cancelling, "stopping"],
]);
const LINES_SHOWN = 6;

/** @param {any} job */
export const hasEnded = ({ status }) => [STATUS.done, STATUS.failed, STATUS.cancelled].includes(status);

/** @param {any} job */
export const statusWord = ({ status }) => WORDS.get(status) ?? "unknown";

/**
 * @param {any} message an error or a warning of a tool
 * @returns {{kind: "error" | "warning", title: string, text: string}}
 */
export function readMessage(message) {
  const kind = message.error ? "error" : "warning";
  const word = kind === "error" ? "Error" : "Warning";
  const text = [message[kind], message.info].filter(Boolean).map(String).join("\n");
  return { kind, title: String(message.title || word), text };
}

/**
 * @param {any} job that failed
 * @param {string} log
 * @returns {string} why
 */
export function problemOf(job, log) {
  const errors = (job.messages ?? []).map(readMessage).filter((/** @type {any} */ { kind }) => kind === "error");
  if (errors.length) return errors.map((/** @type {any} */ { text }) => text).join("\n");
  const lines = log.split("\n").filter((line) => line.trim());
  return [`The tool ${statusWord(job)}. It said at the end:`, ...lines.slice(-LINES_SHOWN)].join("\n");
}
