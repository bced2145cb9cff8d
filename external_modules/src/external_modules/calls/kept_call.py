"""The folder of a call that somebody wants to look at, or to compute again by hand."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

from external_modules.calls.connection import WorkerProgram
from external_modules.calls.messages import REQUEST_FILE, RESULT_FILE, Message
from external_modules.errors import ExternalModuleError

README_FILE = "README.txt"
_FILES_OF_ARRAYS = re.compile(r"(argument|result)-.*\.npy")


class KeptCall:
    """Holds one call: request.json, result.json, their arrays as .npy files, and how to compute it again.

    Args:
        folder: is made if need be; a call that was kept there before is removed.

    Raises:
        ExternalModuleError: the folder holds something else, or cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            present = [path.name for path in self.folder.iterdir()]
            if present and REQUEST_FILE not in present:
                raise ExternalModuleError(f"{self.folder} is not empty; name a folder of its own for the call to keep")
            (self.folder / REQUEST_FILE).write_bytes(b"")  # first of all: the folder is this class's, whatever happens
            for name in present:
                if name in (RESULT_FILE, README_FILE) or _FILES_OF_ARRAYS.fullmatch(name):
                    (self.folder / name).unlink()
        except OSError as error:
            raise self._failure(error) from error

    def write_request(self, program: WorkerProgram, request: Message) -> None:
        """Write what the worker is asked, whose arrays are there already.

        Raises:
            ExternalModuleError: it cannot be written.
        """
        self._write(REQUEST_FILE, json.dumps(request, indent=1))
        command = program.command(self.folder)
        line = subprocess.list2cmdline(command) if sys.platform == "win32" else shlex.join(command)
        self._write(
            README_FILE,
            f"One call of {program}: {REQUEST_FILE} holds its arguments, whose arrays are the files argument-*.npy;\n"
            f"{RESULT_FILE} and result-*.npy are what came of it. To compute it again, in a terminal:\n\n    {line}\n",
        )

    def write_result(self, answer: Message) -> None:
        """Write what the worker answered, whose arrays are there already.

        Raises:
            ExternalModuleError: it cannot be written.
        """
        self._write(RESULT_FILE, json.dumps(answer, indent=1))

    def _write(self, name: str, text: str) -> None:
        try:
            (self.folder / name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> ExternalModuleError:
        return ExternalModuleError(f"The call cannot be kept in {self.folder}: {error}")
