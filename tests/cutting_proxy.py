"""A TCP relay that breaks connections: after a given number of bytes towards the server, or when it is told to."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from urllib.parse import urlsplit, urlunsplit


class CuttingProxy:
    """Stands between a client and a server; a context manager.

    Args:
        api_url: of the server.
        cut_after: bytes from clients after which every open connection is reset.
        stay_dead: refuse all connections from then on, instead of working again.

    Attributes:
        api_url: to be given to the client.
        sent: bytes that came from clients so far.
        was_cut: whether the cut has happened.
    """

    def __init__(self, api_url: str, *, cut_after: int | None = None, stay_dead: bool = False) -> None:
        parts = urlsplit(api_url)
        self._server = (parts.hostname, parts.port)
        self._cut_after = cut_after
        self._stay_dead = stay_dead
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._port = 0
        self.join()
        self.api_url = urlunsplit(parts._replace(netloc=f"127.0.0.1:{self._port}"))
        self.sent = 0
        self.was_cut = False

    def __enter__(self) -> CuttingProxy:
        return self

    def __exit__(self, *exception: object) -> None:
        self.cut()

    def cut(self) -> None:
        """Reset every connection and refuse new ones."""
        self._stop_listening()
        self._accepting.join()
        self._reset_all()

    def join(self) -> None:
        """Relay at the same port again, after `cut`."""
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, args=(self._listener,), daemon=True)
        self._accepting.start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = listener.accept()
                with self._lock:
                    self._open.append(client)
                server = socket.create_connection(self._server)
                with self._lock:
                    self._open.append(server)
                threading.Thread(target=self._relay, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._relay, args=(server, client, False), daemon=True).start()

    def _relay(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while data := source.recv(16384):
                if counted and self._is_the_end(len(data)):
                    target.sendall(data[: len(data) // 2])
                    if self._stay_dead:
                        self._stop_listening()
                    self._reset_all()
                    return
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def _is_the_end(self, size: int) -> bool:
        with self._lock:
            self.sent += size
            if self.was_cut or self._cut_after is None or self.sent < self._cut_after:
                return False
            self.was_cut = True
            return True

    def _stop_listening(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _reset_all(self) -> None:
        with self._lock:
            for connection in self._open:
                # Closed with a reset, as a server that dies does it.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads from it
                connection.close()
            self._open.clear()
