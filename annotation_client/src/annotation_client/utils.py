"""Messages of a worker to the person who started it: one JSON object per line of standard output.

NimbusImage reads them from the job's log, in which standard output and standard error arrive as one stream.
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any, TextIO


class LineWatcher:
    """Passes text on to a stream and knows whether the stream's last line is finished.

    A message must start on its own line. Where both streams of a process end in one log, wrap them
    (`sys.stderr = LineWatcher(sys.stderr)`): a message then starts with a newline if something, such as a progress bar,
    left its line open.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.at_line_start = True

    def write(self, text: str) -> int:
        if text:
            self.at_line_start = text.endswith("\n")
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def sendProgress(progress: float, title: str, info: str | None) -> None:
    """Show how far the work is.

    Args:
        progress: fraction from 0 to 1; 0 shows a bar that only says that something happens.
        title: what is being done, shown in bold.
        info: details.
    """
    if not isinstance(progress, int):
        progress = float(progress)
        progress = progress if math.isfinite(progress) else 0.0
    _send({"progress": progress, "title": title, "info": info})


def sendWarning(warning: str, title: str = "Warning", info: str | None = None) -> None:
    """Show a warning that stays visible; the work goes on."""
    _send({"warning": warning, "title": title, "info": info, "type": "warning"})


def sendError(error: str, title: str = "Error", info: str | None = None) -> None:
    """Show an error that stays visible. The job counts as failed only if the worker also exits with a non-zero code."""
    _send({"error": error, "title": title, "info": info, "type": "error"})


def _send(message: dict[str, Any]) -> None:
    line = json.dumps(message, default=str) + "\n"
    if not all(getattr(stream, "at_line_start", True) for stream in (sys.stdout, sys.stderr)):
        line = "\n" + line
    sys.stdout.write(line)  # in one piece, so that nothing of another thread gets in between
    sys.stdout.flush()
    if isinstance(sys.stderr, LineWatcher):
        sys.stderr.at_line_start = True
