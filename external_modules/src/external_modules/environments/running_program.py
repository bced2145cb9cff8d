"""Runs a program that takes long: without a shell, with its lines passed on, and ended when the caller gives up."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICK_S = 0.5
_LAST_OUTPUT_S = 2.0


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
    on_tick: Callable[[str | None], object],
    keep_open: Sequence[int] = (),
    timeout: float | None = None,
) -> Finished:
    """Run a program to its end.

    Args:
        command: the program and its arguments.
        environment: all its variables.
        folder: its working folder.
        on_tick: gets each line when it is printed, and None about twice a second. What it raises ends the program.
        keep_open: descriptors that the program inherits (POSIX), such as that of a lock: if this process is killed,
            the program runs on, and the lock must hold as long.
        timeout: seconds after which it is killed; its exit code then tells of that.

    Raises:
        OSError: it cannot be started.
    """
    process = subprocess.Popen(
        [os.fspath(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        cwd=folder,
        pass_fds=keep_open if os.name == "posix" else (),
        creationflags=_creation_flags(),
    )
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    reader = threading.Thread(target=_read_lines, args=(process, lines), daemon=True)
    output: list[str] = []
    killer = threading.Timer(timeout, process.kill) if timeout is not None else None
    try:
        reader.start()
        if killer:
            killer.daemon = True
            killer.start()
        while process.poll() is None:
            try:
                line = lines.get(timeout=_TICK_S)
            except queue.Empty:
                line = None
            else:
                if line is None:  # it has closed its output
                    process.wait()
                    break
                output.append(line)
            on_tick(line.strip() if line else None)
    finally:
        if killer:
            killer.cancel()
        process.kill()
        process.wait()
        reader.join(_LAST_OUTPUT_S)  # a process that it left behind may hold the pipe
    while not lines.empty():
        output.append(lines.get() or "")
    return Finished(process.returncode, "".join(output))


def _creation_flags() -> int:
    if sys.platform == "win32":
        return subprocess.CREATE_NO_WINDOW
    return 0


def _read_lines(process: subprocess.Popen[bytes], lines: queue.SimpleQueue[str | None]) -> None:
    assert process.stdout is not None
    with process.stdout as stream:
        for line in stream:
            lines.put(line.decode(errors="replace"))
    lines.put(None)
