"""Looks whether a module works on this machine: its packages, the GPU, and its worker on an image that is known."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from external_modules.child_environment import scrubbed_environment
from external_modules.environments.running_program import run_program
from external_modules.environments.store import Environment
from external_modules.errors import ExternalModuleError, WorkerError
from external_modules.module_folder import USUAL_WORKER, ModuleFolder
from external_modules.object_labels import count_objects, labels_of, to_object_labels

if TYPE_CHECKING:
    from external_modules.external_module import ExternalModule

_PROBE_TIMEOUT_S = 300.0
_SIZE = 512
_ROWS, _COLUMNS = np.divmod(np.arange(20), 5)
_CENTRES = (64 + 128 * _ROWS, 50 + 100 * _COLUMNS)


class Finding(NamedTuple):
    """A line of what was found.

    Attributes:
        kind: "ok", "note" for what need not worry anybody, or "FAILED".
        text: what was looked at, and what came of it.
    """

    kind: Literal["ok", "note", "FAILED"]
    text: str

    @property
    def is_failure(self) -> bool:
        """Whether something does not work."""
        return self.kind == "FAILED"

    def __str__(self) -> str:
        return f"{self.kind:7} {self.text}"


def validate(module: ExternalModule, arguments: Mapping[str, Any], tell: Callable[[str], object]) -> Iterator[Finding]:
    """Make the module's environment if need be, then check it and the worker.

    Args:
        module: the module.
        arguments: for its worker beside `input_image`.
        tell: gets a text now and then while something takes its time.

    Yields:
        What was found; the first failure is the last.
    """
    begin = time.monotonic()
    try:
        environment = module.ensure_environment(_without_repeats(tell))
    except ExternalModuleError as error:
        yield Finding("FAILED", f"environment: {error}")
        return
    yield Finding("ok", f"environment ready after {time.monotonic() - begin:.1f} s ({environment.path})")
    is_well = True
    for finding in check_packages(module.folder, environment):
        is_well = is_well and not finding.is_failure
        yield finding
    if is_well:
        yield check_worker(module, arguments, _without_repeats(tell))


def check_packages(folder: ModuleFolder, environment: Environment) -> Iterator[Finding]:
    """Import what the module needs, and look for a GPU."""
    try:
        found = _probe(folder, environment)
    except ExternalModuleError as error:
        yield Finding("FAILED", f"Python of the environment: {error}")
        return
    for name, problem in found["failed"]:
        yield Finding("FAILED", f"package {name} cannot be imported: {problem}")
    versions = ", ".join(f"{name} {version}".strip() for name, version in found["found"])
    yield Finding("ok", f"Python {found['python']}: {versions}")
    if found["gpu"] is not None:
        yield Finding("ok" if found["gpu"] else "note", f"GPU: {found['gpu'] or 'none; torch computes on the CPU'}")


def check_worker(
    module: ExternalModule, arguments: Mapping[str, Any], progress: Callable[[float, str], object]
) -> Finding:
    """Call the module's worker twice with a test image, and look at what it finds.

    It gets the module's `test_arguments`, and must find at least half of the image's spots with them. With `arguments`
    besides, such as a model for something else, it may find none.
    """
    if not (module.folder.path / USUAL_WORKER).is_file():
        return Finding("note", f"worker not tried: the module has no {USUAL_WORKER}")
    image = make_test_image()
    seconds = []
    try:
        for _ in range(2):
            begin = time.monotonic()
            returned = labels_of(
                module.call_with(
                    USUAL_WORKER, {**module.folder.test_arguments, **arguments, "input_image": image}, progress=progress
                )
            )
            seconds.append(time.monotonic() - begin)
        labels = to_object_labels(returned)
    except ExternalModuleError as error:
        said = f"{error.args[0]}; more in {module.log_file}" if isinstance(error, WorkerError) else f"{error}"
        return Finding("FAILED", f"worker on a test image: {said}")
    text = f"worker: image {image.shape} {image.dtype} -> labels {returned.shape} {returned.dtype}"
    if labels.shape != image.shape:
        return Finding("FAILED", f"{text}; {USUAL_WORKER} must return one number for every pixel")
    spots = len(_ROWS)
    found = len({*labels[_CENTRES].tolist()} - {0})
    text += (
        f", {count_objects(labels)} objects, {found} of {spots} spots found, first call {seconds[0]:.2f} s, next "
        f"{seconds[1]:.2f} s"
    )
    return Finding("FAILED" if 2 * found < spots and not arguments else "ok", text)


def make_test_image() -> NDArray[np.uint16]:
    """Return a (512, 512) uint16 image with 20 bright spots with soft edges, 10 to 18 pixels wide, and photon noise."""
    y, x = np.mgrid[:_SIZE, :_SIZE]
    image = np.full((_SIZE, _SIZE), 500.0)
    for number, (row, column) in enumerate(zip(*_CENTRES, strict=True)):
        image += 1000 / (1 + np.exp((np.hypot(y - row, x - column) - 5 - number / 5) / 1.5))
    noisy: NDArray[np.uint16] = np.random.default_rng(0).poisson(image).astype(np.uint16)
    return noisy


def _without_repeats(tell: Callable[[str], object]) -> Callable[[float | None, str], None]:
    told = ""

    def report(fraction: float | None, text: str) -> None:
        nonlocal told
        if text != told:  # it comes again and again, so that a host can stop what takes so long
            told = text
            tell(text)

    return report


def _probe(folder: ModuleFolder, environment: Environment) -> dict[str, Any]:
    names = json.dumps([*dict.fromkeys(["numpy", *folder.import_probe])])
    torch = folder.torch is not None or "torch" in folder.locked_names
    try:
        done = run_program(
            [environment.python, "-I", "-X", "utf8", "-c", _PROBE, names, "torch" if torch else ""],
            environment=scrubbed_environment(),
            folder=environment.path,
            timeout=_PROBE_TIMEOUT_S,
        )
        (answer,) = [line for line in done.output.splitlines() if line.startswith(_ANSWER)]
        found: dict[str, Any] = json.loads(answer.removeprefix(_ANSWER))
    except OSError as error:
        raise ExternalModuleError(str(error)) from error
    except ValueError:
        raise ExternalModuleError(f"it ended with code {done.code} and said:\n{done.tail()}") from None
    return found


_ANSWER = "the probe has found "
_PROBE = """
import importlib, json, sys
found, failed, gpu = [], [], None
for name in json.loads(sys.argv[1]):
    try:
        found.append((name, str(getattr(importlib.import_module(name), "__version__", ""))))
    except Exception as error:
        failed.append((name, f"{type(error).__name__}: {error}"))
if sys.argv[2]:
    import torch
    gpu = ""
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_name(0)
    elif getattr(torch.backends, "mps", None) is not None and torch.backends.mps.is_available():
        gpu = "Apple (Metal)"
python = sys.version.split()[0]
print("the probe has found", json.dumps({"python": python, "found": found, "failed": failed, "gpu": gpu}))
"""
