/** The fields of a tool, which the tool itself tells. */

import { getInterface, getJob, getJobLog, requestInterface } from "./api.js";
import { hasEnded, problemOf, STATUS } from "./job_status.js";

const POLL_MS = 150;

/**
 * Read a tool's fields. The tool is asked if the server does not know them, and always if they may have changed.
 * @param {string} image
 * @param {boolean} isForced ask the tool in any case
 * @returns {Promise<Record<string, any>>}
 */
export async function readInterface(image, isForced) {
  let fields = isForced ? null : await getInterface(image);
  if (!fields || Object.values(fields).some((field) => field?.noCache)) {
    await askTool(image);
    fields = await getInterface(image);
  }
  if (!fields) throw new Error("The tool did not say which fields it has.");
  return fields;
}

/** @param {string} image */
async function askTool(image) {
  let job = await requestInterface(image);
  while (!hasEnded(job)) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    job = await getJob(job._id);
  }
  if (job.status !== STATUS.done) throw new Error(problemOf(job, await getJobLog(job._id)));
}

/**
 * @param {Record<string, any>} fields
 * @returns {[string, any][]} in the order in which they are shown; those without one follow by name
 */
export function inOrder(fields) {
  const order = (/** @type {any} */ field) => field.displayOrder ?? Infinity;
  return Object.entries(fields).sort(([oneName, one], [otherName, other]) => {
    const [first, second] = [order(one), order(other)];
    return first === second ? oneName.localeCompare(otherName) : first - second;
  });
}
