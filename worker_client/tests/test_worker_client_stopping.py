"""SIGTERM in every kind of place. A worker must be gone after 10 s, with a non-zero code and nothing left behind."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from worker_client_processes import Output, begin, check_stopped, start, wait_for, write_worker

# Each prints READY at the moment from which on it may be stopped.
QUICK = {
    "sleep": """
        def compute(datasetId, apiUrl, token, params):
            print("READY")
            time.sleep(60)
        """,
    "loop": """
        def compute(datasetId, apiUrl, token, params):
            print("READY")
            while True:
                pass
        """,
    "matrices": """
        import numpy as np
        def compute(datasetId, apiUrl, token, params):
            a = np.ones((700, 700))
            print("READY")
            while True:
                a @ a
        """,
    "join": """
        import threading
        def compute(datasetId, apiUrl, token, params):
            thread = threading.Thread(target=time.sleep, args=(60,), daemon=True)
            thread.start()
            print("READY")
            thread.join()
        """,
    "subprocess": """
        import subprocess
        def compute(datasetId, apiUrl, token, params):
            with subprocess.Popen(["sleep", "60"]) as process:
                try:
                    print("READY")
                    process.wait()
                finally:
                    process.kill()
        """,
    "swallowed in a destructor": """
        class Slow:
            def __del__(self):
                print("READY")
                time.sleep(2)
        def compute(datasetId, apiUrl, token, params):
            Slow()
            time.sleep(60)
        """,
    "swallowed three times": """
        import contextlib
        def compute(datasetId, apiUrl, token, params):
            print("READY")
            for _ in range(3):
                with contextlib.suppress(BaseException):
                    time.sleep(60)
            time.sleep(60)
        """,
    "error while cleaning up": """
        def compute(datasetId, apiUrl, token, params):
            try:
                print("READY")
                time.sleep(60)
            finally:
                raise RuntimeError("clean-up failed")
        """,
    "swallowed for good": """
        def compute(datasetId, apiUrl, token, params):
            print("READY")
            try:
                time.sleep(60)
            except BaseException:
                pass
        """,
    "interface": """
        def interface(image, apiUrl, token):
            print("READY")
            time.sleep(60)
        compute = None
        """,
}


@pytest.mark.parametrize("place", QUICK)
def test_stopped_in(place: str, tmp_path: Path) -> None:
    process = begin(tmp_path, QUICK[place], request="interface" if place == "interface" else "compute")
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    output = check_stopped(process, tmp_path)
    assert time.monotonic() - began < 5
    assert ("clean-up failed" in output.log) == (place == "error while cleaning up")


def test_further_signals_do_not_disturb_the_clean_up(tmp_path: Path) -> None:
    process = begin(
        tmp_path,
        """
        import contextlib
        @contextlib.contextmanager
        def cleaning(name):
            try:
                yield
            finally:
                time.sleep(1.2)
                print("cleaned", name)
        def compute(datasetId, apiUrl, token, params):
            with cleaning("outer"), cleaning("inner"):
                print("READY")
                time.sleep(60)
        """,
    )
    for _ in range(6):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
    output = check_stopped(process, tmp_path)
    assert "cleaned inner\ncleaned outer\n" in output.log


def test_interrupt_from_the_keyboard(tmp_path: Path) -> None:
    process = begin(tmp_path, QUICK["sleep"])
    process.send_signal(signal.SIGINT)
    check_stopped(process, tmp_path, code=130)


def test_a_stopped_child_process_does_not_stop_the_worker(tmp_path: Path) -> None:
    script = write_worker(
        tmp_path,
        """
        import multiprocessing
        def compute(datasetId, apiUrl, token, params):
            child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
            child.start()
            time.sleep(0.2)
            child.terminate()
            child.join()
            print("child ended with", child.exitcode)
            time.sleep(1.3)
        """,
    )
    with start(script) as process:
        log, _ = process.communicate(timeout=20)
    assert process.returncode == 0, log
    assert Output(log) == []
    assert "child ended with -15" in log


def test_stopped_at_any_moment(tmp_path: Path) -> None:
    body = """
        import tempfile
        def compute(datasetId, apiUrl, token, params):
            print("READY")
            for number in range(200):
                with tempfile.TemporaryDirectory() as folder:
                    open(f"{folder}/file", "w").close()
                tempfile.mkstemp()
        """
    script = write_worker(tmp_path, body)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    moments = random.Random(3)
    codes = []
    for number in range(16):
        process = start(script, env={**os.environ, "TMPDIR": str(scratch)})
        if number % 2:
            wait_for(process, "READY")
        time.sleep(moments.uniform(0, 0.1))
        process.send_signal(signal.SIGTERM)
        with process:
            output = Output(process.communicate(timeout=10)[0])
        codes.append(process.returncode)
        assert list(scratch.iterdir()) == [], output.log
        # Before the worker listens, the signal ends it by itself; afterwards it may have finished already.
        assert process.returncode in (-signal.SIGTERM, 143, 0), output.log
        assert len(output.of_kind("warning")) == (process.returncode == 143), output.log
    assert 143 in codes
