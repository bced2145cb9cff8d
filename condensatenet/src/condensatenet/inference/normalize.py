"""From a microscope's frame to the network's input: checks, intensity percentiles, scaling to [0, 1].

Training and inference both go through `normalize_image`, so that a network sees the same intensities in both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from condensatenet.errors import InvalidImageError, InvalidOptionError

LOW_PERCENTILE = 0.5
HIGH_PERCENTILE = 99.5
_EPSILON = 1e-8


def check_image(image: ArrayLike) -> NDArray[Any]:
    """Return `image` as an (H, W) array of its own dtype, or say why it cannot be segmented.

    Args:
        image: (H, W) or (H, W, 1), any integer or floating dtype.

    Raises:
        InvalidImageError: the image is empty, is not one 2-D channel, is not numeric, or holds NaN or infinity.
    """
    array = np.asarray(image)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim == 3 and array.shape[2] in (2, 3, 4):
        raise InvalidImageError(
            f"the image has {array.shape[2]} channels (shape {array.shape}); "
            "pass one channel, for example image[:, :, 0]"
        )
    if array.ndim != 2:
        raise InvalidImageError(
            f"the image has shape {array.shape}; pass one 2-D plane (height, width), for example one slice of a stack"
        )
    if array.size == 0:
        raise InvalidImageError(f"the image is empty (shape {array.shape})")
    if array.dtype.kind not in "iuf":
        raise InvalidImageError(f"the image holds {array.dtype} values; pass integers or floating-point numbers")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InvalidImageError("the image holds NaN or infinite values; replace them, for example by the background")
    return array


def intensity_range(
    image: ArrayLike, low_percentile: float = LOW_PERCENTILE, high_percentile: float = HIGH_PERCENTILE
) -> tuple[float, float]:
    """Return the intensities at two percentiles (0 to 100) of an image, interpolated linearly between pixels.

    Raises:
        InvalidImageError: see `check_image`.
        InvalidOptionError: the percentiles are outside 0 to 100 or not in ascending order.
    """
    if not 0 <= low_percentile < high_percentile <= 100:
        raise InvalidOptionError(
            f"percentiles must satisfy 0 <= low < high <= 100, not low={low_percentile}, high={high_percentile}"
        )
    array = check_image(image)
    if array.dtype in (np.uint8, np.uint16):
        low, high = _histogram_percentiles(array, (low_percentile, high_percentile))
    else:
        low, high = np.percentile(array, (low_percentile, high_percentile))
    return float(low), float(high)


def _histogram_percentiles(array: NDArray[Any], percentiles: tuple[float, float]) -> list[float]:
    """`numpy.percentile` from a histogram: one pass and no sorted copy, which matters for large frames."""
    # Row blocks keep bincount's 64-bit copy of its input small.
    counts = np.zeros(np.iinfo(array.dtype).max + 1, np.int64)
    rows = max(1, 2**22 // array.shape[1])
    for start in range(0, array.shape[0], rows):
        counts += np.bincount(array[start : start + rows].ravel(), minlength=counts.size)
    cumulative = np.cumsum(counts)
    values = []
    for percentile in percentiles:
        position = percentile / 100 * (array.size - 1)
        below = int(position)
        low, high = np.searchsorted(cumulative, [below, min(below + 1, array.size - 1)], side="right")
        values.append(low + (high - low) * (position - below))
    return values


def normalize_image(
    image: ArrayLike,
    low_percentile: float = LOW_PERCENTILE,
    high_percentile: float = HIGH_PERCENTILE,
    *,
    intensity_range: tuple[float, float] | None = None,
) -> NDArray[np.float32]:
    """Scale an image so that two of its percentiles become 0 and 1, and clip what lies outside.

    Args:
        image: (H, W) or (H, W, 1), any integer or floating dtype.
        low_percentile, high_percentile: percentiles (0 to 100) of the image.
        intensity_range: (low, high) intensities to use instead, for example those of the frame that the image was
            cropped from.

    Returns:
        (H, W) float32 in [0, 1]; all zero for a constant image.

    Raises:
        InvalidImageError: see `check_image`.
        InvalidOptionError: the percentiles or the range are not in ascending order.
    """
    array = check_image(image)
    low, high = intensity_range or _range_of(array, low_percentile, high_percentile)
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise InvalidOptionError(f"the intensity range must be finite and in ascending order, not {low} to {high}")
    # float32 holds every value of 16 bits; of wider types, only differences from the lowest intensity are safe in it.
    number = np.float32 if np.can_cast(array.dtype, np.float32) else np.float64
    scaled: NDArray[np.float32 | np.float64] = array.astype(number)
    scaled -= number(low)
    scaled /= number(high - low + _EPSILON)
    return np.clip(scaled, 0, 1, out=scaled).astype(np.float32, copy=False)


_range_of = intensity_range
