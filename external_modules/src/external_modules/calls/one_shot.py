"""A worker for each call, whose arguments and result are files in a folder."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from external_modules.calls.call_parts import NotedCall, pack_arguments, seconds_of, temporary_folder
from external_modules.calls.connection import AbortQuestion, Limits, ProgressCallback, WorkerConnection, WorkerProgram
from external_modules.calls.messages import REQUEST_FILE, RESULT_FILE
from external_modules.calls.shared_arrays import ArrayExchange
from external_modules.calls.worker_log import LogFile
from external_modules.errors import ExternalModuleError

README_FILE = "README.txt"


class OneShotCall:
    """Starts a worker for each call; arguments and result are files in a folder, which can be kept.

    Args:
        program: what to start.
        log: of the module.
    """

    def __init__(self, program: WorkerProgram, log: LogFile) -> None:
        self.program = program
        self._log = log
        self._closing = threading.Event()

    def call(
        self,
        arguments: Mapping[str, Any],
        *,
        timeout: float | None,
        progress: ProgressCallback | None = None,
        should_abort: AbortQuestion | None = None,
        keep_folder: Path | None = None,
    ) -> Any:
        """Call the worker's function, see `ExternalModule.call`.

        Args:
            arguments: of the function.
            timeout: seconds, from its start on.
            progress: gets fraction and text.
            should_abort: whether to give up.
            keep_folder: where the files of the call stay; a call that was kept there before is replaced.
        """
        limits = Limits(timeout, should_abort, self._closing)
        folder = temporary_folder() if keep_folder is None else _empty_folder(keep_folder)
        try:
            return self._call(arguments, folder, limits, progress, remove_folder=keep_folder is None)
        finally:
            if keep_folder is None:
                shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Abort the calls that are being computed."""
        closing, self._closing = self._closing, threading.Event()
        closing.set()

    def _call(
        self,
        arguments: Mapping[str, Any],
        folder: Path,
        limits: Limits,
        progress: ProgressCallback | None,
        *,
        remove_folder: bool,
    ) -> Any:
        exchange = ArrayExchange(None, None, folder, "argument", keep_files=True)
        request = pack_arguments(exchange, arguments)
        try:
            (folder / REQUEST_FILE).write_text(json.dumps(request, indent=1), encoding="utf-8")
            (folder / README_FILE).write_text(_readme(self.program, folder), encoding="utf-8")
        except OSError as error:
            raise ExternalModuleError(f"The call cannot be written to {folder}: {error}") from error
        connection = WorkerConnection(
            self.program, folder, ["--host", "one-shot"], self._log, remove_folder=remove_folder
        )
        try:
            with NotedCall(connection, 1) as computed:
                connection.wait_until_ready(limits)
                computed.append(seconds_of(connection.converse(1, limits, progress), connection))
                answer = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
                return exchange.unpack(answer)
        finally:
            connection.leave()


def _empty_folder(folder: Path) -> Path:
    """Return a folder for a call, made if need be and without an earlier call's files.

    Raises:
        ExternalModuleError: it holds something else, or cannot be made.
    """
    folder = folder.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        present = [path.name for path in folder.iterdir()]
        if present and REQUEST_FILE not in present:
            raise ExternalModuleError(f"{folder} is not empty; name a folder of its own for the call to keep")
        for name in present:
            if name in (REQUEST_FILE, RESULT_FILE, README_FILE) or re.fullmatch(r"(argument|result)-.*\.npy", name):
                (folder / name).unlink()
    except OSError as error:
        raise ExternalModuleError(f"The call cannot be kept in {folder}: {error}") from error
    return folder


def _readme(program: WorkerProgram, folder: Path) -> str:
    command = program.command(folder)
    line = subprocess.list2cmdline(command) if sys.platform == "win32" else shlex.join(command)
    return (
        f"One call of {program}: {REQUEST_FILE} holds its arguments, whose arrays are the files argument-*.npy;\n"
        f"{RESULT_FILE} and result-*.npy are what came of it. To compute it again, in a terminal:\n\n    {line}\n"
    )
