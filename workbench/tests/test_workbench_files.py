"""Uploads in chunks and replacement in place."""

from __future__ import annotations

import random
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from workbench_http import TOKEN, UNKNOWN_ID, Http
from workbench_stored_files import content_files, known_contents, partial_files

from workbench.store.store import Store

CONTENT = random.Random(0).randbytes(3_000_000)
CHUNKS = [CONTENT[start : start + 700_000] for start in range(0, len(CONTENT), 700_000)]


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
