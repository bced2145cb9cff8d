"""A server and an import that another program starts as processes."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from workbench_test_server import add_worker

from workbench.command_line.client import Client
from workbench.errors import WorkbenchError
from workbench.server.address import read_address, write_address
from workbench.server_process import import_files, started_server


def test_it_serves_what_is_imported_and_ends(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "cells.tif", np.zeros((8, 8), np.uint8))
    image = add_worker(tmp_path / "tools", "spots", "")
    data = tmp_path / "data"
    with started_server(data, workers=[tmp_path / "tools"]) as server:
        assert read_address(data) == server
        assert server.api_url == f"{server.url}/api/v1"
        assert image in Client(server.url, server.token).get("worker_interface/available")
        dataset_id = import_files(data, [tmp_path / "cells.tif"], name="my cells")
        assert Client(server.url, server.token).get(f"folder/{dataset_id}")["name"] == "my cells"
    assert read_address(data) is None
    with pytest.raises(WorkbenchError, match="does not answer"):
        Client(server.url, server.token).get("user/me")


def test_the_address_of_a_killed_server_is_not_taken_for_its_own(tmp_path: Path) -> None:
    with started_server(tmp_path) as first:
        pass
    write_address(tmp_path, first)
    with started_server(tmp_path) as second:
        assert second.pid != first.pid
        assert Client(second.url, second.token).get("user/me")["login"] == "user"


def test_it_says_that_it_did_not_start(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(WorkbenchError, match="did not start"), started_server(tmp_path, port=port):
            pytest.fail("there is no server")
        assert time.monotonic() - began < 15  # it does not wait for a process that has ended
    assert f"Port {port} is taken" in capfd.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_an_end_that_is_no_good_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="exit code -9"), started_server(tmp_path) as server:
        os.kill(server.pid, signal.SIGKILL)


def test_files_that_cannot_be_imported(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(WorkbenchError, match="cells could not be imported"):
        import_files(tmp_path, [tmp_path / "nothing.tif"], name="cells")
    assert "nothing.tif" in capfd.readouterr().err
