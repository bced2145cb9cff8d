"""Downloads with ranges, and files that are renamed, deleted or lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests
from workbench_http import TOKEN, Http
from workbench_stored_files import content_files, known_contents

from workbench.store.store import Store


@pytest.mark.parametrize(
    ("header", "status", "expected"),
    [
        ("bytes=0-3", 206, b"0123"),
        ("bytes=2-", 206, b"23456789"),
        ("bytes=-3", 206, b"789"),
        ("bytes=0-99", 206, b"0123456789"),
        ("bytes=-99", 206, b"0123456789"),
        ("bytes=9-9", 206, b"9"),
        ("bytes=10-", 416, b""),
        ("bytes=-0", 416, b""),
        ("bytes=5-2", 200, b"0123456789"),
        ("bytes=0-1,4-5", 200, b"0123456789"),
        ("bytes=-", 200, b"0123456789"),
        ("bytes=" + "9" * 5000 + "-", 200, b"0123456789"),
        ("lines=0-3", 200, b"0123456789"),
    ],
)
def test_download_of_a_range(http: Http, folder: str, header: str, status: int, expected: bytes) -> None:
    file = http.upload(folder, "digits", b"0123456789")
    for path in (f"file/{file['_id']}/download", f"item/{file['itemId']}/download"):
        response = http.ask("GET", path, headers={"Range": header})
        assert (response.status_code, response.content) == (status, expected)
        assert response.headers["Content-Length"] == str(len(expected))
        if status == 206:
            first = b"0123456789".index(expected)
            assert response.headers["Content-Range"] == f"bytes {first}-{first + len(expected) - 1}/10"
        elif status == 416:
            assert response.headers["Content-Range"] == "bytes */10"


def test_download_with_offset_parameters(http: Http, folder: str) -> None:
    file = http.upload(folder, "digits", b"0123456789")
    path = f"file/{file['_id']}/download"
    response = http.ask("GET", path, offset=4, endByte=6)
    assert (response.status_code, response.content) == (206, b"45")
    assert http.ask("GET", path, offset=0, endByte=10).status_code == 200
    assert http.ask("GET", path, offset=-1).status_code == 416
    assert http.ask("GET", path, offset=10).status_code == 416
    assert http.ask("GET", f"{path}/any name", headers={"Range": "bytes=0-0"}).content == b"0"


def test_download_headers(http: Http, folder: str) -> None:
    name = 'a "b" \u00e9\u4e2d/c;d.bin'
    file = http.post(
        "file", parentType="folder", parentId=folder, name=name, size=3, mimeType="image/tiff", data=b"abc"
    )
    response = http.ask("GET", f"file/{file['_id']}/download")
    assert response.headers["Content-Length"] == "3"
    assert response.headers["Content-Type"] == "image/tiff"
    assert response.headers["Content-Disposition"] == (
        "attachment; filename*=UTF-8''a%20%22b%22%20%C3%A9%E4%B8%AD%2Fc%3Bd.bin"
    )
    head = http.ask("HEAD", f"file/{file['_id']}/download")
    assert (head.headers["Content-Length"], head.content) == ("3", b"")


def test_an_open_download_keeps_the_bytes_it_began_with(http: Http, folder: str) -> None:
    content = bytes(30_000_000)
    file = http.upload(folder, "big", content)
    client = Http(http.port)
    with client.session, client.ask("GET", f"file/{file['_id']}/download", stream=True) as response:
        first = response.raw.read(1)
        http.delete(f"item/{file['itemId']}")
        assert first + response.raw.read() == content
    assert http.refused("GET", f"file/{file['_id']}/download")[0] == 400


def test_a_client_that_goes_away_leaves_no_file_open(served: tuple[Store, Http], folder: str) -> None:
    _, http = served
    file = http.upload(folder, "big", bytes(30_000_000))
    for _ in range(3):
        with requests.get(
            f"{http.url}file/{file['_id']}/download", headers={"Girder-Token": TOKEN}, stream=True, timeout=10
        ) as response:
            response.raw.read(1)
    assert http.get(f"file/{file['_id']}")["size"] == 30_000_000


def test_names_of_files_change(http: Http, folder: str) -> None:
    file = http.upload(folder, "a", b"1")
    changed = http.put(f"file/{file['_id']}", name="b.TIF", mimeType="image/tiff")
    assert (changed["name"], changed["mimeType"], changed["exts"]) == ("b.TIF", "image/tiff", ["tif"])
    assert http.refused("PUT", f"file/{file['_id']}", name="") == (400, "File name must not be empty.")


def test_deleted_files_leave_their_item(served: tuple[Store, Http], folder: str) -> None:
    store, http = served
    file = http.upload(folder, "a", b"123")
    assert http.delete(f"file/{file['_id']}") is None
    assert http.get(f"item/{file['itemId']}")["size"] == 0
    assert http.get(f"item/{file['itemId']}/files") == []
    assert http.refused("GET", f"file/{file['_id']}") == (400, f"Invalid file id ({file['_id']}).")
    assert known_contents(store) == content_files(store)


def test_a_file_replaced_while_it_is_opened_is_sent_anew(
    served: tuple[Store, Http], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, http = served
    file = http.upload(folder, "a", b"old")
    find = store.files.path

    def find_and_replace(file_id: str) -> Path:
        path = find(file_id)
        monkeypatch.undo()
        (store.data_folder / "new").write_bytes(b"newer")
        store.files.replace_content(file_id, store.contents.copy_in(store.data_folder / "new"))
        return path

    monkeypatch.setattr(store.files, "path", find_and_replace)
    assert http.download(file["_id"]) == b"newer"


def test_lost_bytes_are_an_error_that_names_the_file(served: tuple[Store, Http], folder: str) -> None:
    store, http = served
    file = http.upload(folder, "a", b"123")
    path = store.files.path(file["_id"])
    path.unlink()
    response = http.ask("GET", f"file/{file['_id']}/download")
    assert response.status_code == 500
    assert "missing" in response.json()["message"]
    path.write_bytes(b"123")
