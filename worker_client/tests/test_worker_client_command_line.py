"""The command line through real processes: what the platform sees of success and of every kind of failure."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from worker_client_platform import Platform
from worker_client_processes import DATASET, IMAGE, NOWHERE, TOKEN, run, start, write_worker

ECHO = """
    def compute(datasetId, apiUrl, token, params):
        print([datasetId, apiUrl, token, params])
    """


def raising(statement: str) -> str:
    """A compute function with one statement."""
    return f"""
    def compute(datasetId, apiUrl, token, params):
        {statement}
    """


def test_compute_gets_what_the_platform_sends(tmp_path: Path) -> None:
    parameters = {"image": IMAGE, "name": "Größe", "workerInterface": {"Batch XY": "1-3"}}
    code, output = run(write_worker(tmp_path, ECHO), parameters=parameters)
    assert code == 0
    assert output.log == f"{[DATASET, NOWHERE, TOKEN, parameters]}\n"


def test_interface_gets_the_image(tmp_path: Path) -> None:
    code, output = run(write_worker(tmp_path, ECHO), request="interface")
    assert (code, output.log) == (0, f"interface of {IMAGE}\n")


def test_help_describes_the_worker(tmp_path: Path) -> None:
    script = write_worker(tmp_path, ECHO)
    done = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, check=True)
    assert "A trial worker." in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--parameters", "{"], "not valid JSON"),
        (["--parameters", "[1]"], "must be a JSON object, not list"),
        (["--request", "preview"], "no preview"),
        (["--request", "paint"], "invalid choice: 'paint'"),
        (["--request", "interface"], "do not name its image"),
        (["--datasetId", ""], "without a dataset"),
        (["--color", "red"], "unrecognized arguments: --color red"),
    ],
)
def test_wrong_command_line(arguments: list[str], text: str, tmp_path: Path) -> None:
    # The last of two values of an option counts.
    right = ["--apiUrl", "u", "--token", TOKEN, "--request", "compute", "--parameters", "{}", "--datasetId", DATASET]
    command = [sys.executable, str(write_worker(tmp_path, ECHO)), *right, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    [line] = done.stdout.splitlines()
    assert text in json.loads(line)["error"]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "raise WorkerError('Draw a region.', title='No region', info='looked for the tag a')",
            {"error": "Draw a region.", "title": "No region", "info": "looked for the tag a"},
        ),
        ("raise WorkerError('Draw\\na\\tregion.')", {"error": "Draw a region.", "title": "The tool cannot continue"}),
        (
            "class CondensateNetError(Exception): pass\n"
            "        class InvalidImageError(CondensateNetError, ValueError): pass\n"
            "        raise InvalidImageError('The image is empty.')",
            {"error": "The image is empty.", "title": "The tool cannot continue"},
        ),
        (
            "from annotation_utilities.errors import BatchRangeError\n"
            "        raise BatchRangeError('Batch Z', 'there is no 9.')",
            {"error": "Batch Z: there is no 9.", "title": "Please check Batch Z"},
        ),
        (
            "from annotation_client.errors import DatasetError; raise DatasetError('No image.')",
            {"error": "No image.", "title": "The tool cannot continue"},
        ),
        ("import numpy; numpy.empty(2**50)", {"title": "Out of memory"}),
        ("import errno; raise OSError(errno.ENOSPC, 'No space left on device')", {"title": "Disk full"}),
        (
            "{}['Model']",
            {
                "error": "Unexpected problem: KeyError: 'Model'. Please report it together with the log of this job.",
                "title": "Unexpected problem",
                "info": None,
            },
        ),
        ("assert False, 'x' * 5000", {"title": "Unexpected problem"}),
        ("raise KeyboardInterrupt", {"title": "Unexpected problem"}),
        ("sys.exit('no weights')", {"error": "The tool ended early: no weights"}),
        ("sys.exit(3)", {"error": "The tool ended early: 3"}),
    ],
)
def test_failure(statement: str, expected: dict[str, Any], tmp_path: Path) -> None:
    code, output = run(write_worker(tmp_path, raising(statement)))
    assert code == 1
    [message] = output
    assert {name: message[name] for name in expected} == expected
    assert message["type"] == "error"
    assert len(message["error"]) <= 1000
    assert "Traceback (most recent call last)" in output.log
    assert output.log.endswith(json.dumps(message) + "\n")


def test_an_early_exit_without_a_code_is_success(tmp_path: Path) -> None:
    code, output = run(write_worker(tmp_path, raising("print('done'); sys.exit()")))
    assert (code, output.log) == (0, "done\n")


def test_the_token_is_nowhere_in_the_output(tmp_path: Path) -> None:
    statement = "raise WorkerError('cannot read ' + apiUrl + '?token=' + token, info='sent ' + token)"
    code, output = run(write_worker(tmp_path, raising(statement)))
    assert code == 1
    assert TOKEN not in output.log
    assert output[0]["error"].endswith("?token=<token>")
    assert output[0]["info"] == "sent <token>"
    assert output.log.count("<token>") == 3


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_messages_start_on_a_line_of_their_own(stream: str, tmp_path: Path) -> None:
    body = f"""
    def compute(datasetId, apiUrl, token, params):
        progress = Progress("Working")
        for number in range(3):
            print("\\r 10%|###", end="", file=sys.{stream}, flush=True)
            progress(1, str(number))
        print("\\r 10%|###", end="", file=sys.{stream}, flush=True)
        raise WorkerError("It failed.")
    """
    code, output = run(write_worker(tmp_path, body))
    assert code == 1
    assert [message["info"] for message in output.of_kind("progress")] == ["0", "1", "2"]
    assert len(output.of_kind("error")) == 1


def test_what_is_printed_arrives_at_once(tmp_path: Path) -> None:
    script = write_worker(tmp_path, raising("print('hello'); sys.stdin.read()"))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = start(script, stdin=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], 10)
    assert readable
    assert process.stdout.readline() == "hello\n"
    process.communicate()
    assert process.returncode == 0


def test_a_reader_that_has_gone_does_not_turn_failure_into_success(tmp_path: Path) -> None:
    script = write_worker(tmp_path, raising("sys.stdin.read(); raise WorkerError('It failed.')"))
    process = start(script, stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.close()
    process.stdin.close()
    assert process.wait(timeout=10) not in (0, None)


@pytest.mark.parametrize(
    ("status", "text"),
    [(401, "session has ended"), (403, "does not allow"), (500, "problem of its own"), (400, "refuses the request")],
)
def test_the_server_refuses(status: int, text: str, tmp_path: Path) -> None:
    body = """
    from annotation_client.connection import connect
    def compute(datasetId, apiUrl, token, params):
        connect(apiUrl, token).get(f"folder/{datasetId}")
    """
    with Platform() as platform:
        platform.refusals["/folder/"] = status
        code, output = run(write_worker(tmp_path, body), url=platform.url)
    assert code == 1
    [message] = output
    assert text in message["error"]
    assert message["title"] == "Problem with the server"
    assert f"GET {platform.url}/folder/{DATASET}" in message["info"]
    assert str(status) in message["info"]
    assert TOKEN not in output.log


def test_the_server_is_gone(tmp_path: Path) -> None:
    body = """
    from annotation_client.connection import Connection
    def compute(datasetId, apiUrl, token, params):
        Connection(apiUrl, token, retry_delays_s=()).get(f"folder/{datasetId}")
    """
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/api/v1"
        code, output = run(write_worker(tmp_path, body), url=url)
    assert code == 1
    [message] = output
    assert "cannot be reached" in message["error"]
    assert message["title"] == "Problem with the server"


def test_temporary_files_of_a_failed_worker_are_removed(tmp_path: Path) -> None:
    body = """
    import os, subprocess, tempfile
    def compute(datasetId, apiUrl, token, params):
        path = tempfile.mkdtemp()
        open(os.path.join(path, "file"), "w").close()
        child = subprocess.check_output([sys.executable, "-c", "import tempfile; print(tempfile.mkstemp()[1])"])
        print(path, child.decode().strip(), sep="\\n")
        raise WorkerError("It failed.")
    """
    _, output = run(write_worker(tmp_path, body))
    paths = [Path(line) for line in output.log.splitlines()[:2]]
    assert paths[0].parent == paths[1].parent
    assert paths[0].parent.name.startswith("worker_")
    assert not paths[0].parent.exists()
