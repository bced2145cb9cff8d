"""A small server that plays the routes of the platform which a worker uses, with one dataset."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from numpy.typing import NDArray
from worker_client_processes import DATASET

_LARGE_IMAGE = "5f0000000000000000000002"
_ITEM = {"_id": _LARGE_IMAGE, "name": "frames.tif", "largeImage": {"fileId": "5f0000000000000000000003"}}
_AXES = ("IndexXY", "IndexZ", "IndexT", "IndexC")


class Platform:
    """Serves `pixels` (XY, Z, Time, channel, H, W) as a dataset, and keeps what is sent to it.

    Attributes:
        url: address of the API.
        annotations: those that were created.
        uploads: how many each request created.
        connections: the bodies of the requests to connect annotations.
        interfaces: image -> fields.
        frames: numbers of the frames that were read.
        refusals: part of a path -> status with which such requests are refused.
    """

    def __init__(self, pixels: NDArray[Any] | None = None) -> None:
        self.pixels = np.zeros((1, 1, 1, 1, 4, 6), np.uint16) if pixels is None else pixels
        self.annotations: list[dict[str, Any]] = []
        self.uploads: list[int] = []
        self.connections: list[dict[str, Any]] = []
        self.interfaces: dict[str, Any] = {}
        self.frames: list[int] = []
        self.refusals: dict[str, int] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/api/v1"

    def __enter__(self) -> Platform:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        """Return what a route answers: bytes, or anything that JSON can express; KeyError if there is no such route."""
        routes: dict[tuple[str, str], Callable[[], Any]] = {
            ("GET", f"/folder/{DATASET}"): lambda: {
                "_id": DATASET,
                "name": "d",
                "meta": {"subtype": "contrastDataset"},
            },
            ("GET", "/item"): lambda: [{"_id": _LARGE_IMAGE, "name": "i", "largeImage": {"fileId": "f"}}],
            ("GET", f"/item/{_LARGE_IMAGE}"): lambda: {"_id": _LARGE_IMAGE, "name": "i", "largeImage": {"fileId": "f"}},
            ("GET", f"/item/{_LARGE_IMAGE}/tiles"): self._tiles,
            ("GET", f"/item/{_LARGE_IMAGE}/tiles/internal_metadata"): lambda: None,
            ("GET", f"/item/{_LARGE_IMAGE}/tiles/region"): lambda: self._region(query),
            ("POST", "/upenn_annotation/multiple"): lambda: self._create(body),
            ("POST", "/annotation_connection/connectTo"): lambda: self._connect(body),
            ("POST", "/worker_interface"): lambda: self._set_interface(query["image"], body),
        }
        return routes[(method, path.rstrip("/"))]()

    def _tiles(self) -> dict[str, Any]:
        *counts, height, width = self.pixels.shape
        axes = [(axis, number) for number, axis in enumerate(_AXES) if counts[number] > 1]
        frames = [
            {"Frame": number, **{axis: place[dimension] for axis, dimension in axes}}
            for number, place in enumerate(np.ndindex(*counts))
        ]
        return {
            "sizeX": width,
            "sizeY": height,
            "tileWidth": width,
            "tileHeight": height,
            "levels": 1,
            "magnification": None,
            "mm_x": None,
            "mm_y": None,
            "dtype": str(self.pixels.dtype),
            "bandCount": 1,
            "frames": frames,
            "IndexRange": {axis: counts[dimension] for axis, dimension in axes},
        }

    def _region(self, query: dict[str, str]) -> bytes:
        number = int(query.get("frame", 0))
        self.frames.append(number)
        frame = self.pixels.reshape(-1, *self.pixels.shape[-2:])[number]
        rows = slice(int(query.get("top", 0)), int(query.get("bottom", frame.shape[0])))
        columns = slice(int(query.get("left", 0)), int(query.get("right", frame.shape[1])))
        return pickle.dumps(frame[rows, columns, None], protocol=int(query["encoding"].partition(":")[2] or 4))

    def _create(self, annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if any(len(annotation["coordinates"]) == 5 for annotation in annotations):
            raise ValueError("five is too many")
        first = len(self.annotations)
        created = [{**annotation, "_id": f"{first + number:024x}"} for number, annotation in enumerate(annotations)]
        self.annotations += created
        self.uploads.append(len(created))
        return created

    def _connect(self, body: dict[str, Any]) -> list[Any]:
        self.connections.append(body)
        return []

    def _set_interface(self, image: str, fields: Any) -> dict[str, Any]:
        self.interfaces[image] = fields
        return {"image": image, "interface": fields}


def _handler(platform: Platform) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            address = urlsplit(self.path)
            path = address.path.removeprefix("/api/v1").replace("//", "/")
            query = {name: values[-1] for name, values in parse_qs(address.query).items()}
            status = next((status for part, status in platform.refusals.items() if part in path), 200)
            answer: Any = {"message": "refused for the test", "type": "rest"}
            if status == 200:
                try:
                    answer = platform.answer(self.command, path, query, json.loads(body) if body else None)
                except KeyError:
                    status, answer = 404, {"message": f"no such route: {self.command} {path}"}
                except ValueError as error:
                    status, answer = 400, {"message": str(error), "type": "validation"}
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    return Handler
