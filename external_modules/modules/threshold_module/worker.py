"""Runs in the module's own environment: finds bright objects by a threshold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from module_worker import serve
from numpy.typing import NDArray
from skimage.filters import gaussian, threshold_otsu
from skimage.measure import label


def segment(
    input_image: NDArray[Any],
    *,
    sigma: float = 1.0,
    threshold: float | None = None,
    min_area: int = 10,
    progress: Callable[[float, str], None],
) -> NDArray[np.int32]:
    """Label connected bright regions.

    Args:
        input_image: (H, W) of any numeric dtype.
        sigma: width of the Gaussian smoothing in pixels; 0 for none.
        threshold: in the image's own units; None for Otsu's threshold of the smoothed image (Otsu, IEEE Transactions on
            Systems, Man, and Cybernetics 9, 62, 1979).
        min_area: smaller objects, in pixels, are dropped.
        progress: told how far it is.

    Returns:
        (H, W) int32 labels, 1 to the number of objects, 0 for background.
    """
    if input_image.ndim != 2:
        raise ValueError(f"an image of shape (H, W) is needed, not {input_image.shape}")
    if not np.isfinite(input_image).all():
        raise ValueError("the image holds values that are no number or infinite; replace them, by 0 for example")
    smooth = gaussian(input_image.astype(np.float32), sigma=sigma)
    progress(0.3, "smoothed")
    bright = smooth > (threshold_otsu(smooth) if threshold is None else threshold)
    progress(0.6, "thresholded")
    regions = label(bright, connectivity=1)  # GA3 counts 4 neighbours as one object
    areas = np.bincount(regions.ravel())
    kept = areas >= min_area
    kept[0] = False
    numbers = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    return numbers[regions]


if __name__ == "__main__":
    serve(segment)
