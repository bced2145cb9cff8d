"""What a call costs beyond the worker's own computing, for each way of calling, beside appose on the same work.

The work is one comparison of a 16-bit image, so that nearly all that is measured is the way there and back. Each figure
is the median of calls in a row.

    PYTHONPATH=external_modules/src python external_modules/benchmarks/calls.py [--appose-python ENVIRONMENT/bin/python]

appose runs in an environment of its own, which must hold appose and numpy; without it, its rows are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from external_modules.child_environment import scrubbed_environment
from external_modules.environments.store import Environment
from external_modules.external_module import ExternalModule, Mode
from external_modules.module_folder import ModuleFolder

Row = tuple[str, float, float]  # what, seconds of the whole call, seconds that the worker computed

WORKER = """
import time
import numpy as np
from module_worker import serve

def compare(image):
    begin = time.perf_counter()
    labels = (image > 30000).astype(np.int32)
    return {"labels": labels, "seconds": time.perf_counter() - begin}

if __name__ == "__main__":
    serve(compare)
"""

APPOSE = """
import json, statistics, sys, time
import numpy as np
import appose

WORK = '''
import time
begin = time.perf_counter()
labels = (image.ndarray() > 30000).astype("int32")
seconds = time.perf_counter() - begin
'''
INTO = WORK + '''
result.ndarray()[...] = labels
task.outputs["seconds"] = seconds
'''
FRESH = WORK + '''
import appose
result = appose.NDArray("int32", list(labels.shape))
result.shm.unlink_on_dispose(False)
result.ndarray()[...] = labels
task.outputs["seconds"] = seconds
task.outputs["labels"] = result
'''

def open_service():
    service = appose.custom().wrap(sys.argv[3]).python()
    service.init("import numpy")
    return service

def call_reused(service, arrays, image):
    arrays[0].ndarray()[...] = image
    task = service.task(INTO, {"image": arrays[0], "result": arrays[1]}).wait_for()
    return arrays[1].ndarray().copy(), task.outputs["seconds"]

def call_fresh(service, image):
    with appose.NDArray(str(image.dtype), list(image.shape)) as given:
        given.ndarray()[...] = image
        task = service.task(FRESH, {"image": given}).wait_for()
        result = task.outputs["labels"]
        labels = result.ndarray().copy()
        result.shm.unlink_on_dispose(True)
        result.shm.dispose()
    return labels, task.outputs["seconds"]

def measure(function, rounds):
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        labels, own = function()
        times.append((time.perf_counter() - begin, own))
        assert labels.dtype == np.int32 and (labels == (image > 30000)).all()
    return times

def call_anew():
    with open_service() as service:
        return call_fresh(service, image)

side, rounds = int(sys.argv[1]), int(sys.argv[2])
image = np.random.default_rng(0).integers(0, 65535, (side, side), dtype=np.uint16)
found = {"appose, a service for each call": measure(call_anew, max(3, rounds // 10))}
with open_service() as service:
    found["appose, arrays made for each call"] = measure(lambda: call_fresh(service, image), rounds)
    with appose.NDArray("uint16", [side, side]) as given, appose.NDArray("int32", [side, side]) as result:
        found["appose, arrays reused"] = measure(lambda: call_reused(service, (given, result), image), rounds)
print(json.dumps({name: [statistics.median(column) for column in zip(*times)] for name, times in found.items()}))
"""


class _ThisInterpreter:
    def ensure(self, folder: ModuleFolder, report: Callable[[float | None, str], object] | None = None) -> Environment:
        return Environment(Path(sys.prefix), Path(sys.executable))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure what calls cost.")
    parser.add_argument("--side", type=int, default=2048, help="of the square image")
    parser.add_argument("--rounds", type=int, default=50, help="calls of a server; a tenth of it where a worker starts")
    parser.add_argument("--appose-python", type=Path, help="interpreter of an environment with appose and numpy")
    options = parser.parse_args()
    image = np.random.default_rng(0).integers(0, 65535, (options.side, options.side), dtype=np.uint16)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure_calls(Path(folder), image, options.rounds)
    if options.appose_python:
        rows += measure_appose(options.appose_python, options.side, options.rounds)
    print(f"{options.side} x {options.side} uint16 there, int32 back; medians in ms")
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}\n")
    print(f"{'':36}{'whole call':>12}{'computing':>12}{'overhead':>12}")
    for what, whole, own in rows:
        print(f"{what:36}{whole * 1e3:12.1f}{own * 1e3:12.1f}{(whole - own) * 1e3:12.1f}")


def measure_calls(folder: Path, image: NDArray[np.uint16], rounds: int) -> list[Row]:
    """Return the rows of this package."""
    module_folder = _make_module(folder / "module")

    def open_module(shared_memory: bool = True) -> ExternalModule:
        return ExternalModule(
            module_folder, folder / "home", environments=_ThisInterpreter(), shared_memory=shared_memory
        )

    started: list[ExternalModule] = []

    def first() -> tuple[NDArray[np.int32], float]:
        started.append(open_module())
        return _call(started[-1], image)

    few = max(3, rounds // 10)
    with open_module() as module, open_module(shared_memory=False) as with_files:
        first_call = _measure("server, first call (starts it)", first, image, few)
        for each in started:
            each.close()
        return [
            first_call,
            _measure("one-shot", lambda: _call(module, image, mode="one-shot"), image, few),
            _measure("server, shared memory", lambda: _call(module, image), image, rounds),
            _measure("server, .npy files", lambda: _call(with_files, image), image, rounds),
        ]


def measure_appose(python: Path, side: int, rounds: int) -> list[Row]:
    """Return the rows of appose, measured by itself in its own environment."""
    done = subprocess.run(
        [str(python), "-I", "-c", APPOSE, str(side), str(rounds), str(python.parent.parent)],
        stdout=subprocess.PIPE,
        env=scrubbed_environment(),
        check=True,
    )
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return [(what, whole, own) for what, (whole, own) in found.items()]


def _call(module: ExternalModule, image: NDArray[np.uint16], mode: Mode = "server") -> tuple[NDArray[np.int32], float]:
    answer = module.call("worker.py", mode=mode, image=image)
    return answer["labels"], answer["seconds"]


def _measure(
    what: str,
    call: Callable[[], tuple[NDArray[np.int32], float]],
    image: NDArray[np.uint16],
    rounds: int,
) -> Row:
    whole, computing = [], []
    for _ in range(rounds):
        begin = time.perf_counter()
        labels, own = call()
        whole.append(time.perf_counter() - begin)
        computing.append(own)
        assert labels.dtype == np.int32 and (labels == (image > 30000)).all()
    return what, statistics.median(whole), statistics.median(computing)


def _make_module(folder: Path) -> Path:
    folder.mkdir()
    (folder / "worker.py").write_text(WORKER)
    (folder / "pyproject.toml").write_text("[project]\nname = 'compare'\nversion = '1'\n")
    (folder / "requirements.txt").write_text("")
    description = {
        "name": "compare",
        "version": "1",
        "title": "Compare",
        "segments": "nothing",
        "licence": "MIT",
        "import_probe": ["numpy"],
        "python": ">=3.10",
        "torch": None,
    }
    (folder / "module.json").write_text(json.dumps(description))
    return folder


if __name__ == "__main__":
    main()
