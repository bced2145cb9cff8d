"""A worker that does not listen, says what cannot be read or comes too late, and an environment that takes its time."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from calling_behaving_worker import SCRIPT, ThisInterpreter, is_running, make_module, open_module

from external_modules.environments.store import Environment
from external_modules.errors import CallAbortedError, WorkerError, WorkerTimeoutError
from external_modules.external_module import ExternalModule
from external_modules.module_folder import ModuleFolder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the faults are made with POSIX signals")

Report = Callable[[float | None, str], object]


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExternalModule]:
    with open_module(tmp_path_factory.mktemp("stuck")) as module:
        yield module


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="so much can be read there")
def test_an_answer_that_cannot_be_read_is_told(module: ExternalModule) -> None:
    with pytest.raises(WorkerError, match=r"what it answered cannot be read \(RecursionError"):
        module.call(SCRIPT, what="nest", depth=3000, timeout=10)


def test_what_a_call_tells_after_its_end_is_no_progress_of_the_next(module: ExternalModule) -> None:
    told: list[str] = []
    module.call(SCRIPT, what="report_later")
    module.call(SCRIPT, what="sleep", seconds=0.5, progress=lambda fraction, text: told.append(text))
    assert told == []


def test_closing_stops_the_making_of_an_environment(tmp_path: Path) -> None:
    class Slow(ThisInterpreter):
        def ensure(
            self, folder: ModuleFolder, report: Callable[[float | None, str], object] | None = None
        ) -> Environment:
            assert report is not None
            begun.set()
            for _ in range(200):
                report(None, "making")
                time.sleep(0.05)
            return super().ensure(folder)

    begun = threading.Event()
    module = ExternalModule(make_module(tmp_path / "behaving"), tmp_path, environments=Slow())
    closer = threading.Thread(target=lambda: (begun.wait(10), module.close()))
    closer.start()
    with pytest.raises(CallAbortedError):
        module.call(SCRIPT, what="pid")
    closer.join()


@pytest.mark.parametrize("way", ["timeout", "should_abort"])
def test_a_worker_that_does_not_read_is_given_up(module: ExternalModule, way: str) -> None:
    text = "x" * 10**6  # more than a pipe holds
    pid = module.call(SCRIPT, what="pid")
    os.kill(pid, signal.SIGSTOP)
    begin = time.monotonic()
    limit: dict[str, Any] = {way: 0.5 if way == "timeout" else lambda: time.monotonic() > begin + 0.5}
    with pytest.raises((WorkerTimeoutError, CallAbortedError)):
        module.call(SCRIPT, what="echo", text=text, **limit)
    assert time.monotonic() - begin < 10 and not is_running(pid)
    assert module.call(SCRIPT, what="echo", text=text)["text"] == text
