"""One SQLite file: a connection per thread, one writer at a time, and acknowledged writes that survive a kill."""

from __future__ import annotations

import logging
import secrets
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from workbench.errors import DataFolderError

SCHEMA_VERSION = 1
_BUSY_SECONDS = 60.0  # another process, such as an import beside the server, may hold the write lock for a while
_WAL_LIMIT_BYTES = 64 * 2**20

_log = logging.getLogger(__name__)


class Database:
    """The documents of a data folder.

    Args:
        path: the SQLite file; made if it is missing.
        schemas: ``CREATE ... IF NOT EXISTS`` statements of the tables.

    Raises:
        DataFolderError: the file is no database of this workbench or an earlier one.
    """

    def __init__(self, path: Path, schemas: Sequence[str]) -> None:
        self._path = path
        self._local = threading.local()
        self._write_lock = threading.Lock()
        self._handles: weakref.WeakSet[_Handle] = weakref.WeakSet()
        self._handles_lock = threading.Lock()
        try:
            connection = self._connection()
            # Once per file: the mode is written into it.
            connection.execute("PRAGMA journal_mode = WAL")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > SCHEMA_VERSION:
                raise DataFolderError(
                    f"{path} was written by a newer workbench. Update the workbench or choose another data folder."
                )
            with self.write() as writing:
                for statement in ";".join(schemas).split(";"):
                    writing.execute(statement)
                writing.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except sqlite3.DatabaseError as error:
            self.close()
            raise DataFolderError(
                f"{path} cannot be used ({error}). Check that the disk is writable and not full, or choose another "
                "data folder."
            ) from error
        except BaseException:
            self.close()
            raise

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Run a transaction that writes: committed to disk when the block ends, rolled back when it raises.

        A block inside another one of the same thread joins it: only the outermost commits.
        """
        handle = self._handle()
        if handle.writing:
            yield handle.connection
            return
        actions: list[Callable[[], None]] = []
        # A fair queue of the threads of this process; SQLite's own lock is polled and can starve one of them.
        with self._write_lock:
            handle.connection.execute("BEGIN IMMEDIATE")
            handle.writing, handle.after_commit = True, actions
            try:
                yield handle.connection
                handle.connection.execute("COMMIT")
            except BaseException:
                if handle.connection.in_transaction:
                    handle.connection.execute("ROLLBACK")
                raise
            finally:
                handle.writing = False
        for action in actions:
            try:
                action()
            except Exception:  # what was committed stays so, and whoever wrote it must not take it for failed
                _log.exception("What was to follow a transaction failed")

    def after_commit(self, action: Callable[[], None]) -> None:
        """Run an action when the transaction that this thread is in has been committed; not at all if it is not."""
        handle = self._handle()
        assert handle.writing, "only inside `with database.write()`"
        handle.after_commit.append(action)

    def read(self, sql: str, arguments: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """Give the rows of a query; inside a transaction of this thread they include what it wrote."""
        return self._connection().execute(sql, arguments).fetchall()

    def read_one(self, sql: str, arguments: Sequence[Any] = ()) -> sqlite3.Row | None:
        """Give the first row of a query, or None."""
        row: sqlite3.Row | None = self._connection().execute(sql, arguments).fetchone()
        return row

    def count(self, sql: str, arguments: Sequence[Any] = ()) -> int:
        """Give the number that a query such as ``SELECT COUNT(*) ...`` finds."""
        row = self.read_one(sql, arguments)
        assert row is not None
        return int(row[0])

    def stream(self, sql: str, arguments: Sequence[Any] = (), *, rows: int = 1000) -> Iterator[list[sqlite3.Row]]:
        """Give the rows of a query piece by piece, all of one moment, whatever is written meanwhile.

        Every step may be taken by another thread: the rows come from a connection of their own.
        """
        handle = self._open()
        try:
            cursor = handle.connection.execute(sql, arguments)
            while piece := cursor.fetchmany(rows):
                yield piece
        finally:
            handle.close()

    def close(self) -> None:
        """Close every connection, of all threads; nothing may use the database any more."""
        with self._handles_lock:
            handles = list(self._handles)
        for handle in handles:
            handle.close()

    def _connection(self) -> sqlite3.Connection:
        return self._handle().connection

    def _handle(self) -> _Handle:
        handle: _Handle | None = getattr(self._local, "handle", None)
        if handle is None:
            handle = self._local.handle = self._open()
        return handle

    def _open(self) -> _Handle:
        # No thread uses another one's connection, except that a stream wanders between threads one step at a time and
        # that `close` comes last.
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        handle = _Handle(connection)
        with self._handles_lock:
            self._handles.add(handle)
        connection.row_factory = sqlite3.Row
        # FULL: a commit is on the disk, not only in the system's memory, before it is acknowledged.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
        return handle


class _Handle:
    """A connection that is closed when its thread ends."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.writing = False
        self.after_commit: list[Callable[[], None]] = []

    def close(self) -> None:
        self.connection.close()

    def __del__(self) -> None:
        self.close()


_ids_lock = threading.Lock()
_process_part = secrets.randbits(40) << 24
_last_id = 0


def new_ids(count: int) -> list[str]:
    """Give identifiers of 24 hexadecimal digits, each larger than every one given before in this process."""
    global _last_id
    with _ids_lock:
        first = max(_last_id + 1, int(time.time()) << 64 | _process_part)
        _last_id = first + count - 1
    return [f"{number:024x}" for number in range(first, first + count)]


def new_id() -> str:
    """Give one identifier; see :func:`new_ids`."""
    return new_ids(1)[0]


def now() -> str:
    """Give the time as the platform writes it, such as ``2026-11-22T10:00:00.123000+00:00``."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")
