"""A TCP proxy that breaks connections, as a cable does that is pulled out, and joins them again."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from urllib.parse import urlsplit


class CutProxy:
    """Forwards a local port to a server; after `cut` until `join` it refuses everything.

    Attributes:
        api_url: the server's address through the proxy.
    """

    def __init__(self, api_url: str) -> None:
        parts = urlsplit(api_url)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._connections: list[socket.socket] = []
        self._port = 0
        self.join()
        self.api_url = f"http://127.0.0.1:{self._port}{parts.path}"

    def __enter__(self) -> CutProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()

    def cut(self) -> None:
        """Close every connection and refuse new ones."""
        for connection in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def join(self) -> None:
        """Forward again, at the same port."""
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
                far = socket.create_connection(self._target)
            except OSError:
                return
            self._connections += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
