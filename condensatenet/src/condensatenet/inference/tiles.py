"""The network over a whole frame, in overlapping tiles whose outputs are blended."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from condensatenet.errors import OutOfMemoryError
from condensatenet.inference.freed_memory import keep_freed_memory
from condensatenet.network.model import CondensateNet
from condensatenet.network.variants import INPUT_MULTIPLE

ProgressCallback = Callable[[float, str], None]
SMALLEST_TILE = 128
MIN_OVERLAP = 64
"""Pixels that two tiles share at least: what lies nearer to a tile's border lacks surroundings to be judged by."""

_TAPERS_PER_OVERLAP = 6  # widths of the sigmoid taper that fit into the overlap of two tiles


def predict_frame(
    network: CondensateNet,
    image: NDArray[np.float32],
    *,
    tile_size: int | None = None,
    overlap: float = 0.1,
    progress_callback: ProgressCallback | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return foreground probabilities (H, W) and the flow field (2, H, W) of a normalised frame (H, W).

    Args:
        network: in evaluation mode; the frame is computed on the device that it is on.
        image: float32 in [0, 1].
        tile_size: side of a tile in pixels; None computes the frame in one piece.
        overlap: part of a tile (0 to 0.5) that it shares with the next one; at least `MIN_OVERLAP` pixels are shared.
        progress_callback: called with the finished fraction and a message after each tile.

    Raises:
        OutOfMemoryError: the device's memory does not suffice even for the smallest tiles.
    """
    if next(network.parameters()).device.type == "cpu":
        keep_freed_memory()
    while True:
        try:
            outputs = _predict_tiles(network, image, tile_size, overlap, progress_callback)
            break
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError) and "out of memory" not in str(error):  # the latter: MPS
                raise
            torch.cuda.empty_cache()
            tile_size = min(tile_size or max(image.shape), max(image.shape)) // 2 // INPUT_MULTIPLE * INPUT_MULTIPLE
            if tile_size < SMALLEST_TILE:
                raise OutOfMemoryError(
                    "the GPU has too little free memory even for small tiles; "
                    "close other programs that use it, or compute on the CPU"
                ) from error
    return expit(outputs[0], out=outputs[0]), outputs[1:]


def _predict_tiles(
    network: CondensateNet,
    image: NDArray[np.float32],
    tile_size: int | None,
    overlap: float,
    progress_callback: ProgressCallback | None,
) -> NDArray[np.float32]:
    """Return mask logits and flows (3, H, W).

    The sum over tiles is kept in place rather than by `deeptile.stitch_image`, which holds every tile and three copies
    of the frame: over 4 GB for 8192x8192 pixels.
    """
    if tile_size is None or max(image.shape) <= tile_size:
        outputs = predict_array(network, image)
        if progress_callback:
            progress_callback(1.0, "tile 1 of 1")
        return outputs
    overlap = min(max(overlap, MIN_OVERLAP / tile_size), 0.5)
    total = np.zeros((3, *image.shape), np.float32)
    weight = np.zeros(image.shape, np.float32)
    taper = blending_taper(tile_size, overlap)
    tiles = list(tile_grid((image.shape[0], image.shape[1]), tile_size, overlap))
    for number, (rows, columns) in enumerate(tiles, start=1):
        tile_weight = np.outer(taper[: rows.stop - rows.start], taper[: columns.stop - columns.start])
        total[:, rows, columns] += predict_array(network, image[rows, columns]) * tile_weight
        weight[rows, columns] += tile_weight
        if progress_callback:
            progress_callback(number / len(tiles), f"tile {number} of {len(tiles)}")
    total /= weight
    return total


def predict_array(network: CondensateNet, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return mask logits and flows (3, H, W) float32 of one array (H, W) of any size, computed in one piece."""
    height, width = image.shape
    margins = [(0, -length % INPUT_MULTIPLE) for length in image.shape]
    padded = torch.from_numpy(np.pad(image, margins, mode="reflect"))[None, None]
    device = next(network.parameters()).device
    with torch.inference_mode(), reduced_precision(device):
        outputs = network(padded.to(device, memory_format=torch.channels_last))
        joined = torch.cat([outputs["mask"], outputs["flows"]], 1)[0, :, :height, :width]
    return joined.float().cpu().numpy()


def reduced_precision(device: torch.device) -> torch.autocast:
    """Return the context that computes in 16 bits on CUDA, and as it is elsewhere."""
    if device.type != "cuda":
        return torch.autocast("cpu", enabled=False)
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast("cuda", torch.bfloat16 if native else torch.float16)


def tile_grid(shape: tuple[int, int], tile_size: int, overlap: float) -> Iterator[tuple[slice, slice]]:
    """Yield the rows and columns of DeepTile's tiles over a frame; the last of a row or column are cut to the frame."""
    import deeptile

    # DeepTile needs an array to tile, but only its shape matters here. It fails on lengths within the overlap.
    frame = np.broadcast_to(np.uint8(0), [max(length, tile_size) for length in shape])
    tiles = deeptile.load(frame, dask=False, link_data=False).get_tiles((tile_size, tile_size), (overlap, overlap))
    row_ranges, column_ranges = tiles.profile.tile_indices
    for top, bottom in row_ranges.tolist():
        for left, right in column_ranges.tolist():
            yield slice(top, min(bottom, shape[0])), slice(left, min(right, shape[1]))


def blending_taper(tile_size: int, overlap: float) -> NDArray[np.float32]:
    """Return the weight of a tile's rows (or columns) in the blend: 1 inside, a falling sigmoid across the overlap."""
    sigma = max(1.0, tile_size * overlap / _TAPERS_PER_OVERLAP)
    distance = np.abs(np.arange(tile_size) - (tile_size - 1) / 2)
    return (1 / (1 + np.exp((distance - tile_size * (1 - overlap) / 2) / sigma))).astype(np.float32)
