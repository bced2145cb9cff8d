"""Memory that a tile gave back stays with the process, for the next one (on the CPU, with the GNU C library)."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # of mallopt, see malloc.h
_LARGEST_KEPT_PIECE = 32 * 2**20  # larger pieces go back to the system; the most that every version accepts
_KEPT = 512 * 2**20  # more than a tile of 1024 x 1024 pixels uses
_OF_THE_USER = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


@cache
def keep_freed_memory() -> bool:
    """Let the C library keep up to 512 MiB of freed memory for this process, once and for all.

    Otherwise it hands nearly all back after each layer of the network, and the system clears every page anew for the
    next: a third of the time that a frame takes (`benchmarks/freed_memory.py`).

    Returns:
        Whether it does so now: not with another C library, and not where the user has set this for himself.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _OF_THE_USER):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other libraries have none
    return bool(mallopt and mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT_PIECE) and mallopt(_TRIM_THRESHOLD, _KEPT))
