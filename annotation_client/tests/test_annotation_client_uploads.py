"""Files go up completely or not at all, whatever happens to the connection."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import annotation_client_fixtures as fixtures
import pytest
from file_server import FileServer
from girder_client import HttpError
from scripted_server import CLOSE, RESET_AFTER, RESET_BEFORE, Answer, Request, ScriptedServer, error

from annotation_client import uploads
from annotation_client.errors import UploadError
from annotation_client.uploads import replace_contents, upload_file

CHUNK = 1000
OLD = b"the old contents"
CONTENT = os.urandom(3 * CHUNK + 123)
server, files = fixtures.server, fixtures.files


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "CHUNK_BYTES", CHUNK)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.tar.gz"
    path.write_bytes(CONTENT)
    return path


Upload = Callable[..., dict[str, Any]]


@pytest.fixture(params=["new", "replaced"])
def upload(request: pytest.FixtureRequest, server: ScriptedServer, files: FileServer, source: Path) -> Upload:
    """Uploads the source in one of the two ways."""
    if request.param == "new":
        return lambda **options: upload_file(server.connect(), "folder1", source, name="model.tar.gz", **options)
    file_id = files.add("model.tar.gz", OLD)
    return lambda **options: replace_contents(server.connect(), file_id, source, **options)


def rewrite(path: Path, content: bytes) -> None:
    earlier = path.stat().st_mtime_ns
    path.write_bytes(content)
    os.utime(path, ns=(earlier, earlier + 10**9))  # clocks of file systems are coarse


def contents(files: FileServer) -> list[bytes]:
    return list(files.contents.values())


def before(files: FileServer) -> list[bytes]:
    return [OLD] if files.files else []


def test_a_file_goes_up_in_chunks(files: FileServer, upload: Upload) -> None:
    reports: list[tuple[int, int]] = []
    file = upload(progress=lambda done, total: reports.append((done, total)))
    assert contents(files) == [CONTENT] and file["size"] == len(CONTENT)
    assert reports == [(done, len(CONTENT)) for done in (1000, 2000, 3000, 3123)]
    assert (files.started, files.cancelled, files.pending) == (1, 0, {})


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK])
def test_sizes_at_the_border_of_chunks(files: FileServer, upload: Upload, source: Path, size: int) -> None:
    source.write_bytes(CONTENT[:size])
    assert upload()["size"] == size
    assert contents(files) == [CONTENT[:size]]


@pytest.mark.parametrize("place", [0, 1, 3], ids=["first", "middle", "last"])
@pytest.mark.parametrize("kept", [True, False], ids=["arrived", "lost"])
@pytest.mark.parametrize(
    "fault",
    [Answer(fault=RESET_AFTER), Answer(fault=CLOSE), Answer(status=503), Answer(status=502)],
    ids=lambda a: a.fault or str(a.status),
)
def test_a_fault_in_any_chunk_is_survived(
    server: ScriptedServer, files: FileServer, upload: Upload, place: int, kept: bool, fault: Answer
) -> None:
    def faulty(request: Request) -> Any:
        if kept:
            files.chunk(request)
        return fault

    server.on("POST", "/file/chunk", *[files.chunk] * place, faulty, files.chunk)
    file = upload()
    assert contents(files) == [CONTENT] and file["size"] == len(CONTENT)
    assert files.started == 1 and files.pending == {}
    assert len(server.sent("POST", "/file/chunk")) == (4 if kept else 5)


def test_resets_before_the_request_was_read_are_survived(
    server: ScriptedServer, files: FileServer, upload: Upload
) -> None:
    reset = Answer(fault=RESET_BEFORE)
    server.on("POST", "/file/chunk", reset, files.chunk, reset, reset, files.chunk)
    upload()
    assert contents(files) == [CONTENT] and files.started == 1


@pytest.mark.parametrize("place", [0, 2, 3])
def test_a_chunk_that_arrived_in_part_starts_the_upload_again(
    server: ScriptedServer, files: FileServer, upload: Upload, place: int
) -> None:
    def torn(request: Request) -> Any:
        files.pending[request.query["uploadId"]]["data"] += request.body[:50]
        return Answer(fault=RESET_AFTER)

    server.on("POST", "/file/chunk", *[files.chunk] * place, torn, files.chunk)
    upload()
    assert contents(files) == [CONTENT]
    assert (files.started, files.cancelled, files.pending) == (2, 1, {})


def test_an_upload_that_the_server_forgot_starts_again(
    server: ScriptedServer, files: FileServer, upload: Upload
) -> None:
    def forgetful(request: Request) -> Any:
        files.pending.clear()
        return Answer(fault=RESET_AFTER)

    server.on("POST", "/file/chunk", files.chunk, forgetful, files.chunk)
    upload()
    assert contents(files) == [CONTENT] and files.started == 2


def test_a_server_that_is_slow_to_finish_is_waited_for(
    server: ScriptedServer, files: FileServer, upload: Upload
) -> None:
    """The last chunk has arrived and its answer has not; the server still knows the upload."""
    offsets: list[Any] = [{"offset": len(CONTENT)}, {"offset": len(CONTENT)}, files.offset]

    def last(request: Request) -> Any:
        files.chunk(request)
        return Answer(fault=CLOSE)

    server.on("POST", "/file/chunk", files.chunk, files.chunk, files.chunk, last, files.chunk)
    server.on("GET", "/file/offset", *(Answer(offset) if isinstance(offset, dict) else offset for offset in offsets))
    upload()
    assert contents(files) == [CONTENT] and files.started == 1 and len(server.sent("POST", "/file/chunk")) == 4


def test_a_finished_file_with_other_contents_is_not_taken_for_ours(
    server: ScriptedServer, files: FileServer, upload: Upload
) -> None:
    old_files = len(files.files)

    def overtaken(request: Request) -> Any:
        files.pending.clear()
        if old_files:
            files.put("file0", bytes(len(CONTENT)))
        else:
            files.add("model.tar.gz", bytes(len(CONTENT)))
        return Answer(fault=CLOSE)

    server.on("POST", "/file/chunk", *[files.chunk] * 3, overtaken, files.chunk)
    upload()
    assert contents(files)[-1] == CONTENT and files.started == 2


def test_an_upload_under_a_name_that_exists_finds_its_own_file(
    server: ScriptedServer, files: FileServer, source: Path
) -> None:
    files.add("model.tar.gz", OLD)
    files.add("model.tar.gz.bak", CONTENT)

    def last(request: Request) -> Any:
        files.chunk(request)
        return Answer(fault=CLOSE)

    server.on("POST", "/file/chunk", *[files.chunk] * 3, last)
    file = upload_file(server.connect(), "folder1", source, name="model.tar.gz")
    assert (file["_id"], file["itemName"]) == ("file2", "model.tar.gz (2)")
    assert contents(files) == [OLD, CONTENT, CONTENT]


@pytest.mark.parametrize(
    "fault", [Answer(status=503), Answer(fault=RESET_AFTER)], ids=lambda a: a.fault or str(a.status)
)
def test_an_upload_that_fails_for_good_is_cancelled(
    server: ScriptedServer, files: FileServer, upload: Upload, fault: Answer
) -> None:
    expected = before(files)
    server.on("POST", "/file/chunk", files.chunk, files.chunk, fault)
    with pytest.raises(UploadError, match=r"model\.tar\.gz could not be uploaded.*Nothing was changed"):
        upload()
    assert contents(files) == expected
    assert files.pending == {} and files.cancelled == 1


@pytest.mark.parametrize("status", [400, 401, 403, 413])
def test_an_upload_that_is_refused_is_cancelled_at_once(
    server: ScriptedServer, files: FileServer, upload: Upload, status: int
) -> None:
    expected = before(files)
    server.on("POST", "/file/chunk", files.chunk, error(status, "no"))
    with pytest.raises(HttpError):
        upload()
    assert contents(files) == expected and files.pending == {} and len(server.sent("POST", "/file/chunk")) == 2


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, RuntimeError, GeneratorExit])
def test_whatever_interrupts_an_upload_cancels_it(files: FileServer, upload: Upload, interruption: type) -> None:
    expected = before(files)

    def stop(done: int, total: int) -> None:
        if done == 2000:
            raise interruption

    with pytest.raises(interruption):
        upload(progress=stop)
    assert contents(files) == expected
    assert files.pending == {} and files.cancelled == 1


def test_cancelling_does_not_wait_for_a_server_that_is_gone(
    server: ScriptedServer, files: FileServer, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "_CANCEL_TIMEOUT_S", (0.2, 0.2))

    def stop(done: int, total: int) -> None:
        server.on("DELETE", "/file/upload/upload1", Answer(None, wait_s=20))
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        upload(progress=stop)
    assert time.monotonic() - started < 5
    assert len(server.sent("DELETE", "/file/upload/upload1")) == 1


@pytest.mark.parametrize(
    "change", [b"", CONTENT[:2500], CONTENT + b"more", bytes(len(CONTENT))], ids=["empty", "shorter", "longer", "other"]
)
def test_a_file_that_changes_meanwhile_is_not_uploaded(
    files: FileServer, upload: Upload, source: Path, change: bytes
) -> None:
    expected = before(files)
    with pytest.raises(UploadError, match="changed while"):
        upload(progress=lambda done, total: rewrite(source, change))
    assert contents(files) == expected and files.pending == {}


def test_a_last_answer_that_is_no_file_is_an_error(server: ScriptedServer, files: FileServer, upload: Upload) -> None:
    server.on("POST", "/file/chunk", Answer({"_id": "upload1", "size": len(CONTENT)}))
    with pytest.raises(UploadError, match="did not say that it has the whole file"):
        upload()


def test_a_start_that_broke_off_is_repeated(server: ScriptedServer, files: FileServer, source: Path) -> None:
    server.on("POST", "/file", Answer(fault=RESET_AFTER), Answer(status=503), files.start_new)
    upload_file(server.connect(), "folder1", source, name="a b&c.tar.gz")
    assert contents(files) == [CONTENT] and files.files["file0"]["name"] == "a b&c.tar.gz"


WORKER = """
import signal, sys
from pathlib import Path
from annotation_client import uploads
from annotation_client.connection import Connection

class Stopped(BaseException):
    pass

def stop(number, frame):
    raise Stopped

signal.signal(signal.SIGTERM, stop)
uploads.CHUNK_BYTES = 1000
try:
    uploads.replace_contents(Connection(sys.argv[1], "t"), "file0", Path(sys.argv[2]))
except Stopped:
    sys.exit(143)
"""


def test_a_process_that_is_told_to_stop_in_mid_request_cancels_its_upload(
    server: ScriptedServer, files: FileServer, source: Path
) -> None:
    files.add("model.tar.gz", OLD)

    def slow(request: Request) -> Any:
        answer = files.chunk(request)
        return Answer(answer, wait_s=20 if int(request.query["offset"]) else 0)

    server.on("POST", "/file/chunk", slow)
    process = subprocess.Popen([sys.executable, "-c", WORKER, server.url, str(source)])
    while len(server.sent("POST", "/file/chunk")) < 2:
        time.sleep(0.01)
    time.sleep(0.05)
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 143
    assert time.monotonic() - started < 5
    assert files.pending == {} and contents(files) == [OLD]
