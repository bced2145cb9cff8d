"""A server in a thread of the test's process, and a client that speaks plain HTTP to it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import requests
import uvicorn

from workbench.server.app import LOOPBACK_NAMES, create_app
from workbench.store.store import Store

TOKEN = "the-token-of-the-tests"
UNKNOWN_ID = "0123456789abcdef01234567"


class Http:
    """Sends requests below `/api/v1/`."""

    def __init__(self, port: int, token: str | None = TOKEN) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/api/v1/"
        self.session = requests.Session()
        if token is not None:
            self.session.headers["Girder-Token"] = token

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """Give the response, whatever it is; keyword arguments that `requests` does not know are parameters."""
        known = {key: options.pop(key) for key in ("data", "json", "headers", "stream") if key in options}
        return self.session.request(method, self.url + path, params=options, timeout=30, **known)

    def get(self, path: str, **options: Any) -> Any:
        """Give the JSON of an answer that is no error."""
        return self.call("GET", path, **options)

    def post(self, path: str, **options: Any) -> Any:
        """See `get`."""
        return self.call("POST", path, **options)

    def put(self, path: str, **options: Any) -> Any:
        """See `get`."""
        return self.call("PUT", path, **options)

    def delete(self, path: str, **options: Any) -> Any:
        """See `get`."""
        return self.call("DELETE", path, **options)

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Give the JSON of an answer that is no error."""
        response = self.ask(method, path, **options)
        assert response.status_code in (200, 206), (response.status_code, response.text)
        return response.json()

    def refused(self, method: str, path: str, **options: Any) -> tuple[int, str]:
        """Give status and message of an answer that is an error, and check its form."""
        response = self.ask(method, path, **options)
        assert response.status_code >= 400, (response.status_code, response.text)
        answer = response.json()
        assert set(answer) == {"message", "type"}
        assert answer["type"] in ("rest", "validation", "access"), answer
        return response.status_code, answer["message"]

    def private_folder(self) -> str:
        """Give the identifier of the user's private folder."""
        user = self.get("user/me")
        (folder,) = self.get("folder", parentType="user", parentId=user["_id"], name="Private")
        return str(folder["_id"])

    def new_folder(self) -> str:
        """Make a folder for a test."""
        name = f"folder {time.monotonic_ns()}"
        return str(self.post("folder", parentId=self.private_folder(), name=name)["_id"])

    def new_dataset(self) -> str:
        """Make an empty dataset for a test."""
        folder_id = self.new_folder()
        self.put(f"folder/{folder_id}/metadata", json={"subtype": "contrastDataset"})
        return folder_id

    def upload(self, folder_id: str, name: str, content: bytes) -> Any:
        """Upload a file in one request, and give its document."""
        return self.post(
            "file", parentType="folder", parentId=folder_id, name=name, size=len(content), data=content or None
        )

    def download(self, file_id: str) -> bytes:
        """Give the bytes of a file."""
        response = self.ask("GET", f"file/{file_id}/download")
        assert response.status_code == 200
        return response.content


@contextmanager
def serving(store: Store, *, hosts: frozenset[str] | None = LOOPBACK_NAMES) -> Iterator[Http]:
    """Serve a store while the block runs."""
    listener = socket.create_server(("127.0.0.1", 0))
    # Handed down to its connections; else every small answer waits 40 ms for an acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    app = create_app(store, token=TOKEN, hosts=hosts)
    server = uvicorn.Server(
        uvicorn.Config(app, loop="asyncio", http="h11", ws="none", lifespan="off", log_config=None, access_log=False)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.005)
        http = Http(listener.getsockname()[1])
        with http.session:
            yield http
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@contextmanager
def served_store(folder: Path) -> Iterator[tuple[Store, Http]]:
    """Open a store and serve it while the block runs."""
    with closing(Store(folder)) as store, serving(store) as http:
        yield store, http


def annotation(dataset_id: str, **changes: Any) -> dict[str, Any]:
    """Make a valid annotation; a change to None leaves the field out."""
    made = {
        "coordinates": [{"x": 1.5, "y": 2, "z": 0}, {"x": 4, "y": 2}, {"x": 4, "y": 6.25}],
        "tags": ["condensate"],
        "channel": 0,
        "location": {"XY": 0, "Z": 0, "Time": 0},
        "shape": "polygon",
        "datasetId": dataset_id,
    }
    made.update(changes)
    return {key: value for key, value in made.items() if value is not None}


def point(dataset_id: str, x: float, y: float, **changes: Any) -> dict[str, Any]:
    """Make a valid point."""
    return annotation(dataset_id, shape="point", coordinates=[{"x": x, "y": y}], **changes)


def tags_parameter(*tags: str) -> str:
    """Write tags as the platform's client does."""
    return json.dumps(list(tags))
