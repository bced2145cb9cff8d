"""What a call of a module costs beyond the worker's own computing, in each way of calling, and with appose.

The image is 16-bit with a spot here and there; three works are done on it: one comparison, so that nearly all that is
measured is the way there and back; threshold_module; and condensatenet_module with the small network that it ships.
Each figure is the median of calls in a row. Make no other use of the machine meanwhile.

    PYTHONPATH=external_modules/src python external_modules/benchmarks/calls.py --home FOLDER

The modules' environments are made in FOLDER, which takes some minutes the first time, and are that of appose's workers
too: appose gets into them as a folder on their path.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import external_modules
from external_modules.child_environment import scrubbed_environment
from external_modules.environments.store import Environment, EnvironmentStore
from external_modules.environments.uv_program import find_uv
from external_modules.external_module import ExternalModule
from external_modules.module_folder import ModuleFolder
from external_modules.validation import make_test_image

HERE = Path(__file__).resolve().parent
MODULES = HERE.parent / "modules"
WORK_SCRIPT = HERE / "timed_work.py"
APPOSE = "appose==0.12.0"


class Work(NamedTuple):
    """What is computed: in the environment of which module, with which argument of timed_work.py, how often."""

    name: str
    module: Path
    argument: str
    rounds: int
    few: int


WORKS = [
    Work("one comparison", MODULES / "threshold_module", "", 50, 5),
    Work("threshold_module", MODULES / "threshold_module", str(MODULES / "threshold_module"), 20, 5),
    Work("condensatenet_module", MODULES / "condensatenet_module", str(MODULES / "condensatenet_module"), 5, 3),
]


class Row(NamedTuple):
    """Medians in seconds: of the whole call, and of what the worker computed by itself."""

    way: str
    whole: float
    computing: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure what calls cost.")
    parser.add_argument("--home", type=Path, required=True, metavar="FOLDER", help="for the environments")
    parser.add_argument("--tiles", type=int, default=4, help="side of the image in units of 512 pixels (default: 4)")
    parser.add_argument("--work", choices=[work.name for work in WORKS], action="append", help="only this one")
    options = parser.parse_args()
    image = np.tile(make_test_image(), (options.tiles, options.tiles))
    store = EnvironmentStore(options.home)
    print(f"{image.shape[0]} x {image.shape[1]} uint16 there, int32 back; medians in ms")
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}")
    print(f"\n{'':36}{'whole call':>12}{'computing':>12}{'overhead':>12}")
    for work in WORKS:
        if options.work and work.name not in options.work:
            continue
        begin = time.perf_counter()
        environment = store.ensure(ModuleFolder(work.module))
        made = time.perf_counter() - begin
        print(f"{work.name}" + (f" (environment made in {made:.1f} s)" if made > 1 else ""), flush=True)
        rows, checksum = measure_calls(work, options.home, image)
        for row in [*rows, *measure_appose(work, store, environment, image, checksum)]:
            times = (row.whole, row.computing, row.whole - row.computing)
            print(f"  {row.way:34}" + "".join(f"{seconds * 1e3:12.1f}" for seconds in times), flush=True)


def measure_calls(work: Work, home: Path, image: NDArray[np.uint16]) -> tuple[list[Row], int]:
    """Return the rows of this package, and a checksum of the labels."""

    def call(module: ExternalModule, **options: Any) -> tuple[NDArray[np.int32], float]:
        answer = module.call(WORK_SCRIPT, image=image, work=work.argument, **options)
        return answer["labels"], answer["seconds"]

    started: list[ExternalModule] = []

    def call_first() -> tuple[NDArray[np.int32], float]:
        for module in started:
            module.close()
        started[:] = [ExternalModule(work.module, home)]
        return call(started[0])

    first = _measure("server, first call (starts it)", call_first, work.few)
    with started[0] as module, ExternalModule(work.module, home, shared_memory=False) as with_files:
        rows = [
            first,
            _measure("one-shot", lambda: call(module, mode="one-shot"), work.few),
            _measure("server", lambda: call(module), work.rounds),
        ]
        if not work.argument:
            call(with_files)
            rows.append(_measure("server, .npy files", lambda: call(with_files), work.rounds))
        return rows, zlib.crc32(call(module)[0])


def measure_appose(
    work: Work, store: EnvironmentStore, environment: Environment, image: NDArray[np.uint16], checksum: int
) -> list[Row]:
    """Return the rows of appose, measured by itself in the module's environment."""
    _put_appose_into(environment, store.home)
    importable = Path(external_modules.__file__).parent / "worker" / "importable"
    folders = json.dumps([str(HERE), str(importable)])
    with tempfile.TemporaryDirectory() as temporary:
        np.save(Path(temporary) / "image.npy", image)
        command = [environment.python, "-I", HERE / "appose_calls.py", environment.path, folders]
        command += [Path(temporary) / "image.npy", work.argument, str(work.rounds), str(work.few)]
        done = subprocess.run(command, capture_output=True, env=scrubbed_environment(), check=False)
    if done.returncode:
        raise SystemExit(done.stderr.decode(errors="replace"))
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("checksum") == checksum, "appose's worker found something else"
    return [Row(way, *times) for way, times in found.items()]


def _put_appose_into(environment: Environment, home: Path) -> None:
    folder = home / "appose"
    if not folder.is_dir():
        command: list[str | os.PathLike[str]] = ["pip", "install", "--python", environment.python, "--no-deps"]
        installed = find_uv(home).run([*command, "--target", folder, APPOSE], lambda line: None)
        if installed.code:
            raise SystemExit(installed.tail())
    (packages,) = environment.path.glob("lib/python*/site-packages")
    (packages / "appose.pth").write_text(f"{folder}\n")


def _measure(way: str, call: Callable[[], tuple[NDArray[np.int32], float]], rounds: int) -> Row:
    whole, computing = [], []
    for _ in range(rounds):
        begin = time.perf_counter()
        labels, own = call()
        whole.append(time.perf_counter() - begin)
        computing.append(own)
    assert labels.dtype == np.int32 and labels.any()
    return Row(way, statistics.median(whole), statistics.median(computing))


if __name__ == "__main__":
    main()
