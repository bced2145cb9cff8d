"""Files come down completely or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import annotation_client_fixtures as fixtures
import pytest
from file_server import FileServer
from girder_client import HttpError
from scripted_server import Answer, ScriptedServer

from annotation_client.errors import DownloadError
from annotation_client.uploads import download_file

CONTENT = os.urandom(3123)
server, files = fixtures.server, fixtures.files


@pytest.mark.parametrize("size", [0, 1, 3123])
def test_a_file_comes_down(server: ScriptedServer, files: FileServer, tmp_path: Path, size: int) -> None:
    file_id = files.add("model", CONTENT[:size])
    reports: list[tuple[int, int]] = []
    file = download_file(
        server.connect(), file_id, tmp_path / "x", max_bytes=3123, progress=lambda *report: reports.append(report)
    )
    assert (tmp_path / "x").read_bytes() == CONTENT[:size]
    assert file["name"] == "model" and reports[-1:] == ([(size, size)] if size else [])


def test_a_download_that_breaks_off_is_begun_again(server: ScriptedServer, files: FileServer, tmp_path: Path) -> None:
    file_id = files.add("model", CONTENT)
    broken = [Answer(CONTENT, cut=100), Answer(CONTENT[:50]), Answer(CONTENT + b"x"), Answer(status=503)]
    server.on("GET", f"/file/{file_id}/download", *broken, Answer(CONTENT))
    download_file(server.connect(), file_id, tmp_path / "x", max_bytes=10**6)
    assert (tmp_path / "x").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "answer", [Answer(CONTENT, cut=1), Answer(CONTENT[:-1]), Answer(CONTENT + b"x")], ids=["cut", "short", "long"]
)
def test_a_download_that_never_is_complete_leaves_nothing(
    server: ScriptedServer, files: FileServer, tmp_path: Path, answer: Answer
) -> None:
    file_id = files.add("model", CONTENT)
    server.on("GET", f"/file/{file_id}/download", answer)
    with pytest.raises(DownloadError, match="model could not be downloaded"):
        download_file(server.connect(), file_id, tmp_path / "x", max_bytes=10**6)
    assert list(tmp_path.iterdir()) == []


def test_no_more_is_written_than_the_file_has(server: ScriptedServer, files: FileServer, tmp_path: Path) -> None:
    file_id = files.add("model", CONTENT)
    server.on("GET", f"/file/{file_id}/download", Answer(bytes(5 * 2**20)))
    reports: list[int] = []
    with pytest.raises(DownloadError):
        download_file(
            server.connect(),
            file_id,
            tmp_path / "x",
            max_bytes=10**6,
            progress=lambda done, total: reports.append(done),
        )
    assert reports == []


def test_a_file_that_is_too_large_is_not_even_asked_for(
    server: ScriptedServer, files: FileServer, tmp_path: Path
) -> None:
    file_id = files.add("model", CONTENT)
    with pytest.raises(DownloadError, match="at most"):
        download_file(server.connect(), file_id, tmp_path / "x", max_bytes=len(CONTENT) - 1)
    assert server.sent("GET", f"/file/{file_id}/download") == [] and list(tmp_path.iterdir()) == []


def test_a_download_that_is_interrupted_leaves_nothing(
    server: ScriptedServer, files: FileServer, tmp_path: Path
) -> None:
    file_id = files.add("model", CONTENT)

    def stop(done: int, total: int) -> None:
        assert (tmp_path / "x").exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download_file(server.connect(), file_id, tmp_path / "x", max_bytes=10**6, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_the_servers_error(server: ScriptedServer, tmp_path: Path) -> None:
    with pytest.raises(HttpError):
        download_file(server.connect(), "file9", tmp_path / "x", max_bytes=1)
    assert list(tmp_path.iterdir()) == []
