"""The work of calls.py as a worker script: what a module's worker does, with the time that it took by itself."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from module_worker import serve
from numpy.typing import NDArray


@lru_cache(maxsize=1)
def find_function(work: str) -> Callable[..., Any]:
    """Return what computes: `segment` of the worker.py in a folder, or one comparison for ""."""
    if not work:
        return lambda image, progress: (image > 600).astype(np.int32)
    sys.path.insert(0, work)
    from worker import segment  # type: ignore[import-not-found]

    function: Callable[..., Any] = segment
    return function


def timed(
    image: NDArray[np.uint16], work: str, progress: Callable[[float, str], object] = lambda fraction, text: None
) -> dict[str, Any]:
    """Compute.

    Args:
        image: (H, W).
        work: the folder of a module, or "" for one comparison.
        progress: for the function.

    Returns:
        Its int32 `labels`, and the `seconds` that it took.
    """
    begin = time.perf_counter()
    labels = find_function(work)(image, progress=progress)
    return {"labels": labels, "seconds": time.perf_counter() - begin}


if __name__ == "__main__":
    serve(timed)
