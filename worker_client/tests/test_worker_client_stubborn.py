"""Workers that do not let themselves be interrupted are ended all the same, in time and with nothing left behind."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from worker_client_processes import begin, check_stopped

# Each prints READY at the moment from which on it may be stopped.
STUBBORN = {
    "swallowing for ever": """
        def compute(datasetId, apiUrl, token, params):
            print("READY")
            while True:
                try:
                    time.sleep(0.05)
                except BaseException:
                    pass
        """,
    # A second lock of a plain mutex waits for ever in C, and no signal ends that.
    "waiting in C": """
        import ctypes
        def compute(datasetId, apiUrl, token, params):
            libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(128)
            libc.pthread_mutex_lock(mutex)
            print("READY")
            libc.pthread_mutex_lock(mutex)
        """,
    "hanging clean-up": """
        def compute(datasetId, apiUrl, token, params):
            try:
                print("READY")
                time.sleep(60)
            finally:
                time.sleep(60)
        """,
    "thread that stays": """
        import threading
        def compute(datasetId, apiUrl, token, params):
            threading.Thread(target=time.sleep, args=(60,)).start()
            print("READY")
            time.sleep(60)
        """,
    "thread that stays after success": """
        import threading
        def stay():
            time.sleep(0.3)
            print("READY")
            time.sleep(60)
        def compute(datasetId, apiUrl, token, params):
            threading.Thread(target=stay).start()
        """,
}


def test_a_worker_that_resists_is_ended_in_time(tmp_path: Path) -> None:
    processes = {}
    for place, body in STUBBORN.items():
        folder = tmp_path / place.replace(" ", "_")
        folder.mkdir()
        processes[folder] = begin(folder, body)
    began = time.monotonic()
    for process in processes.values():
        process.send_signal(signal.SIGTERM)
    for folder, process in processes.items():
        check_stopped(process, folder)
    assert 7.5 < time.monotonic() - began < 10


def test_a_worker_whose_output_nobody_reads_is_ended_in_time(tmp_path: Path) -> None:
    process = begin(
        tmp_path,
        """
        def compute(datasetId, apiUrl, token, params):
            print("READY", flush=True)
            while True:
                print("x" * 1000)
        """,
    )
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 143
    process.communicate()
    assert list((tmp_path / "scratch").iterdir()) == []
