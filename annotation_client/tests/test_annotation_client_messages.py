"""The lines that the platform reads from a job's log."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from annotation_client.utils import LineWatcher, sendError, sendProgress, sendWarning


def test_the_lines_are_those_of_the_platform(capsys: pytest.CaptureFixture[str]) -> None:
    sendProgress(0.5, "Segmenting", "1/2")
    sendWarning("Careful")
    sendWarning("Careful", "Title", "info")
    sendError("Broken")
    assert capsys.readouterr().out.splitlines() == [
        '{"progress": 0.5, "title": "Segmenting", "info": "1/2"}',
        '{"warning": "Careful", "title": "Warning", "info": null, "type": "warning"}',
        '{"warning": "Careful", "title": "Title", "info": "info", "type": "warning"}',
        '{"error": "Broken", "title": "Error", "info": null, "type": "error"}',
    ]


@pytest.mark.parametrize("text", ["two\nlines", "Zellkörper 核", 'a "quote"', "\u2028", "carriage\rreturn"])
def test_any_text_stays_on_one_line(capsys: pytest.CaptureFixture[str], text: str) -> None:
    sendError(text, text, text)
    out = capsys.readouterr().out
    assert out.isascii() and out.count("\n") == 1 and "\r" not in out
    assert json.loads(out) == {"error": text, "title": text, "info": text, "type": "error"}


@pytest.mark.parametrize(
    ("progress", "sent"),
    [(1, 1), (0, 0), (np.float32(0.5), 0.5), (np.int64(1), 1), (float("nan"), 0), (float("inf"), 0)],
)
def test_progress_is_a_number_that_a_browser_can_read(
    capsys: pytest.CaptureFixture[str], progress: float, sent: float
) -> None:
    sendProgress(progress, "t", None)
    line = capsys.readouterr().out
    assert json.loads(line) == {"progress": sent, "title": "t", "info": None} and "NaN" not in line


def test_texts_that_are_none_do_not_end_a_job(capsys: pytest.CaptureFixture[str]) -> None:
    sendError(ValueError("x"))  # type: ignore[arg-type]
    assert json.loads(capsys.readouterr().out)["error"] == "x"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_message_starts_on_its_own_line(monkeypatch: pytest.MonkeyPatch, stream: str) -> None:
    log = io.StringIO()  # both streams of a container end in one log
    monkeypatch.setattr(sys, "stdout", LineWatcher(log))
    monkeypatch.setattr(sys, "stderr", LineWatcher(log))
    sendProgress(0, "a", None)
    getattr(sys, stream).write("epoch 1:  10%\r")
    sendProgress(0.1, "b", None)
    sendProgress(0.2, "c", None)
    getattr(sys, stream).write("done\n")
    getattr(sys, stream).write("")
    sendProgress(0.3, "d", None)
    lines = log.getvalue().split("\n")
    assert [json.loads(line)["title"] for line in lines if line.startswith("{")] == ["a", "b", "c", "d"]
    assert "" not in lines[:-1]


def test_a_watched_stream_behaves_like_the_stream() -> None:
    stream = io.StringIO()
    watcher = LineWatcher(stream)
    assert watcher.write("abc") == 3 and not watcher.at_line_start
    assert watcher.isatty() is False and watcher.getvalue() == "abc"
    print("", file=watcher)  # type: ignore[call-overload]
    assert watcher.at_line_start


def test_a_message_is_flushed_at_once() -> None:
    code = "import os; from annotation_client.utils import sendProgress; sendProgress(1, 'a', 'b'); os._exit(0)"
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=buffered)
    assert json.loads(done.stdout)["title"] == "a"


def test_importing_the_package_is_cheap_and_silent() -> None:
    code = (
        "import sys\n"
        "from annotation_client import annotations, pixels, tiles, uploads, utils, workers\n"
        "print([name for name in ('numpy', 'pandas', 'matplotlib') if name in sys.modules])\n"
        "import logging; print(logging.getLogger().handlers)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n[]\n", "")
