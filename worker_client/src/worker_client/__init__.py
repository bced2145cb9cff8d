"""What every NimbusImage worker needs: its command line, its errors, its progress, and the positions it works on.

>>> sys.exit(run_worker(interface=interface, compute=compute, description=__doc__))  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from worker_client.command_line import run_worker
from worker_client.errors import Stopped, WorkerError
from worker_client.progress import Progress, update_progress

if TYPE_CHECKING:
    from worker_client.worker_client import WorkerClient, check_parameters

__version__ = "0.1.0"

__all__ = ["Progress", "Stopped", "WorkerClient", "WorkerError", "check_parameters", "run_worker", "update_progress"]


def __getattr__(name: str) -> Any:
    # The client is imported when it is first used: an interface request does without it, and a stop signal that
    # arrives while a worker is starting finds `run_worker` listening earlier.
    if name in ("WorkerClient", "check_parameters"):
        from worker_client import worker_client

        return getattr(worker_client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
