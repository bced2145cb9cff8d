"""`workbench run-tool`: run a tool on a dataset, and wait for it."""

from __future__ import annotations

import argparse
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

from workbench.command_line.client import Client
from workbench.command_line.fields import read_channel, read_fields
from workbench.command_line.lookup import Dataset, find_dataset, find_tool, list_tools
from workbench.command_line.options import Verbs, add_data_option, add_workers_option, worker_folders
from workbench.command_line.watch import CANCELLED_EXIT_CODE, wait_for_job
from workbench.errors import DataFolderError, WorkbenchError

_TERMINATED = 143


def add_parser(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "run-tool",
        help="run a tool on a dataset",
        description="Run a tool on a dataset as the page does, show its progress and return its exit code. The server\n"
        "of the data folder is used, with its tools, if it is up; otherwise one is started meanwhile. Ctrl-C cancels.",
        epilog='examples:\n  workbench run-tool --list\n  workbench run-tool "CondensateNet" cells --tag condensate\n'
        '  workbench run-tool condensatenet_predict cells --set "Min Size=20" --set "Batch XY=all" --tag condensate',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("tool", nargs="?", metavar="TOOL", help="name of the tool or of its image, or a part of one")
    parser.add_argument("dataset", nargs="?", metavar="DATASET", help="name or identifier of the dataset")
    parser.add_argument("--list", action="store_true", help="list the tools and end")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar='"FIELD=VALUE"',
        help="value of a field of the tool, otherwise its default; lists are separated by commas",
    )
    parser.add_argument("--tag", action="append", default=[], help="tag of the annotations that the tool makes")
    for axis in ("xy", "z", "time"):
        text = f"position on the {axis} axis, counted from 1 (default: %(default)s)"
        parser.add_argument(f"--{axis}", type=int, default=1, metavar="POSITION", help=text)
    parser.add_argument(
        "--channel", default="1", help="name of the channel, or its number counted from 1 (default: %(default)s)"
    )
    add_data_option(parser)
    add_workers_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the tool and return its exit code."""
    if not arguments.list and (arguments.tool is None or arguments.dataset is None):
        raise WorkbenchError("Name a tool and a dataset, or list the tools with --list")
    if min(arguments.xy, arguments.z, arguments.time) < 1:
        raise WorkbenchError("Positions are counted from 1")
    with _sigterm_interrupts() as signals, _server(arguments) as client:
        try:
            if arguments.list:
                for tool in list_tools(client):
                    print(f"{tool.image}\t{tool.name}\t{tool.description}")
                return 0
            code = _run_tool(client, arguments)
        except KeyboardInterrupt:
            return _TERMINATED if signals else CANCELLED_EXIT_CODE
        return _TERMINATED if signals else code


def _run_tool(client: Client, arguments: argparse.Namespace) -> int:
    tool = find_tool(client, arguments.tool)
    dataset = find_dataset(client, arguments.dataset)
    code = wait_for_job(client, client.post("worker_interface/request", image=tool.image)[0], progress=False)
    if code:
        return code
    interface = client.get("worker_interface", image=tool.image)
    if not isinstance(interface, dict):
        raise WorkbenchError(f"{tool.image} says nothing about its fields; it did not store its interface")
    body = {
        "datasetId": dataset.id,
        "image": tool.image,
        "name": tool.name,
        "workerInterface": read_fields(interface, arguments.set, dataset.channels),
        **_place(arguments, dataset),
    }
    print(f"Running {tool.name} on {dataset.name}", file=sys.stderr)
    return wait_for_job(client, client.post("upenn_annotation/compute", body, datasetId=dataset.id)[0])


def _place(arguments: argparse.Namespace, dataset: Dataset) -> dict[str, Any]:
    """Return what the platform sends with a tool beside its fields."""
    position = {"XY": arguments.xy - 1, "Z": arguments.z - 1, "Time": arguments.time - 1}
    return {
        "type": "segmentation",
        "id": secrets.token_hex(16),
        "channel": read_channel(arguments.channel, dataset.channels, place="--channel"),
        "assignment": position,
        "tile": position,
        "tags": arguments.tag,
        "connectTo": {"tags": [], "layer": None, "channel": None},
        "scales": {
            "pixelSize": {"value": dataset.pixel_size_mm or 1, "unit": "mm"},
            "zStep": {"value": 1, "unit": "µm"},
            "tStep": {"value": 1, "unit": "s"},
        },
    }


@contextmanager
def _server(arguments: argparse.Namespace) -> Iterator[Client]:
    """Give a client of the data folder's server; one is started if none is up."""
    from workbench.server.running import running_server, wait_for_server

    with ExitStack() as stack:
        try:
            server = stack.enter_context(
                running_server(
                    arguments.data,
                    host="127.0.0.1",
                    port=0,
                    token=secrets.token_hex(16),
                    workers=worker_folders(arguments),
                )
            )
        except DataFolderError:
            up = wait_for_server(arguments.data)
            if up is None:
                raise
            server = up
        yield Client(server.url, server.token)


@contextmanager
def _sigterm_interrupts() -> Iterator[list[int]]:
    """Make SIGTERM what Ctrl-C is, so that the job is cancelled and the server stopped; gives the signals that came."""
    signals: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield signals
    finally:
        signal.signal(signal.SIGTERM, before)
