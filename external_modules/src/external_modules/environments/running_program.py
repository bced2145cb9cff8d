"""Runs a program to its end: without a shell, with its lines passed on, and ended with all below it on giving up."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from external_modules.child_environment import scrubbed_environment
from external_modules.environments.file_lock import HeldLock
from external_modules.process_tree import ProcessTree

_TICK_S = 0.5
_LAST_OUTPUT_S = 2.0
_ANSWER_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Finished:
    """A program that has ended.

    Attributes:
        code: its exit code; negative if a signal ended it.
        output: what it printed, stdout and stderr in one.
    """

    code: int
    output: str

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of the output."""
        return "\n".join(self.output.rstrip().splitlines()[-lines:])


def run_program(
    command: Sequence[str | os.PathLike[str]],
    *,
    environment: Mapping[str, str],
    folder: Path,
    on_tick: Callable[[str | None], object] = lambda line: None,
    lock: HeldLock | None = None,
    timeout: float | None = None,
) -> Finished:
    """Run a program to its end, and then end whatever it started and left running.

    Args:
        command: the program and its arguments.
        environment: all its variables.
        folder: its working folder.
        on_tick: gets each line when it is printed, and None about twice a second. What it raises ends the program.
        lock: stays locked as long as the program or one that it started runs, even if this process is killed (POSIX; on
            Windows the system ends them with this process).
        timeout: seconds after which it is ended; its exit code and its output then tell of that.

    Raises:
        OSError: it cannot be started.
    """
    end = None if timeout is None else time.monotonic() + timeout
    tree = ProcessTree(
        [os.fspath(part) for part in command],
        environment=environment,
        folder=folder,
        descriptors=[lock.descriptor] if lock and sys.platform != "win32" else [],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    reader = threading.Thread(target=_read_lines, args=(tree.process, lines), daemon=True)
    output: list[str] = []
    try:
        reader.start()
        while (code := tree.process.poll()) is None and (end is None or time.monotonic() < end):
            line = None
            with suppress(queue.Empty, subprocess.TimeoutExpired):
                line = lines.get(timeout=_TICK_S)
                if line is None:  # it has closed its output, and ends soon or goes on in silence
                    tree.process.wait(_TICK_S)
                else:
                    output.append(line)
            on_tick(line.strip() if line else None)
    finally:
        ended = tree.end()
        reader.join(_LAST_OUTPUT_S)
    while not lines.empty():
        output.append(lines.get() or "")
    if code is None:
        output.append(f"It was ended because it took longer than {timeout:g} s.\n")
    return Finished(ended, "".join(output))


def ask_program(command: Sequence[str | os.PathLike[str]]) -> Finished:
    """Run a program that only tells something about itself or its settings, and takes moments.

    Args:
        command: the program, as an absolute path, and its arguments.

    Raises:
        OSError: it cannot be started.
    """
    return run_program(
        command, environment=scrubbed_environment(), folder=Path(command[0]).parent, timeout=_ANSWER_TIMEOUT_S
    )


def _read_lines(process: subprocess.Popen[bytes], lines: queue.SimpleQueue[str | None]) -> None:
    assert process.stdout is not None
    with process.stdout as pipe, open(pipe.fileno(), "rb", closefd=False) as stream:
        for line in stream:
            lines.put(line.decode(errors="replace"))
    lines.put(None)
