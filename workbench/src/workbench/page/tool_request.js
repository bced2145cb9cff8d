/** What is sent to run a tool: the platform's own words. */

/**
 * @typedef {object} Tool
 * @property {string} image
 * @property {string} name
 * @property {string} description
 * @property {string} category
 * @property {boolean} hasTags whether its outlines get tags and a channel that are chosen here
 * @property {boolean} hasConnections whether its outlines can be connected with others
 */

/** @typedef {{id: string, channel: number, tags: string[], connectTags: string[], values: Record<string, any>}} Choices */

/**
 * @param {Record<string, Record<string, string>>} available labels by image
 * @returns {Tool[]} those that make annotations, by category and name
 */
export function toolsOf(available) {
  const isOn = (/** @type {string | undefined} */ label) => (label ?? "").toLowerCase() !== "false";
  return Object.entries(available)
    .filter(([, labels]) => "isAnnotationWorker" in labels)
    .map(([image, labels]) => ({
      image,
      name: labels.interfaceName || image,
      description: labels.description || "",
      category: labels.interfaceCategory || "Other tools",
      hasTags: isOn(labels.annotationConfigurationPanel),
      hasConnections: isOn(labels.advancedOptionsPanel),
    }))
    .sort((one, other) => one.category.localeCompare(other.category) || one.name.localeCompare(other.name));
}

/**
 * @param {Tool} tool
 * @param {import("./dataset.js").Dataset} dataset
 * @param {import("./dataset.js").Position} position that is looked at
 * @param {Choices} choices
 */
export function toolRequest(tool, dataset, position, choices) {
  return {
    datasetId: dataset.id,
    type: "segmentation",
    id: choices.id,
    name: tool.name,
    image: tool.image,
    channel: tool.hasTags ? choices.channel : 0,
    assignment: { ...position },
    tile: { ...position },
    tags: tool.hasTags ? choices.tags : [],
    connectTo: {
      tags: tool.hasConnections ? choices.connectTags : [],
      ...(tool.hasConnections ? { layer: null } : {}),
      channel: null,
    },
    workerInterface: choices.values,
    scales: {
      pixelSize: { value: dataset.pixelSizeMm ?? 1, unit: "mm" },
      zStep: { value: 1, unit: "µm" },
      tStep: { value: 1, unit: "s" },
    },
  };
}

/** @returns {string} a random identifier, also where the page was not loaded from this machine */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const text = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return text.replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, "$1-$2-$3-$4-$5");
}
