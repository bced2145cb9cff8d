"""`workbench serve`: the server, until it is stopped."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import secrets
import signal
import sys
import threading
from types import FrameType

from workbench.command_line.options import Verbs, add_data_option, add_workers_option, worker_folders
from workbench.errors import WorkbenchError

_TOKEN_VARIABLE = "WORKBENCH_TOKEN"
_TOKEN = re.compile("[A-Za-z0-9_-]{16,}")  # what an address and a header can hold as it is
_STOP_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # SIGHUP: the terminal was closed


def add_parser(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "serve",
        help="start the server and print its address",
        description="Start the server and print its address, which contains the token that opens it. Ctrl-C stops it\n"
        f"and cancels its jobs. The token is new at each start, unless ${_TOKEN_VARIABLE} gives one.",
        epilog="examples:\n  workbench serve\n  workbench serve --data my_data --workers workers --port 8081",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_data_option(parser)
    add_workers_option(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=8080, help="port to listen at; 0 for any that is free (default: %(default)s)"
    )
    parser.add_argument(
        "--allow-other-machines",
        action="store_true",
        help="let --host be an address that other machines reach: whoever has the token can then read and change all "
        "data and run the tools, and the token travels unencrypted",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    from workbench.server.running import is_loopback, running_server

    if not is_loopback(arguments.host) and not arguments.allow_other_machines:
        raise WorkbenchError(
            f"Other machines could reach {arguments.host}. Add --allow-other-machines if you want that; "
            "the server is safe only in a network that you trust."
        )
    token = os.environ.get(_TOKEN_VARIABLE) or secrets.token_hex(16)
    if not _TOKEN.fullmatch(token):
        raise WorkbenchError(
            f"${_TOKEN_VARIABLE} must be at least 16 letters, digits, - or _, so that nobody guesses it"
        )
    stop = _note_signals()
    with running_server(
        arguments.data, host=arguments.host, port=arguments.port, token=token, workers=worker_folders(arguments)
    ) as server:
        print(f"{server.url}/#token={server.token}", flush=True)
        print(f"The data is in {arguments.data}. Ctrl-C stops the server.", flush=True)
        while not stop.wait(0.5):
            pass
        with contextlib.suppress(OSError):  # the terminal may be gone
            print("Stopping; jobs get ten seconds to end.", file=sys.stderr)
    return 0


def _note_signals() -> threading.Event:
    stop = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        stop.set()

    for name in _STOP_SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), note)
    return stop
