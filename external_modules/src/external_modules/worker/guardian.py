"""A small process beside each worker (POSIX) that ends it when the host is gone and the worker does not notice.

A worker that computes in C without giving up Python's lock cannot notice anything. The guardian is forked before the
worker imports anything heavy; it waits on the worker's end of the host's pipe without reading from it. On Windows a
Job Object does the same. Standard library and Python 3.9 only.
"""

from __future__ import annotations

import os
import select

from external_modules.process_tree import end_processes, is_alive

_LOOK_EVERY_MS = 1000


def start_guardian(host_pipe: int, *, mark: str, folder: str | None, grace_s: float) -> int:
    """Fork the guardian of this process.

    Args:
        host_pipe: the pipe that the host writes to; its end is the end of the host.
        mark: what the worker's processes are known by.
        folder: removed when the worker is gone, if given.
        grace_s: how long a worker may take to leave by itself.

    Returns:
        The guardian's process number.
    """
    worker, host = os.getpid(), os.getppid()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        _keep_only(host_pipe)
        _watch(host_pipe, worker, host, grace_s)
        end_processes(worker, mark, spared=(os.getpid(),))
        if folder:
            import shutil  # takes longer than all else here, and is seldom needed

            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os._exit(0)


def _watch(host_pipe: int, worker: int, host: int, grace_s: float) -> None:
    """Return when the worker has ended, or when it should have."""
    poll = select.poll()
    poll.register(host_pipe, 0)  # only the end of the pipe
    while os.getppid() == worker:
        # Another process that the host forked may hold the pipe open.
        if poll.poll(_LOOK_EVERY_MS) or not is_alive(host):
            break
    poll.unregister(host_pipe)
    waited_ms = 0.0
    while os.getppid() == worker and waited_ms < grace_s * 1000:
        poll.poll(100)
        waited_ms += 100


def _keep_only(descriptor: int) -> None:
    """Let go of every other open file, so that nobody waits for this process."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    highest = max(descriptor, 255)
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, highest + 1)
