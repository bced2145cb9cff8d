"""Uploads and downloads when things go wrong: full disks, failing clean-ups, killed workers, odd kinds of files."""

from __future__ import annotations

import errno
import os
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from workbench_http import Http
from workbench_stored_files import partial_files
from workbench_test_server import add_worker, serve

from workbench.errors import RestError
from workbench.store.store import Store


@pytest.fixture
def folder(store: Store) -> str:
    return str(store.folders.create(store.users.user["_id"], "f", parent_type="user")["_id"])


def fail_to_unlink_once(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Make the next removal of a file fail, and give the list that the path goes to."""
    failed: list[Path] = []
    unlink = Path.unlink

    def fail(path: Path, missing_ok: bool = False) -> None:
        if failed:
            unlink(path, missing_ok=missing_ok)
        else:
            failed.append(path)
            raise OSError(errno.EIO, "the disk is old")

    monkeypatch.setattr(Path, "unlink", fail)
    return failed


@pytest.mark.parametrize("size", [0, 3])
def test_a_replacement_stays_when_the_old_bytes_cannot_be_removed(
    served: tuple[Store, Http], monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    _, http = served
    file = http.upload(http.new_folder(), "model", b"old")
    failed = fail_to_unlink_once(monkeypatch)
    answer = http.put(f"file/{file['_id']}/contents", size=size)
    if size:
        answer = http.post("file/chunk", uploadId=answer["_id"], offset=0, data=b"new")
    assert (answer["_id"], answer["size"]) == (file["_id"], size)
    assert len(failed) == 1
    assert http.download(file["_id"]) == b"new"[:size]


def test_what_follows_a_transaction_cannot_undo_it(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    done: list[int] = []
    with store.database.write():
        new = store.folders.create(store.users.user["_id"], "kept", parent_type="user")
        store.database.after_commit(lambda: done.append(1 // 0))
        store.database.after_commit(lambda: done.append(2))
    assert done == [2]
    assert store.folders.load(new["_id"])["name"] == "kept"
    assert "ZeroDivisionError" in caplog.text


def test_a_chunk_that_breaks_off_leaves_no_bytes(store: Store, folder: str) -> None:
    upload = store.uploads.start(parent_type="folder", parent_id=folder, name="a", size=2**22)
    store.uploads.write(upload["_id"], 0, [b"abc"])

    def pieces() -> Iterator[bytes]:
        yield bytes(2**20)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        store.uploads.write(upload["_id"], 3, pieces())
    (partial,) = partial_files(store)
    assert partial.read_bytes() == b"abc"
    assert store.uploads.write(upload["_id"], 3, [b"def"])["received"] == 6


def test_uploads_are_forgotten_with_their_token(store: Store, folder: str) -> None:
    mine, other = (
        store.uploads.start(parent_type="folder", parent_id=folder, name="a", size=4, token=token)
        for token in ("job", "user")
    )
    file = store.uploads.write(other["_id"], 0, [b"1234"])
    replacement = store.uploads.start_replacement(file["_id"], size=4, token="job")
    other = store.uploads.start(parent_type="folder", parent_id=folder, name="b", size=4, token="user")
    begun, go_on = threading.Event(), threading.Event()
    refused: list[str] = []

    def pieces() -> Iterator[bytes]:
        begun.set()
        go_on.wait(10)
        yield b"5678"

    def send() -> None:
        try:
            store.uploads.write(replacement["_id"], 0, pieces())
        except RestError as error:
            refused.append(error.message)

    sender = threading.Thread(target=send)
    sender.start()
    assert begun.wait(10)
    store.uploads.forget_begun_with("job")  # does not wait for the sender
    assert store.uploads.find(mine["_id"]) is store.uploads.find(replacement["_id"]) is None
    assert store.uploads.find(other["_id"]) is not None
    assert len(partial_files(store)) == 2
    go_on.set()
    sender.join()
    assert refused == [f"Invalid upload id ({replacement['_id']})."]
    assert len(partial_files(store)) == 1
    assert store.files.path(file["_id"]).read_bytes() == b"1234"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_the_uploads_of_a_killed_worker_are_forgotten(tmp_path: Path) -> None:
    code = """
import urllib.request
address = f"{url}/file?parentType=folder&parentId={given['--datasetId']}&name=a&size=9&token={token}"
print(urllib.request.urlopen(urllib.request.Request(address, b"abc", method="POST", headers={
    "Content-Type": "application/octet-stream"})).read(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    image = add_worker(tmp_path / "workers", "killed", code)
    with serve(tmp_path) as bench:
        job = bench.run(image)
        assert job["exitCode"] == 137 and '"received":3' in job["log"][0]
        assert not list((bench.data / "files" / ".partial").iterdir())


@pytest.mark.parametrize(
    "kind", ["text", "text/html\r\nX-Other: 1", "text/plain; charset", "a/b;", "t\u00e9xt/plain", "text/plain\n", "/"]
)
def test_kinds_of_files_are_checked(http: Http, kind: str) -> None:
    folder = http.new_folder()
    file = http.upload(folder, "a", b"1")
    into = {"parentType": "folder", "parentId": folder, "name": "b", "size": 1}
    for refused in (
        http.refused("POST", "file", **into, mimeType=kind, data=b"1"),
        http.refused("PUT", f"file/{file['_id']}", mimeType=kind),
    ):
        assert refused == (400, "Invalid value for mimeType. Give a kind of file such as image/tiff.")
    assert http.get("item", folderId=folder, name="b") == []
    assert http.put(f"file/{file['_id']}", mimeType="text/x.y+z; charset=utf-8")["mimeType"].startswith("text/x")


def test_downloads_are_what_they_say(http: Http) -> None:
    file = http.upload(http.new_folder(), "a.html", b"<p>")
    for path in (f"file/{file['_id']}/download", f"item/{file['itemId']}/download"):
        assert http.ask("GET", path).headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
def test_a_new_data_folder_is_private(store: Store) -> None:
    assert stat.S_IMODE(store.data_folder.stat().st_mode) == 0o700
