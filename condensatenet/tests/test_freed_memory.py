"""Freed memory stays with the process that computes tiles, unless its user wants it otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

# Allocates and frees 100 pieces of 8 MiB, and prints whether memory is kept and how many pages were cleared for that.
PROGRAM = """
import resource
import numpy as np
from condensatenet.inference.freed_memory import keep_freed_memory
kept = keep_freed_memory()
np.ones(2**21)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    np.ones(2**20), np.ones(2**20)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")


def run(**variables: str) -> tuple[str, int]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**environment, **variables}, stdout=subprocess.PIPE, text=True, check=True
    )
    kept, faults = done.stdout.split()
    return kept, int(faults)


def test_freed_memory_is_used_again() -> None:
    kept, faults = run()
    assert kept == "True" and faults < 10_000


def test_what_the_user_has_set_stays() -> None:
    kept, faults = run(MALLOC_TRIM_THRESHOLD_="131072")
    assert kept == "False" and faults > 100_000
