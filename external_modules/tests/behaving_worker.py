"""A worker script of the tests: its function does what `what` says, also what no worker should do."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
from module_worker import Cancelled, Progress, serve
from numpy.typing import NDArray

SLEEPER = [sys.executable, "-I", "-c", "import time; time.sleep(300)"]
CALLS: list[str] = []
KEPT: list[NDArray[Any]] = []


def behave(what: str, *, progress: Progress, **arguments: Any) -> Any:
    CALLS.append(what)
    return globals()[f"do_{what}"](progress, **arguments)


def do_echo(progress: Progress, **arguments: Any) -> Any:
    return arguments


def do_keep(progress: Progress, image: NDArray[Any]) -> Any:
    """Return what the images of all calls so far hold by now, after changing this one."""
    KEPT.append(image)
    image += 1
    return [int(kept.flat[0]) for kept in KEPT]


def do_pid(progress: Progress) -> Any:
    return os.getpid()


def do_count(progress: Progress) -> Any:
    return len(CALLS)


def do_labels(progress: Progress, side: int) -> Any:
    return np.arange(side * side, dtype=np.int32).reshape(side, side)


def do_where(progress: Progress) -> Any:
    return {"cwd": os.getcwd(), "path": sys.path, "flags": list(sys.flags), "environment": dict(os.environ)}


def do_print(progress: Progress) -> Any:
    print('{"result": 1, "value": "printed"}')
    print("snowman \u2603")
    os.write(1, b"from C\n")
    sys.stderr.write("to stderr\n")
    subprocess.run([sys.executable, "-I", "-c", "print('from a child')"], check=True)
    return [sys.stdin.read(), os.read(0, 10).decode()]


def do_shout(progress: Progress, megabytes: int) -> Any:
    line = "x" * 999
    for _ in range(megabytes * 1000):
        print(line)


def do_raise(progress: Progress) -> Any:
    print("before the error")
    raise ValueError("no objects in \u00b5m")


def do_leave(progress: Progress) -> Any:
    sys.exit("I leave")


def do_exit(progress: Progress) -> Any:
    print("last words", flush=True)
    os._exit(7)


def do_die(progress: Progress, number: int) -> Any:
    print("last words", flush=True)
    os.kill(os.getpid(), number)
    time.sleep(60)


def do_crash_in_c(progress: Progress) -> Any:
    ctypes.string_at(0)


def do_hang_in_c(progress: Progress) -> Any:
    """Hold Python's lock, so that no thread of this process can do anything."""
    progress(0.1, "hangs")
    ctypes.PyDLL(None).sleep(300)


def do_hang_deaf(progress: Progress) -> Any:
    """Let no signal through that can be kept out."""
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})
    progress(0.1, "hangs")
    while True:
        pass


def do_children(progress: Progress, then: str | None) -> Any:
    """Start a child, one in a session of its own, and one whose parent ends at once; then go on or die."""
    children = [subprocess.Popen(SLEEPER), subprocess.Popen(SLEEPER, start_new_session=True)]
    start = f"subprocess.Popen({SLEEPER!r}, start_new_session=True, stdout=subprocess.DEVNULL)"
    orphan = f"import subprocess; print({start}.pid)"
    printed = subprocess.run([sys.executable, "-I", "-c", orphan], stdout=subprocess.PIPE, check=True).stdout
    forked = os.fork()
    if not forked:
        time.sleep(300)
        os._exit(0)
    pids = [os.getpid(), *(child.pid for child in children), int(printed), forked]
    progress(1.0, " ".join(map(str, pids)))
    return pids if then is None else globals()[f"do_{then}"](progress)


def do_return(progress: Progress, kind: str) -> Any:
    table = np.zeros(3, dtype=[("area", "f4"), ("name", "O")])
    return {
        "set": {1, 2},
        "nested": {"table": [1, {"deep": b"bytes"}]},
        "objects": np.array([1, "a", None], dtype=object),
        "records": table,
        "masked": np.ma.masked_array([1, 2], [True, False]),
        "number keys": {1: 2.0},
        "function": len,
        "cycle": CYCLE,
        "scalars": {"a": np.float32(1.5), "b": np.int64(3), "c": np.bool_(True), "d": (1, 2), "e": float("nan")},
        "none": None,
    }[kind]


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


def do_steps(progress: Progress, steps: int, pause: float = 0.02) -> Any:
    for step in range(steps):
        progress(step / steps, f"step {step}")
        time.sleep(pause)
    return steps


def do_clean_up(progress: Progress, file: str) -> Any:
    try:
        do_steps(progress, 1000)
    except Exception:
        return "swallowed"
    except Cancelled:
        with open(file, "w") as stream:
            stream.write(f"cleaned up, cancelled: {progress.cancelled}")
        raise


def do_sleep(progress: Progress, seconds: float) -> Any:
    time.sleep(seconds)
    return [time.time() - seconds, time.time()]


def do_thread(progress: Progress) -> Any:
    """Leave a thread behind that keeps the process from ending."""
    threading.Thread(target=time.sleep, args=(300,)).start()
    return os.getpid()


def do_report_later(progress: Progress) -> Any:
    """Leave a thread behind that goes on telling how far this call is."""
    threading.Thread(target=do_steps, args=(progress, 100, 0.01), daemon=True).start()


def do_nest(progress: Progress, depth: int) -> Any:
    sys.setrecursionlimit(20 * depth)
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def do_pool(progress: Progress) -> Any:
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(2) as pool:
        return pool.map(square, range(4))


def square(number: int) -> Any:
    return number * number


if __name__ == "__main__":
    serve(behave)
