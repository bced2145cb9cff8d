/** Requests to the server, and their failures in words. */

import { forgetToken, token } from "./session.js";

const PIECE = 100_000; // annotations in one answer
const BATCH = 5_000; // annotations in one request

/** A request that failed; its message says so to a person. */
export class ApiError extends Error {
  /**
   * @param {string} message
   * @param {number} status of HTTP; 0 if there was no answer
   */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/**
 * Send a request.
 * @param {string} method
 * @param {string} path below /api/v1/
 * @param {{query?: Record<string, unknown>, body?: unknown}} [options]
 * @returns {Promise<Response>}
 */
async function send(method, path, { query = {}, body } = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined);
  const address = `api/v1/${path}?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}`;
  /** @type {Record<string, string>} */
  const headers = { "Girder-Token": token() };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(address, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
    });
  } catch {
    throw new ApiError("The workbench does not answer. Is its server still running?", 0);
  }
  if (response.ok) return response;
  if (response.status === 401) {
    forgetToken();
    window.dispatchEvent(new Event("workbench:signed-out"));
  }
  throw new ApiError(await errorText(response), response.status);
}

/** @param {Response} response */
async function errorText(response) {
  if (response.status === 401) return "The workbench no longer accepts this page. Open its new address.";
  try {
    return String((await response.json()).message);
  } catch {
    return `The server answered ${response.status} ${response.statusText}.`;
  }
}

/**
 * @param {string} path
 * @param {Record<string, unknown>} [query]
 */
const get = async (path, query) => (await send("GET", path, { query })).json();

/** @returns {Promise<boolean>} whether the server accepts the token */
export async function isSignedIn() {
  return token() !== "" && (await get("user/me")) !== null;
}

/** @returns {Promise<any[]>} every dataset, the newest first */
export async function listDatasets() {
  const user = await get("user/me");
  const found = await datasetsIn("user", user._id);
  return found.sort((one, other) => other.created.localeCompare(one.created));
}

/**
 * @param {string} parentType
 * @param {string} parentId
 * @returns {Promise<any[]>}
 */
async function datasetsIn(parentType, parentId) {
  const folders = await get("folder", { parentType, parentId, limit: 0 });
  const lists = folders.map((/** @type {any} */ folder) =>
    folder.meta?.subtype === "contrastDataset" ? [folder] : datasetsIn("folder", folder._id),
  );
  return (await Promise.all(lists)).flat();
}

/** @param {string} id */
export const getFolder = (id) => get(`folder/${encodeURIComponent(id)}`);
/** @param {string} folderId */
export const listItems = (folderId) => get("item", { folderId, limit: 0 });
/** @param {string} itemId */
export const getTiles = (itemId) => get(`item/${itemId}/tiles`);

/**
 * Count the grey values of a frame.
 * @param {string} itemId
 * @param {Record<string, unknown>} query
 * @returns {Promise<any[]>} one histogram per band
 */
export const getHistogram = (itemId, query) => get(`item/${itemId}/tiles/histogram`, query);

/**
 * A part of a frame as a picture.
 * @param {string} itemId
 * @param {Record<string, unknown>} query of tiles/region; `style` as an object
 * @returns {Promise<ImageBitmap>}
 */
export async function getRegion(itemId, { style, ...query }) {
  const text = style ? JSON.stringify(style) : undefined;
  const response = await send("GET", `item/${itemId}/tiles/region`, { query: { ...query, style: text } });
  return createImageBitmap(await response.blob());
}

/**
 * @param {string} datasetId
 * @returns {Promise<any[]>} all annotations
 */
export async function listAnnotations(datasetId) {
  const all = [];
  for (let afterId; ; afterId = all[all.length - 1]._id) {
    const piece = await get("upenn_annotation", { datasetId, limit: PIECE, sort: "_id", afterId });
    for (const annotation of piece) all.push(annotation);
    if (piece.length < PIECE) return all;
  }
}

/**
 * @param {any[]} documents
 * @returns {Promise<any[]>} the same, with identifiers
 */
export async function createAnnotations(documents) {
  const created = [];
  for (const batch of batches(documents)) {
    const response = await send("POST", "upenn_annotation/multiple", { body: batch });
    created.push(...(await response.json()));
  }
  return created;
}

/** @param {{id: string, tags: string[]}[]} changes */
export async function updateAnnotations(changes) {
  for (const body of batches(changes)) await send("PUT", "upenn_annotation/multiple", { body });
}

/** @param {string[]} ids */
export async function deleteAnnotations(ids) {
  for (const body of batches(ids)) await send("DELETE", "upenn_annotation/multiple", { body });
}

/**
 * @template T
 * @param {T[]} list
 */
function* batches(list) {
  for (let start = 0; start < list.length; start += BATCH) yield list.slice(start, start + BATCH);
}

/** @returns {Promise<Record<string, Record<string, string>>>} labels of the tools by image */
export const listTools = () => get("worker_interface/available");
/** @param {string} image */
export const getInterface = (image) => get("worker_interface", { image });
/** @param {string} image */
export async function requestInterface(image) {
  const response = await send("POST", "worker_interface/request", { query: { image } });
  return (await response.json())[0];
}

/**
 * @param {string} datasetId
 * @param {any} body
 * @returns {Promise<any>} the job
 */
export async function compute(datasetId, body) {
  const response = await send("POST", "upenn_annotation/compute", { query: { datasetId }, body });
  return (await response.json())[0];
}

/** @param {number} limit */
export const listJobs = (limit) => get("job", { limit, sort: "_id", sortdir: -1 });
/** @param {string} id */
export const getJob = (id) => get(`job/${id}`, { log: false });
/** @param {string} id */
export const getJobLog = async (id) => ((await get(`job/${id}`)).log ?? []).join("");
/** @param {string} id */
export const cancelJob = (id) => send("PUT", `job/${id}/cancel`);
