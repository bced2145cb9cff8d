"""`workbench run-tool`: with a server that is up and with one of its own, what it shows and returns."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from workbench_test_server import TOKEN, add_worker, is_alive

from workbench.command_line import main
from workbench.command_line.client import Client
from workbench.images.importing import import_dataset
from workbench.server.address import RunningServer
from workbench.server.running import running_server
from workbench.store.jobs import JobStatus
from workbench.store.store import Store

INTERFACE = {
    "Notes": {"type": "notes", "value": "hello", "displayOrder": 0},
    "Min Size": {"type": "number", "default": 15, "displayOrder": 1},
    "Channel": {"type": "channel", "displayOrder": 2},
    "Model": {"type": "select", "items": ["pretrained", "mine"], "default": "pretrained", "noCache": True},
}
STORE_INTERFACE = f"""
import urllib.parse, urllib.request
if request == "interface":
    query = urllib.parse.urlencode({{"image": parameters["image"], "token": token}})
    body = json.dumps({INTERFACE!r}).encode()
    headers = {{"Content-Type": "application/json"}}
    urllib.request.urlopen(urllib.request.Request(f"{{url}}/worker_interface?{{query}}", body, headers)).close()
    sys.exit()
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with one dataset of two channels."""
    path = tmp_path / "cells.ome.tif"
    tifffile.imwrite(
        path,
        np.zeros((2, 16, 16), np.uint16),
        metadata={
            "axes": "CYX",
            "Channel": {"Name": ["DAPI", "GFP"]},
            "PhysicalSizeX": 0.5,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": 0.5,
            "PhysicalSizeYUnit": "µm",
        },
    )
    with closing(Store(tmp_path / "data")) as store:
        import_dataset(store, path, name="cells")
    return tmp_path / "data"


@contextmanager
def served(tmp_path: Path) -> Iterator[tuple[Client, RunningServer]]:
    with running_server(
        tmp_path / "data", host="127.0.0.1", port=0, token=TOKEN, workers=[tmp_path / "workers"]
    ) as server:
        yield Client(server.url, server.token), server


def wait_for(path: Path) -> None:
    """Wait until a worker has written to a file."""
    end = time.monotonic() + 15
    while not path.exists() or not path.read_text():
        assert time.monotonic() < end
        time.sleep(0.05)


def run_tool(tmp_path: Path, *arguments: str) -> int:
    return main(["run-tool", *arguments, "--data", str(tmp_path / "data"), "--workers", str(tmp_path / "workers")])


def test_the_tool_gets_what_the_platform_sends(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = """
open(os.environ["OUT"], "w").write(given["--parameters"])
print(json.dumps({"progress": 0.5, "title": "Finding", "info": "1/2"})); time.sleep(0.6)
print(json.dumps({"warning": "one is small", "title": "Careful", "info": None, "type": "warning"}))
"""
    out = str(tmp_path / "out")
    image = add_worker(tmp_path / "workers", "find_spots", STORE_INTERFACE + code, OUT=out)
    arguments = ["Find_Spots", "cells", "--set", "min size=20", "--set", "Channel=GFP", "--tag", "spot", "--tag", "a b"]
    assert run_tool(tmp_path, *arguments, "--xy", "1", "--z", "2", "--time", "3", "--channel", "GFP") == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == ["Running Find_Spots on cells", " 50%  Finding  1/2", "Careful: one is small"]
    sent: dict[str, Any] = json.loads(Path(out).read_text())
    with closing(Store(data)) as store:
        (dataset,) = store.folders.datasets()
        jobs = store.jobs.list()
    assert re.fullmatch("[0-9a-f]{32}", sent.pop("id"))
    assert sent == {
        "datasetId": dataset["_id"],
        "type": "segmentation",
        "name": "Find_Spots",
        "image": image,
        "channel": 1,
        "assignment": {"XY": 0, "Z": 1, "Time": 2},
        "tile": {"XY": 0, "Z": 1, "Time": 2},
        "tags": ["spot", "a b"],
        "connectTo": {"tags": [], "layer": None, "channel": None},
        "workerInterface": {"Notes": "", "Min Size": 20, "Channel": 1, "Model": "pretrained"},
        "scales": {
            "pixelSize": {"value": 0.0005, "unit": "mm"},
            "zStep": {"value": 1, "unit": "µm"},
            "tStep": {"value": 1, "unit": "s"},
        },
    }
    assert [(job["request"], job["status"]) for job in jobs] == [("compute", 3), ("interface", 3)]
    assert not (data / "server.json").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal")
def test_a_terminal_shows_one_line_with_the_time_left(tmp_path: Path, data: Path) -> None:
    import pty

    code = """
for step in range(1, 8):
    print(json.dumps({"progress": step / 10, "title": "Finding", "info": f"{step}/10"})); time.sleep(0.3)
print(json.dumps({"progress": 0.9, "title": "Saving", "info": "about 3 s left"})); time.sleep(1.2)
print(json.dumps({"error": "no space", "title": "Error", "info": None, "type": "error"}))
sys.exit("end")
"""
    add_worker(tmp_path / "workers", "find", STORE_INTERFACE + code)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "workbench", "run-tool", "find", "cells", "--data", str(data)]
    with subprocess.Popen([*command, "--workers", str(tmp_path / "workers")], stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 2**16):
                shown += piece
        except OSError:  # how Linux says that the other side is closed
            pass
        os.close(ours)
    assert process.returncode == 1
    lines = shown.decode().split("\r")
    assert any(re.fullmatch(r"\x1b\[K [5-8]0%  Finding  [5-8]/10  [1-4] s left", line) for line in lines), lines
    assert "\x1b[K 90%  Saving  about 3 s left" in lines
    kept = re.sub(r"\r\x1b\[K[^\r\n]*", "", shown.decode().replace("\r\n", "\n")).splitlines()
    assert kept[0] == "Running Find on cells" and kept[-2:] == ["end", "workbench: The worker ended with exit code 1."]
    assert "\x1b[KError: no space\r\n" in shown.decode()


def test_the_server_that_is_up_is_used(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = add_worker(tmp_path / "workers", "find", STORE_INTERFACE)
    (tmp_path / "elsewhere").mkdir()
    with served(tmp_path) as (client, _):
        assert main(["run-tool", "find", "cells", "--data", str(data)]) == 0
        assert main(["run-tool", "--list", "--data", str(data)]) == 0
        assert capsys.readouterr().out == f"{image}\tFind\t\n"
        assert [job["image"] for job in client.get("job")] == [image, image]


@pytest.mark.parametrize(("code", "exit_code"), [("print('the reason'); sys.exit(7)", 7), ("time.sleep(1)", 0)])
def test_the_exit_code_is_the_tools(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str], code: str, exit_code: int
) -> None:
    add_worker(tmp_path / "workers", "find", STORE_INTERFACE + code)
    assert run_tool(tmp_path, "find", "cells") == exit_code
    assert ("The tool failed. The end of its log:\nthe reason\n" in capsys.readouterr().err) == bool(exit_code)


def test_an_interface_that_fails_ends_it(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_worker(tmp_path / "workers", "broken", "sys.exit('cannot import x')")
    add_worker(tmp_path / "workers", "silent", "")
    with served(tmp_path) as (client, _):
        assert run_tool(tmp_path, "broken", "cells") == 1
        assert "cannot import x" in capsys.readouterr().err
        assert run_tool(tmp_path, "silent", "cells") == 1
        assert "test/silent:latest says nothing about its fields" in capsys.readouterr().err
        assert {job["request"] for job in client.get("job")} == {"interface"}


def test_what_cannot_be_meant_is_explained(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_worker(tmp_path / "workers", "find_cells", STORE_INTERFACE)
    add_worker(tmp_path / "workers", "find_spots", STORE_INTERFACE)
    with served(tmp_path) as (client, _):

        def complaint(*arguments: str) -> str:
            assert run_tool(tmp_path, *arguments) == 1
            return capsys.readouterr().err

        assert "Name a tool and a dataset" in complaint()
        assert "Name a tool and a dataset" in complaint("find_cells")
        assert "'find' may mean Find_Cells (test/find_cells:latest), Find_Spots" in complaint("find", "cells")
        assert "There is no tool 'x'. The tools are Find_Cells" in complaint("x", "cells")
        assert "There is no dataset 'y'. The datasets are: cells" in complaint("spots", "y")
        assert "Its fields are: Min Size, Channel, Model" in complaint("spots", "cells", "--set", "Max Size=2")
        assert "Possible are: pretrained, mine" in complaint("spots", "cells", "--set", "Model=x")
        assert "--channel: there is no channel '3'" in complaint("spots", "cells", "--channel", "3")
        assert "Positions are counted from 1" in complaint("spots", "cells", "--z", "0")
        user_id = client.get("user/me")["_id"]
        (public,) = client.get("folder", parentType="user", parentId=user_id, name="Public")
        client.post("folder", parentId=public["_id"], name="cells", metadata='{"subtype": "contrastDataset"}')
        assert "Several datasets are called 'cells'" in complaint("spots", "cells")
        assert not [job for job in client.get("job") if job["request"] == "compute"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(
    ("number", "exit_code", "own_server"), [(signal.SIGINT, 130, False), (signal.SIGTERM, 143, True)]
)
def test_a_signal_cancels_the_job(
    tmp_path: Path, data: Path, number: signal.Signals, exit_code: int, own_server: bool
) -> None:
    code = "open(os.environ['OUT'], 'w').write(str(os.getpid()))\ntime.sleep(60)"
    add_worker(tmp_path / "workers", "slow", STORE_INTERFACE + code, OUT=str(tmp_path / "out"))
    command = [sys.executable, "-m", "workbench", "run-tool", "slow", "cells", "--data", str(data)]

    def interrupt() -> None:
        with subprocess.Popen(
            [*command, "--workers", str(tmp_path / "workers")],
            stderr=subprocess.PIPE,
            text=True,
            # Tests that run in the background of a shell ignore Ctrl-C, and so would their children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        ) as process:
            wait_for(tmp_path / "out")
            process.send_signal(number)
            _, stderr = process.communicate(timeout=15)
        assert process.returncode == exit_code, stderr
        assert "Cancelling; the tool gets ten seconds to stop" in stderr and "Traceback" not in stderr
        assert not is_alive(int((tmp_path / "out").read_text()))

    if own_server:
        interrupt()
    else:
        with served(tmp_path):
            interrupt()
    with closing(Store(data)) as store:
        assert store.jobs.list()[0]["status"] == JobStatus.CANCELLED


def test_a_server_that_goes_away_is_an_error(tmp_path: Path, data: Path) -> None:
    code = "open(os.environ['OUT'], 'w').write('x')\ntime.sleep(60)"
    add_worker(tmp_path / "workers", "slow", STORE_INTERFACE + code, OUT=str(tmp_path / "out"))
    workers = ["--data", str(data), "--workers", str(tmp_path / "workers")]
    program = [sys.executable, "-m", "workbench"]
    with subprocess.Popen([*program, "serve", "--port", "0", *workers], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout and server.stdout.readline()
        command = [*program, "run-tool", "slow", "cells", *workers]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            wait_for(tmp_path / "out")
            server.kill()
            server.communicate()
            _, stderr = process.communicate(timeout=15)
    with served(tmp_path):  # which ends what is left of the worker
        pass
    assert process.returncode == 1
    assert re.search("workbench: error: The server at .* does not answer", stderr)
