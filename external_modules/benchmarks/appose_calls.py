"""The rows of appose for calls.py, which starts this in the environment that does the work: appose has to be in it.

    python appose_calls.py ENVIRONMENT FOLDERS IMAGE WORK ROUNDS FEW

FOLDERS, as JSON, go to the path of modules; IMAGE is a .npy file; the median seconds of each way are printed as JSON.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import zlib
from collections.abc import Callable
from typing import Any

import appose  # type: ignore[import-not-found,unused-ignore]
import numpy as np

IMPORTED = """
import sys
if not hasattr(sys, "timed"):
    sys.path[:0] = folders
    import timed_work
    sys.timed = timed_work.timed
found = sys.timed(image.ndarray(), work)
"""
INTO = f"""{IMPORTED}
result.ndarray()[...] = found["labels"]
task.outputs["seconds"] = found["seconds"]
"""
FRESH = f"""{IMPORTED}
import appose
result = appose.NDArray("int32", list(found["labels"].shape))
result.shm.unlink_on_dispose(False)
result.ndarray()[...] = found["labels"]
task.outputs["seconds"] = found["seconds"]
task.outputs["labels"] = result
"""


def open_service() -> Any:
    service = appose.custom().wrap(sys.argv[1]).python()
    service.init("import numpy")
    return service


def call_fresh(service: Any) -> tuple[Any, float]:
    """Call with an array made for the image, and one that the worker makes for the labels."""
    with appose.NDArray(str(image.dtype), list(image.shape)) as given:
        given.ndarray()[...] = image
        task = service.task(FRESH, {**inputs, "image": given}).wait_for()
        result = task.outputs["labels"]
        labels = result.ndarray().copy()
        result.shm.unlink_on_dispose(True)
        result.shm.dispose()
    return labels, task.outputs["seconds"]


def call_reused(service: Any, given: Any, result: Any) -> tuple[Any, float]:
    """Call with two arrays that stay for the next call."""
    given.ndarray()[...] = image
    task = service.task(INTO, {**inputs, "image": given, "result": result}).wait_for()
    return result.ndarray().copy(), task.outputs["seconds"]


def call_anew() -> tuple[Any, float]:
    with open_service() as service:
        return call_fresh(service)


def measure(call: Callable[[], tuple[Any, float]], rounds: int) -> list[float]:
    """Return the medians of the whole call and of what the worker computed, in seconds."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        _, own = call()
        times.append((time.perf_counter() - begin, own))
    return [statistics.median(column) for column in zip(*times, strict=True)]


image = np.load(sys.argv[3])
inputs = {"folders": json.loads(sys.argv[2]), "work": sys.argv[4]}
rounds, few = int(sys.argv[5]), int(sys.argv[6])
rows = {"appose, a service for each call": measure(call_anew, few)}
with open_service() as service:
    checksum = zlib.crc32(call_fresh(service)[0])
    rows["appose, arrays made for each call"] = measure(lambda: call_fresh(service), rounds)
    with appose.NDArray("uint16", list(image.shape)) as given, appose.NDArray("int32", list(image.shape)) as result:
        rows["appose, arrays reused"] = measure(lambda: call_reused(service, given, result), rounds)
print(json.dumps({**rows, "checksum": checksum}))
