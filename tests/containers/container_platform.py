"""Starts the workers' images as the platform does, and a platform whose models lie on a real Girder server."""

from __future__ import annotations

import http.server
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests
from platform_driver import Platform
from worker_images import IMAGE_TAG, image_of

_TIMEOUT_S = 120
_OF_THE_CONNECTION = ("connection", "content-encoding", "content-length", "host", "transfer-encoding")
_OF_THE_PLUGIN = ("upenn_annotation", "annotation_connection", "worker_interface", "worker_preview")


@dataclass(frozen=True)
class ContainerPlatform(Platform):
    """Runs the workers in containers: the machine's network, no terminal, no variables, removed at their end.

    Attributes:
        container: name of the container.
        options: more options of `docker run`.
        models: where the user's models lie, for messages.
        image: what is run in place of the worker's own image.
    """

    container: str = f"condensatenet-{IMAGE_TAG}"
    options: tuple[str, ...] = ()
    models: str = "the workbench"
    image: str | None = None

    def command(self, kind: str) -> list[str]:
        """Return how a worker is started, up to the platform's arguments."""
        run = ["docker", "run", "--rm", "--network=host", "--name", self.container, *self.options]
        return [*run, self.image or image_of(kind)]

    def remove_container(self) -> None:
        """Remove what a failed test may have left running."""
        subprocess.run(["docker", "rm", "--force", self.container], check=False, capture_output=True)

    def cancel(self) -> None:
        """Stop the container as the platform does: SIGTERM, and SIGKILL after 10 seconds."""
        subprocess.run(["docker", "stop", "-t", "10", self.container], check=True, capture_output=True)


@contextmanager
def platform_with_girder(girder: dict[str, str], workbench: Platform, dataset_ids: list[str]) -> Iterator[str]:
    """Serve one address: datasets and annotations are the workbench's, all else (users, folders, models) is Girder's.

    The platform is a Girder with a plugin for annotations, which cannot be installed here.

    Yields:
        The address, for the token of Girder's user.
    """
    known = {*dataset_ids}
    for dataset_id in dataset_ids:
        known |= {item["_id"] for item in workbench.connection.listItem(dataset_id)}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def relay(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _OF_THE_CONNECTION}
            address = girder["apiUrl"]
            if any(part in self.path for part in (*_OF_THE_PLUGIN, *known)):
                address, headers["Girder-Token"] = workbench.api_url, workbench.token
            answer = requests.request(
                self.command,
                address.removesuffix("/api/v1") + self.path,
                data=body,
                headers=headers,
                timeout=_TIMEOUT_S,
                allow_redirects=False,
            )
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                if name.lower() not in _OF_THE_CONNECTION:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *arguments: Any) -> None:
            pass

    for method in ("GET", "POST", "PUT", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.relay)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/api/v1"
        finally:
            server.shutdown()
            thread.join()
