"""A server that is up: its socket, its jobs, and how it starts and ends."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import uvicorn

from workbench.errors import WorkbenchError
from workbench.jobs.containers import DockerEngine
from workbench.jobs.registry import Registry
from workbench.jobs.runner import JobRunner
from workbench.server.address import RunningServer, read_address, remove_address, write_address
from workbench.server.app import LOOPBACK_NAMES, create_app
from workbench.store.lock import FolderLock
from workbench.store.store import Store

_ANSWER_WITHIN_S = 2  # what requests that are under way get when the server ends
_END_WITHIN_S = 3.0
_START_WITHIN_S = 10.0
_LAST_PORT = 65535


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
        remove_address(data_folder)  # of a server that was killed
        listener = stack.enter_context(_listen(host, port))
        url = f"http://{_reachable(host)}:{listener.getsockname()[1]}"
        here = RunningServer(url, token, os.getpid())
        runner = JobRunner(store, registry, api_url=here.api_url)
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
            write_address(data_folder, here)
            yield here
        finally:
            # Jobs first: their workers talk to the server while they clean up.
            runner.stop()
            remove_address(data_folder)
            server.should_exit = True
            thread.join(_END_WITHIN_S)


def wait_for_server(data_folder: Path) -> RunningServer | None:
    """Return the server that holds a data folder, which may be about to start, or None if there is none."""
    end = time.monotonic() + _START_WITHIN_S
    while _is_served(data_folder) and time.monotonic() < end:
        if server := read_address(data_folder):
            return server
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
