"""Calls of one thing after another, and arguments of any name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from calling_behaving_worker import SCRIPT, open_module, wait_until_gone

from external_modules.errors import CallAbortedError, ExternalModuleError, WorkerError
from external_modules.external_module import ExternalModule

Mode = Literal["server", "one-shot"]
BOTH = pytest.mark.parametrize("mode", ["server", "one-shot"])


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExternalModule]:
    with open_module(tmp_path_factory.mktemp("batch")) as module:
        yield module


@BOTH
def test_one_worker_computes_a_batch_in_its_order(module: ExternalModule, mode: Mode) -> None:
    images = [np.full((3, number), number, np.uint16) for number in range(5)]
    results = list(module.call_batch(SCRIPT, [{"what": "echo", "image": image} for image in images], mode=mode))
    assert all(np.array_equal(result["image"], image) for result, image in zip(results, images, strict=True))
    pids = list(module.call_batch(SCRIPT, [{"what": "pid"}] * 3, mode=mode))
    assert len(set(pids)) == 1 and pids[0] != os.getpid()
    if mode == "one-shot":
        wait_until_gone(pids[:1], 5)
    assert list(module.call_batch(SCRIPT, [], mode=mode)) == []


@BOTH
def test_only_one_thing_of_a_batch_is_in_memory(module: ExternalModule, mode: Mode) -> None:
    taken = []

    def batch() -> Iterator[dict[str, Any]]:
        for number in range(100):
            taken.append(number)
            yield {"what": "echo", "number": number}

    results = module.call_batch(SCRIPT, batch(), mode=mode)
    assert [next(results)["number"] for _ in range(3)] == [0, 1, 2] and taken == [0, 1, 2]
    results.close()  # type: ignore[attr-defined]


@BOTH
def test_progress_is_that_of_the_whole_batch(module: ExternalModule, mode: Mode) -> None:
    seen: list[float] = []
    batch = [{"what": "steps", "steps": 4}] * 3
    list(module.call_batch(SCRIPT, batch, mode=mode, progress=lambda fraction, text: seen.append(fraction)))
    assert seen == sorted(seen) and seen[0] == 0 and 2 / 3 < seen[-1] <= 1


@BOTH
def test_an_error_ends_a_batch_after_what_was_computed(module: ExternalModule, mode: Mode) -> None:
    got = []
    with pytest.raises(WorkerError, match="no objects"):
        for result in module.call_batch(SCRIPT, [{"what": "pid"}, {"what": "raise"}, {"what": "pid"}], mode=mode):
            got.append(result)
    assert len(got) == 1
    with pytest.raises(CallAbortedError):
        list(module.call_batch(SCRIPT, [{"what": "pid"}], mode=mode, should_abort=lambda: True))
    assert len(list(module.call_batch(SCRIPT, [{"what": "pid"}], mode=mode))) == 1


@BOTH
def test_arguments_may_have_any_name(module: ExternalModule, mode: Mode) -> None:
    names = {"mode": "wide", "timeout": 3, "should_abort": False, "keep_folder": None, "worker_script": "x", "self": 1}
    assert module.call_with(SCRIPT, {"what": "echo", **names}, mode=mode) == names
    with pytest.raises(WorkerError, match="'progress' is not the host's to give"):
        module.call_with(SCRIPT, {"what": "echo", "progress": 1}, mode=mode)
    with pytest.raises(ExternalModuleError, match="mode is 'twice'"):
        module.call_with(SCRIPT, {"what": "echo"}, mode="twice")  # type: ignore[arg-type]


def test_a_call_that_makes_no_sense_is_told(module: ExternalModule) -> None:
    with pytest.raises(ExternalModuleError, match="its number 1 is a ndarray"):
        list(module.call_batch(SCRIPT, [{"what": "pid"}, np.zeros((2, 2))]))  # type: ignore[list-item]
    for seconds in (0, -1, float("nan")):
        with pytest.raises(ExternalModuleError, match="must be a number of seconds over 0"):
            module.call(SCRIPT, what="pid", timeout=seconds)


def test_a_changed_script_is_computed_with(tmp_path: Path) -> None:
    with open_module(tmp_path) as module:
        script, helper = (module.folder.path / name for name in ("changing.py", "helper.py"))
        script.write_text("from helper import value\nfrom module_worker import serve\nserve(lambda: value)\n")
        helper.write_text("value = 1\n")
        assert module.call("changing.py") == 1
        pid = module.call(SCRIPT, what="pid")
        assert module.call(SCRIPT, what="pid") == pid
        helper.write_text("value = 22\n")
        assert module.call("changing.py") == 22


def test_a_function_that_takes_anything_gets_no_progress(tmp_path: Path) -> None:
    with open_module(tmp_path) as module:
        script = "from module_worker import serve\ndef everything(**given): return given\nserve(everything)\n"
        (module.folder.path / "anything.py").write_text(script)
        assert module.call("anything.py", a=1) == {"a": 1}
        assert module.call_with("anything.py", {"progress": 2}) == {"progress": 2}
