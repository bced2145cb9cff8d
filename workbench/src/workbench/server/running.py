"""A server that is up: its socket, its jobs, and the file that says where it is."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import uvicorn

from workbench.errors import WorkbenchError
from workbench.jobs.containers import DockerEngine
from workbench.jobs.registry import Registry
from workbench.jobs.runner import JobRunner
from workbench.server.app import LOOPBACK_NAMES, create_app
from workbench.store.lock import FolderLock
from workbench.store.store import Store

_FILE = "server.json"
_ANSWER_WITHIN_S = 2  # what requests that are under way get when the server ends
_END_WITHIN_S = 3.0
_START_WITHIN_S = 10.0
_LAST_PORT = 65535


@dataclass(frozen=True)
class RunningServer:
    """Where a server is and what opens it."""

    url: str
    token: str
    pid: int


@contextmanager
def running_server(
    data_folder: Path, *, host: str, port: int, token: str, workers: Sequence[Path]
) -> Iterator[RunningServer]:
    """Serve a data folder while the block runs; then cancel the jobs and stop, within 15 seconds.

    Args:
        data_folder: what is served; no other server may hold it.
        host: name or address to listen at.
        port: port to listen at; 0 for a free one.
        token: what clients must know.
        workers: folders with workers.yaml files.

    Raises:
        WorkbenchError: a workers.yaml is not as it must be, the data folder is held by another server, or the port is
            taken or none.
    """
    if not 0 <= port <= _LAST_PORT:
        raise WorkbenchError(f"There is no port {port}. Choose one up to {_LAST_PORT} with --port, or 0 for any.")
    hosts = LOOPBACK_NAMES | {host.lower()} if is_loopback(host) else None
    registry = Registry(workers, engine=DockerEngine())
    with ExitStack() as stack:
        store = stack.enter_context(closing(Store(data_folder, serve=True)))
        (data_folder / _FILE).unlink(missing_ok=True)  # of a server that was killed
        listener = stack.enter_context(_listen(host, port))
        url = f"http://{_reachable(host)}:{listener.getsockname()[1]}"
        runner = JobRunner(store, registry, api_url=f"{url}/api/v1")
        server = uvicorn.Server(
            uvicorn.Config(
                create_app(store, token=token, runner=runner, hosts=hosts),
                loop="asyncio",
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=_ANSWER_WITHIN_S,
            )
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="server", daemon=True)
        runner.start()
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            if not server.started:
                raise WorkbenchError(f"The server could not start at {url}. Choose another --port.")
            here = RunningServer(url, token, os.getpid())
            _write(data_folder / _FILE, here)
            yield here
        finally:
            # Jobs first: their workers talk to the server while they clean up.
            runner.stop()
            (data_folder / _FILE).unlink(missing_ok=True)
            server.should_exit = True
            thread.join(_END_WITHIN_S)


def wait_for_server(data_folder: Path) -> RunningServer | None:
    """Return the server that holds a data folder, which may be about to start, or None if there is none."""
    end = time.monotonic() + _START_WITHIN_S
    while _is_served(data_folder) and time.monotonic() < end:
        with contextlib.suppress(OSError, ValueError, TypeError):
            return RunningServer(**json.loads((data_folder / _FILE).read_text(encoding="utf-8")))
        time.sleep(0.1)
    return None


def _is_served(data_folder: Path) -> bool:
    try:
        with closing(FolderLock(data_folder / "server.lock")) as lock:
            return not lock.hold_alone()
    except OSError:
        return False


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach a server that listens at a host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"Port {port} is taken by another program. Choose another one with --port."
        else:
            reason = f"Cannot listen at {host}, port {port}: {error}. Choose others with --host and --port."
        raise WorkbenchError(reason) from error
    # Otherwise the kernel holds back the second part of an answer for some 40 ms; connections inherit it.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _reachable(host: str) -> str:
    """Return how a program of this machine names a host in an address."""
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        if address.is_unspecified:
            return "127.0.0.1" if address.version == 4 else "[::1]"
        return host if address.version == 4 else f"[{host}]"
    return host


def _write(path: Path, here: RunningServer) -> None:
    """Write the file at once, readable by this user only."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(asdict(here), file)
    os.replace(new, path)
