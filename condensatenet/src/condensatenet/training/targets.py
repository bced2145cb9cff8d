"""Training targets from a label mask: the binary mask and the flow that leads every pixel to its instance's centre."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from condensatenet.labels import check_labels


def without_large_ids(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the same instances under ids not above the number of pixels, so that lists by id stay short."""
    if labels.max() <= labels.size:
        return labels
    ids, place = np.unique(labels, return_inverse=True)
    return np.where(ids > 0, np.cumsum(ids > 0), ids).astype(np.int32)[place].reshape(labels.shape)


def labels_to_binary_mask(label_mask: NDArray[np.integer]) -> NDArray[np.float32]:
    """Return (H, W) float32: 1 in instances, 0 on background, -1 where nobody annotated."""
    return np.clip(check_labels(label_mask), -1, 1).astype(np.float32)


def labels_to_flows(label_mask: NDArray[np.integer]) -> NDArray[np.float32]:
    """Return the flow field (2, H, W) float32 of a label mask (H, W): unit vectors (dy, dx), zero outside instances.

    Heat is fed into the pixel nearest to the instance's centroid and spreads over its pixels; the flow is the direction
    in which the temperature rises (Stringer et al. 2021, Cellpose). All instances of about one size diffuse together:
    one step of a group is one product with a sparse matrix.
    """
    labels = without_large_ids(check_labels(label_mask))
    flows = np.zeros((2, *labels.shape), np.float32)
    boxes = ndimage.find_objects(np.maximum(labels, 0))
    present = np.array([i for i, box in enumerate(boxes) if box is not None], dtype=np.int64)
    if present.size == 0:
        return flows
    # Padded by one pixel, so that every pixel has eight neighbours and flat indices never wrap around.
    padded = np.pad(np.maximum(labels, 0), 1)
    extents = np.array([sum(s.stop - s.start + 1 for s in boxes[i]) for i in present])
    group_of_label = np.full(len(boxes) + 1, -1)
    group_of_label[present + 1] = np.ceil(2 * np.log2(extents)).astype(int)
    group_of_label[0] = -1
    group_image = group_of_label[padded]
    for group in np.unique(group_of_label[present + 1]):
        iterations = 2 * int(extents[group_of_label[present + 1] == group].max())
        pixels = np.flatnonzero(group_image == group)
        rows, columns = np.divmod(pixels, padded.shape[1])
        flows[:, rows - 1, columns - 1] = _diffuse(padded, pixels, iterations)
    return flows


def _diffuse(padded: NDArray[np.int32], pixels: NDArray[np.intp], iterations: int) -> NDArray[np.float32]:
    """Return (2, N) unit flows of the N `pixels` (flat indices into `padded`) after so many diffusion steps."""
    width = padded.shape[1]
    flat = padded.ravel()
    offsets = np.array([dy * width + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1)])
    neighbours = pixels[:, None] + offsets
    same = flat[neighbours] == flat[pixels, None]
    position = np.full(flat.size, -1, np.int32)
    position[pixels] = np.arange(pixels.size, dtype=np.int32)
    columns = position[neighbours][same]
    row_starts = np.concatenate([[0], np.cumsum(same.sum(1))]).astype(np.int32)
    spread = sparse.csr_array((np.full(columns.size, 1 / 9), columns, row_starts), shape=(pixels.size, pixels.size))
    source = np.zeros(pixels.size)
    source[_centre_pixels(flat[pixels], pixels, width)] = 1
    heat = np.zeros(pixels.size)
    for _ in range(iterations):
        heat = spread @ (heat + source)
    # The logarithm keeps the gradient measurable far from the source, where the heat falls off exponentially.
    heat = np.append(np.log1p(heat), 0)  # index -1: outside the group
    up, down, left, right = (
        heat[position[pixels + step]] * same[:, k] for step, k in ((-width, 1), (width, 7), (-1, 3), (1, 5))
    )
    flow = np.stack([down - up, right - left])
    norm = np.hypot(flow[0], flow[1])
    return (flow / np.maximum(norm, 1e-20)).astype(np.float32)


def _centre_pixels(labels: NDArray[np.int32], pixels: NDArray[np.intp], width: int) -> NDArray[np.intp]:
    """Return for each label the index (into `pixels`) of its pixel nearest to its centroid."""
    _, instance = np.unique(labels, return_inverse=True)
    rows, columns = np.divmod(pixels, width)
    count = np.bincount(instance)
    distance = (rows - (np.bincount(instance, rows) / count)[instance]) ** 2
    distance += (columns - (np.bincount(instance, columns) / count)[instance]) ** 2
    order = np.lexsort((distance, instance))
    return order[np.concatenate([[0], np.cumsum(count)[:-1]])]
