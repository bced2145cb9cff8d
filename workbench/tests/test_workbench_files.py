"""Uploads in chunks, replacement in place, downloads with ranges."""

from __future__ import annotations

import random
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from workbench_http import TOKEN, UNKNOWN_ID, Http

from workbench.store.store import Store

CONTENT = random.Random(0).randbytes(3_000_000)
CHUNKS = [CONTENT[start : start + 700_000] for start in range(0, len(CONTENT), 700_000)]


@pytest.fixture
def folder(http: Http) -> str:
    return http.new_folder()


def start(http: Http, folder: str, name: str = "a.bin", size: int = len(CONTENT)) -> str:
    upload = http.post("file", parentType="folder", parentId=folder, name=name, size=size)
    assert upload["received"] == 0
    return upload["_id"]


def send(http: Http, upload_id: str, chunks: list[bytes], offset: int = 0) -> Any:
    answer = None
    for chunk in chunks:
        answer = http.post("file/chunk", uploadId=upload_id, offset=offset, data=chunk)
        offset += len(chunk)
    return answer


def partial_files(store: Store) -> list[Path]:
    return list((store.files_folder / ".partial").iterdir())


def content_files(store: Store) -> set[str]:
    return {path.name for path in store.files_folder.glob("??/*")}


def known_contents(store: Store) -> set[str]:
    return {row[0] for row in store.database.read("SELECT content_id FROM files")}


def cut_chunk(http: Http, upload_id: str, offset: int, chunk: bytes, sent: int) -> None:
    """Announce a chunk, send only some bytes of it, and break off."""
    head = (
        f"POST /api/v1/file/chunk?uploadId={upload_id}&offset={offset} HTTP/1.1\r\nHost: localhost\r\n"
        f"Girder-Token: {TOKEN}\r\nContent-Length: {len(chunk)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", http.port), timeout=10) as connection:
        connection.sendall(head.encode() + chunk[:sent])


# Upload.


def test_file_with_its_bytes_in_one_request(http: Http, folder: str) -> None:
    file = http.post("file", parentType="folder", parentId=folder, name="model.tar.gz", size=3, data=b"abc")
    assert file["_modelType"] == "file"
    assert (file["name"], file["size"], file["exts"]) == ("model.tar.gz", 3, ["tar", "gz"])
    assert file["mimeType"] == "application/x-tar"
    assert http.get(f"file/{file['_id']}") == file
    item = http.get(f"item/{file['itemId']}")
    assert (item["name"], item["size"], item["folderId"]) == ("model.tar.gz", 3, folder)
    assert http.download(file["_id"]) == b"abc"
    response = http.ask("GET", f"item/{item['_id']}/files", limit=50, offset=0)
    assert response.json() == [file]
    assert response.headers["Girder-Total-Count"] == "1"


def test_file_in_chunks(served: tuple[Store, Http], folder: str) -> None:
    store, http = served
    upload = start(http, folder)
    answer = send(http, upload, CHUNKS[:-1])
    assert answer["_id"] == upload
    assert answer["received"] == len(CONTENT) - len(CHUNKS[-1])
    assert http.get("item", folderId=folder) == []
    file = send(http, upload, CHUNKS[-1:], answer["received"])
    assert file["_modelType"] == "file"
    assert http.download(file["_id"]) == CONTENT
    assert http.refused("GET", "file/offset", uploadId=upload) == (400, f"Invalid upload id ({upload}).")
    assert partial_files(store) == []


def test_first_chunk_with_the_request_that_starts(http: Http, folder: str) -> None:
    upload = http.post("file", parentType="folder", parentId=folder, name="a", size=len(CONTENT), data=CHUNKS[0])
    assert upload["received"] == len(CHUNKS[0])
    file = send(http, upload["_id"], CHUNKS[1:], len(CHUNKS[0]))
    assert http.download(file["_id"]) == CONTENT


def test_empty_file(http: Http, folder: str) -> None:
    file = http.post("file", parentType="folder", parentId=folder, name="empty", size=0, mimeType="text/plain")
    assert (file["_modelType"], file["size"], file["mimeType"]) == ("file", 0, "text/plain")
    assert http.download(file["_id"]) == b""


def test_file_into_an_item(http: Http, folder: str) -> None:
    item = http.post("item", folderId=folder, name="both")["_id"]
    for name in ("b", "a"):
        http.post("file", parentType="item", parentId=item, name=name, size=1, data=b"x")
    assert [file["name"] for file in http.get(f"item/{item}/files")] == ["a", "b"]
    assert http.get(f"item/{item}")["size"] == 2
    status, message = http.refused("GET", f"item/{item}/download")
    assert status == 400
    assert "2 files" in message


def test_same_name_makes_a_second_item(http: Http, folder: str) -> None:
    first, second = (http.upload(folder, "mine.tar.gz", content) for content in (b"old", b"newer"))
    items = http.get("item", folderId=folder)
    assert [item["name"] for item in items] == ["mine.tar.gz", "mine.tar.gz (1)"]
    assert [file["name"] for file in http.get(f"item/{items[1]['_id']}/files")] == ["mine.tar.gz"]
    assert (http.download(first["_id"]), http.download(second["_id"])) == (b"old", b"newer")


def test_chunks_that_do_not_fit(served: tuple[Store, Http], folder: str) -> None:
    store, http = served
    upload = start(http, folder, size=10)
    send(http, upload, [b"01234"])
    message = "Server has received 5 bytes, but client sent offset {}."
    assert http.refused("POST", "file/chunk", uploadId=upload, offset=0, data=b"x") == (400, message.format(0))
    assert http.refused("POST", "file/chunk", uploadId=upload, offset=7, data=b"x") == (400, message.format(7))
    assert http.refused("POST", "file/chunk", uploadId=upload, offset=5, data=b"567890") == (
        400,
        "Received too many bytes.",
    )
    assert http.get("file/offset", uploadId=upload) == {"offset": 5}
    file = send(http, upload, [b"56", b"789"], 5)
    assert http.download(file["_id"]) == b"0123456789"
    assert http.refused("POST", "file/chunk", uploadId=upload, offset=0, data=b"x")[0] == 400
    assert partial_files(store) == []


def test_requests_that_start_nothing(served: tuple[Store, Http], folder: str) -> None:
    store, http = served
    into = {"parentType": "folder", "parentId": folder}
    assert http.refused("POST", "file", **into, name="a") == (400, 'Parameter "size" is required.')
    assert http.refused("POST", "file", **into, size=3) == (400, 'Parameter "name" is required.')
    assert http.refused("POST", "file", **into, name="a", size="x") == (
        400,
        "Invalid value for integer parameter size: x.",
    )
    assert http.refused("POST", "file", **into, name="a", size=-1) == (400, "File size must not be negative.")
    assert http.refused("POST", "file", parentType="folder", parentId=UNKNOWN_ID, name="a", size=1) == (
        400,
        f"No such folder: {UNKNOWN_ID}",
    )
    assert http.refused("POST", "file", parentType="user", parentId=folder, name="a", size=1)[0] == 400
    # More bytes than announced with the request that starts: nothing of the upload stays.
    assert http.refused("POST", "file", **into, name="a", size=1, data=b"12") == (400, "Received too many bytes.")
    assert partial_files(store) == []
    assert http.get("item", folderId=folder) == []


def test_a_chunk_has_a_limit(served: tuple[Store, Http], folder: str) -> None:
    store, http = served
    upload = start(http, folder, size=2**27)
    limit = 64 * 2**20
    status, message = http.refused("POST", "file/chunk", uploadId=upload, offset=0, data=bytes(limit + 1))
    assert status == 413
    assert "chunks" in message
    assert http.get("file/offset", uploadId=upload) == {"offset": 0}
    assert send(http, upload, [bytes(limit)])["received"] == limit
    assert http.delete(f"file/upload/{upload}") == {"message": "Upload canceled."}
    assert partial_files(store) == []
    assert http.refused("DELETE", f"file/upload/{upload}") == (400, f"Invalid upload id ({upload}).")


@pytest.mark.parametrize("complete", range(len(CHUNKS)))
def test_upload_cut_after_each_chunk_goes_on(served: tuple[Store, Http], folder: str, complete: int) -> None:
    store, http = served
    upload = start(http, folder)
    send(http, upload, CHUNKS[:complete])
    received = sum(map(len, CHUNKS[:complete]))
    cut_chunk(http, upload, received, CHUNKS[complete], len(CHUNKS[complete]) // 2)
    assert http.get("item", folderId=folder) == []
    assert http.get("file/offset", uploadId=upload) == {"offset": received}
    file = send(http, upload, CHUNKS[complete:], received)
    assert http.download(file["_id"]) == CONTENT
    assert known_contents(store) == content_files(store)


def test_a_sender_that_falls_silent_does_not_block_the_upload(
    http: Http, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.server.endpoint._PIECE_SECONDS", 0.2)
    upload = start(http, folder, size=4)
    head = (
        f"POST /api/v1/file/chunk?uploadId={upload}&offset=0 HTTP/1.1\r\nHost: localhost\r\n"
        f"Girder-Token: {TOKEN}\r\nContent-Length: 4\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", http.port), timeout=10) as connection:
        connection.sendall(head.encode() + b"ab")
        assert connection.recv(2**16).startswith(b"HTTP/1.1 408")
        assert http.download(send(http, upload, [b"abcd"])["_id"]) == b"abcd"


def test_parent_deleted_during_an_upload(served: tuple[Store, Http], folder: str) -> None:
    store, http = served
    upload = start(http, folder, size=4)
    send(http, upload, [b"01"])
    http.delete(f"folder/{folder}")
    assert http.refused("POST", "file/chunk", uploadId=upload, offset=2, data=b"23") == (
        400,
        f"No such folder: {folder}",
    )
    assert partial_files(store) == []
    assert known_contents(store) == content_files(store)


def test_the_same_chunk_twice_at_once_counts_once(http: Http, folder: str) -> None:
    upload = start(http, folder, size=4)

    def chunk(_: int) -> int:
        client = Http(http.port)
        with client.session:
            return client.ask("POST", "file/chunk", uploadId=upload, offset=0, data=b"ab").status_code

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(chunk, range(4))) == [200, 400, 400, 400]
    assert http.download(send(http, upload, [b"cd"], 2)["_id"]) == b"abcd"


# Replacement.


def test_replaced_contents_change_at_the_end_only(served: tuple[Store, Http], folder: str) -> None:
    store, http = served
    file = http.upload(folder, "model", b"old")
    before = known_contents(store)
    upload = http.put(f"file/{file['_id']}/contents", size=len(CONTENT))["_id"]
    received = 0
    for chunk in CHUNKS:
        assert http.download(file["_id"]) == b"old"
        assert http.get(f"file/{file['_id']}")["size"] == 3
        answer = send(http, upload, [chunk], received)
        received += len(chunk)
    assert (answer["_id"], answer["itemId"], answer["size"]) == (file["_id"], file["itemId"], len(CONTENT))
    assert answer["created"] > file["created"]
    assert http.download(file["_id"]) == CONTENT
    assert http.get(f"item/{file['itemId']}")["size"] == len(CONTENT)
    assert len(http.get("item", folderId=folder)) == 1
    assert known_contents(store) == content_files(store)
    assert len(known_contents(store)) == len(before)


def test_replacement_by_nothing_and_of_nothing(http: Http, folder: str) -> None:
    file = http.upload(folder, "model", b"old")
    assert http.put(f"file/{file['_id']}/contents", size=0)["size"] == 0
    assert http.download(file["_id"]) == b""
    assert http.refused("PUT", f"file/{UNKNOWN_ID}/contents", size=1) == (400, f"Invalid file id ({UNKNOWN_ID}).")
    assert http.refused("PUT", f"file/{file['_id']}/contents")[0] == 400


@pytest.mark.parametrize("complete", range(len(CHUNKS)))
def test_a_cut_replacement_leaves_the_old_bytes(served: tuple[Store, Http], folder: str, complete: int) -> None:
    store, http = served
    file = http.upload(folder, "model", b"old")
    upload = http.put(f"file/{file['_id']}/contents", size=len(CONTENT))["_id"]
    send(http, upload, CHUNKS[:complete])
    received = sum(map(len, CHUNKS[:complete]))
    cut_chunk(http, upload, received, CHUNKS[complete], len(CHUNKS[complete]) - 1)
    assert http.get("file/offset", uploadId=upload) == {"offset": received}
    assert http.download(file["_id"]) == b"old"
    assert http.get(f"file/{file['_id']}") == file
    http.delete(f"file/upload/{upload}")
    assert http.download(file["_id"]) == b"old"
    assert partial_files(store) == []


def test_of_two_replacements_the_last_one_wins_whole(served: tuple[Store, Http], folder: str) -> None:
    store, http = served
    file = http.upload(folder, "model", b"old")
    one, two = CONTENT, CONTENT[::-1][:2_000_000]
    uploads = [http.put(f"file/{file['_id']}/contents", size=len(content))["_id"] for content in (one, two)]
    send(http, uploads[0], [one[:1_000_000]])
    send(http, uploads[1], [two[:1_000_000]])
    assert http.download(file["_id"]) == b"old"
    send(http, uploads[1], [two[1_000_000:]], 1_000_000)
    assert http.download(file["_id"]) == two
    send(http, uploads[0], [one[1_000_000:]], 1_000_000)
    assert http.download(file["_id"]) == one
    assert known_contents(store) == content_files(store)


def test_downloads_during_replacements_are_whole(served: tuple[Store, Http], folder: str) -> None:
    store, http = served
    contents = [bytes([number]) * (400_000 + number) for number in range(12)]
    file = http.upload(folder, "model", contents[0])
    ended = threading.Event()

    def download(_: int) -> int:
        client = Http(http.port)
        count = 0
        with client.session:
            while not ended.is_set():
                assert client.download(file["_id"]) in contents
                count += 1
        return count

    def replace(content: bytes) -> None:
        client = Http(http.port)
        with client.session:
            upload = client.put(f"file/{file['_id']}/contents", size=len(content))
            send(client, upload["_id"], [content[:200_000], content[200_000:]])

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(download, number) for number in range(2)]
        try:
            with ThreadPoolExecutor(2) as writers:
                list(writers.map(replace, contents))
        finally:
            ended.set()
        assert min(reader.result() for reader in readers) > 1
    assert http.download(file["_id"]) in contents
    assert known_contents(store) == content_files(store)


def test_file_deleted_during_a_replacement(served: tuple[Store, Http], folder: str) -> None:
    store, http = served
    file = http.upload(folder, "model", b"old")
    upload = http.put(f"file/{file['_id']}/contents", size=3)["_id"]
    http.delete(f"file/{file['_id']}")
    assert http.refused("POST", "file/chunk", uploadId=upload, data=b"new") == (400, f"No such file: {file['_id']}")
    assert known_contents(store) == content_files(store)
    assert partial_files(store) == []


# Download.


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
