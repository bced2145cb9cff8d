"""The command line by which the platform starts a worker.

The platform starts every worker as

    entrypoint.py --apiUrl URL --token TOKEN --request interface|compute --parameters JSON [--datasetId ID]

reads lines of JSON from its output, and takes exit code 0 for success.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn, TextIO, cast

from worker_client.errors import Stopped, WorkerError
from worker_client.failures import describe
from worker_client.stopping import StopRequest


def run_worker(
    *,
    interface: Callable[[str, str, str], object],
    compute: Callable[[str, str, str, dict[str, Any]], object],
    description: str | None,
) -> int:
    """Do what the command line asks for; the last thing that a worker's process does.

    >>> sys.exit(run_worker(interface=interface, compute=compute, description=__doc__))  # doctest: +SKIP

    Whatever `interface` or `compute` raise becomes one error line for the user, with the traceback on stderr. On
    SIGTERM or SIGINT they are interrupted by `Stopped`, wherever they are, and the process ends within 10 s.
    Temporary files of `compute` are removed in every case.

    Args:
        interface: called with (image, apiUrl, token) to send the fields of the tool to the server.
        compute: called with (datasetId, apiUrl, token, params) to do the work; `params` is --parameters, parsed.
        description: of the tool, for --help.

    Returns:
        The exit code: 0 after success, 1 after an error, 143 (SIGTERM) or 130 (SIGINT) after a stop.
    """
    stop = StopRequest()
    token: str | None = None
    error: BaseException | None = None
    try:
        try:
            stop.listen()
            _prepare_output()
            arguments = _parse(description)
            token = arguments.token
            params = _read_parameters(arguments.parameters)
            if arguments.request == "interface":
                interface(_image_name(params), arguments.apiUrl, arguments.token)
            elif arguments.datasetId:
                stop.use_temporary_folder()
                compute(arguments.datasetId, arguments.apiUrl, arguments.token, params)
            else:
                raise WorkerError(
                    "The tool was started without a dataset (--datasetId). Open a dataset and run it again."
                )
        finally:
            stop.settle()
    except BaseException as caught:
        error = caught
    stop.remove_temporary_folder()
    return _conclude(error, stop, token)


def _prepare_output() -> None:
    from annotation_client.utils import LineWatcher

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what is printed must be seen while the work goes on
    # Messages to the platform start on a line of their own, even after a progress bar.
    sys.stdout, sys.stderr = cast(TextIO, LineWatcher(sys.stdout)), cast(TextIO, LineWatcher(sys.stderr))


def _conclude(error: BaseException | None, stop: StopRequest, token: str | None) -> int:
    was_stopped = stop.signal is not None
    if isinstance(error, SystemExit) and error.code in (0, None):
        error = None
    if error is not None and not isinstance(error, Stopped):
        _print_traceback(error, token)
    # A reader of the output that has gone must not change the exit code.
    with contextlib.suppress(OSError):
        if was_stopped:
            sys.stdout.flush()
            stop.announce()
        elif error is not None:
            _send_error(error, token)
    if was_stopped:
        return stop.exit_code
    return 0 if error is None else 1


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        raise WorkerError(f"The tool was started with a wrong command line: {message}")


def _parse(description: str | None) -> argparse.Namespace:
    parser = _Parser(description=description, allow_abbrev=False)
    parser.add_argument("--apiUrl", required=True, metavar="URL", help="address of the server, ending in /api/v1")
    parser.add_argument("--token", required=True, help="the user's session on that server")
    parser.add_argument("--request", required=True, choices=("interface", "preview", "compute"), help="what to do")
    parser.add_argument("--parameters", required=True, metavar="JSON", help="an object: the image's name or the tool")
    parser.add_argument("--datasetId", metavar="ID", help="the dataset to work on")
    arguments = parser.parse_args()
    if arguments.request == "preview":
        raise WorkerError("This tool has no preview. Try it on one position of the dataset instead.")
    return arguments


def _read_parameters(text: str) -> dict[str, Any]:
    try:
        params = json.loads(text)
    except ValueError as error:
        raise WorkerError(f"The parameters of the tool are not valid JSON: {error}.") from None
    if not isinstance(params, dict):
        raise WorkerError(f"The parameters of the tool must be a JSON object, not {type(params).__name__}.")
    return params


def _image_name(params: dict[str, Any]) -> str:
    image = params.get("image")
    if not isinstance(image, str) or not image:
        raise WorkerError("The tool's parameters do not name its image, so that its fields cannot be stored.")
    return image


def _print_traceback(error: BaseException, token: str | None) -> None:
    text = "".join(["\n", *traceback.format_exception(error)])
    with contextlib.suppress(OSError):
        print(_redact(text, token), end="", file=sys.stderr, flush=True)


def _send_error(error: BaseException, token: str | None) -> None:
    from annotation_client.utils import sendError

    failure = describe(error)
    info = None if failure.info is None else _redact(failure.info, token)
    sendError(_redact(failure.text, token), title=failure.title, info=info)


def _redact(text: str, token: str | None) -> str:
    return text.replace(token, "<token>") if token else text
