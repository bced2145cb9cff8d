"""A server that is killed in the middle of writes, and started again."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from workbench_http import TOKEN, Http, point

SERVER = """
import socket, sys, uvicorn
from workbench.server.app import create_app
from workbench.store.store import Store

listener = socket.create_server(("127.0.0.1", 0))
listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
app = create_app(Store(sys.argv[1], serve=True), token=sys.argv[2])
print(listener.getsockname()[1], flush=True)
config = uvicorn.Config(app, loop="asyncio", http="h11", ws="none", lifespan="off", log_level="error")
uvicorn.Server(config).run(sockets=[listener])
"""
KILLS = 20
BATCH = 40


class Server:
    """A server in a process of its own."""

    def __init__(self, data: Path) -> None:
        command = [sys.executable, "-c", SERVER, str(data), TOKEN]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.http = Http(int(self.process.stdout.readline()))

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.http.session.close()


class Promises:
    """What the server has acknowledged, over all its lives, and what it may have done without saying so."""

    def __init__(self, http: Http) -> None:
        self.dataset = http.new_dataset()
        self.folder = http.new_folder()
        self.batches: dict[str, list[str]] = {}
        self.deleted: set[str] = set()
        self.uploads: dict[str, bytes] = {}
        self.replaced = http.upload(self.folder, "replaced", b"first")["_id"]
        self.contents = [b"first"]  # from the last acknowledged one on
        self.folders: set[str] = set()
        self.meta: dict[str, Any] = {}
        self.count: defaultdict[str, int] = defaultdict(int)


def create(http: Http, promises: Promises, rng: random.Random) -> None:
    tag = f"batch {rng.getrandbits(64)}"
    made = http.post(
        "upenn_annotation/multiple", json=[point(promises.dataset, x, 0, tags=[tag]) for x in range(BATCH)]
    )
    promises.batches[tag] = [document["_id"] for document in made]


def delete(http: Http, promises: Promises, rng: random.Random) -> None:
    kept = list(promises.batches)
    if len(kept) > 3:
        tag = rng.choice(kept)
        http.delete("upenn_annotation/multiple", json=promises.batches.pop(tag))
        promises.deleted.add(tag)


def upload(http: Http, promises: Promises, rng: random.Random) -> None:
    content = rng.randbytes(rng.randrange(1, 300_000))
    promises.uploads[http.upload(promises.folder, "same name", content)["_id"]] = content


def replace(http: Http, promises: Promises, rng: random.Random) -> None:
    content = rng.randbytes(rng.randrange(1, 300_000))
    promises.contents.append(content)
    half = len(content) // 2
    begun = http.put(f"file/{promises.replaced}/contents", size=len(content))
    if half:
        http.post("file/chunk", uploadId=begun["_id"], offset=0, data=content[:half])
    http.post("file/chunk", uploadId=begun["_id"], offset=half, data=content[half:])
    promises.contents = [content]


def make_folder(http: Http, promises: Promises, rng: random.Random) -> None:
    name = str(rng.getrandbits(64))
    http.post("folder", parentId=promises.folder, name=name)
    promises.folders.add(name)
    http.put(f"folder/{promises.folder}/metadata", json={name: 1})
    promises.meta[name] = 1


def keep_writing(
    write: Callable[..., None], http: Http, promises: Promises, rng: random.Random, killed: threading.Event
) -> None:
    with requests.Session() as http.session:
        http.session.headers["Girder-Token"] = TOKEN
        try:
            while not killed.is_set():  # a write that finds nothing to do does not notice it
                write(http, promises, rng)
                promises.count[write.__name__] += 1
        except requests.RequestException:
            pass  # killed


def check(http: Http, promises: Promises, data: Path) -> None:
    annotations = http.get("upenn_annotation", datasetId=promises.dataset, limit=0)
    by_tag: dict[str, list[str]] = {}
    for document in annotations:
        by_tag.setdefault(document["tags"][0], []).append(document["_id"])
    for tag, ids in promises.batches.items():
        assert by_tag[tag] == ids
    assert not promises.deleted & by_tag.keys()
    # What was not acknowledged is there whole or not at all.
    assert {len(ids) for ids in by_tag.values()} <= {BATCH}
    for file_id, content in promises.uploads.items():
        assert http.download(file_id) == content
    current = http.download(promises.replaced)
    assert current in promises.contents
    promises.contents = [current]
    assert http.get(f"file/{promises.replaced}")["size"] == len(current)
    listed = {"parentType": "folder", "parentId": promises.folder, "limit": 0}
    assert {folder["name"] for folder in http.get("folder", **listed)} >= promises.folders
    assert http.get(f"folder/{promises.folder}")["meta"].items() >= promises.meta.items()
    items = http.get("item", folderId=promises.folder, limit=0)
    files = [file for item in items for file in http.get(f"item/{item['_id']}/files")]
    assert len(files) == len(items)
    for file in files:
        assert len(http.download(file["_id"])) == file["size"]
    assert list((data / "files" / ".partial").iterdir()) == []
    assert len(list((data / "files").glob("??/*"))) == len(files)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    data = tmp_path / "data"
    rng = random.Random(0)
    server = Server(data)
    promises = Promises(server.http)
    try:
        for _ in range(KILLS):
            killed = threading.Event()
            writers = [
                threading.Thread(
                    target=keep_writing,
                    args=(write, Http(server.http.port), promises, random.Random(rng.random()), killed),
                )
                for write in (create, delete, upload, replace, make_folder)
            ]
            for writer in writers:
                writer.start()
            time.sleep(rng.uniform(0.1, 0.7))
            server.kill()
            killed.set()
            for writer in writers:
                writer.join()
            server = Server(data)
            check(server.http, promises, data)
    finally:
        server.kill()
    assert min(promises.count[write.__name__] for write in (create, delete, upload, replace, make_folder)) > KILLS, (
        promises.count
    )
