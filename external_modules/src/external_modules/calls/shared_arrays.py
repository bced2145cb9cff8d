"""Arrays and JSON values between two processes: arrays in memory that both see, or in .npy files, the rest as JSON.

Both sides import this module, the worker's in its own environment: standard library, numpy and Python 3.9 only.

The memory has no name in any file system, so that none can be left behind however the processes die: on Linux it is
an anonymous file (memfd), on other POSIX systems a temporary file that is deleted at once, both inherited by the
worker as a descriptor; on Windows it is a mapping that the system drops with its last handle (by construction: not
run there).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import sys
import tempfile
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Steps = tuple[Any, ...]  # the keys and numbers that lead to an array inside a value
Located = list[tuple[Steps, Array]]
Packed = dict[str, Any]

_ALIGNMENT = 64
_GRANULE = 2**20
_LONGEST_NAME = 60
_SENDABLE = frozenset("biufcSUmM")  # kinds of numpy types whose bytes mean the same in another process
_OTHER_THAN_FILE_NAME = re.compile(r"[^A-Za-z0-9_-]+")


class UnsuitableValueError(TypeError):
    """A value that cannot go to another process; the text names where it is and what to do."""


class SharedBlock:
    """Memory that one process writes arrays to and another reads them from; it grows with the largest call.

    Args:
        descriptor: of the writing process's memory, for the side that did not make it; None makes new memory.

    Raises:
        OSError: this system gives no such memory.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._map: mmap.mmap | None = None
        self._name: str | None = None
        self._descriptor = -1
        if sys.platform != "win32":
            self._descriptor = _make_memory() if descriptor is None else descriptor

    @property
    def descriptor(self) -> int:
        """What a worker inherits; -1 on Windows, where memory is found by name."""
        return self._descriptor

    def write(self, located: Located) -> Packed:
        """Copy arrays in; what was there is overwritten.

        Returns:
            What `read` needs, as JSON.

        Raises:
            OSError: there is not enough memory.
        """
        entries: list[dict[str, Any]] = []
        offset = _ALIGNMENT  # the first byte tells that something was written
        for steps, array in located:
            entries.append(
                {"steps": list(steps), "dtype": array.dtype.str, "shape": list(array.shape), "offset": offset}
            )
            offset += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
        memory = self._reserve(offset)
        memory[0] = 1
        for number, (_, array) in enumerate(located):
            if array.size:
                np.ndarray(array.shape, array.dtype, memory, entries[number]["offset"])[...] = array
        return {"arrays": entries, "memory": {"name": self._name, "size": len(memory)}}

    def read(self, packed: Packed) -> Located:
        """Return copies of the arrays that the other side wrote last.

        Raises:
            OSError: the memory cannot be mapped, or is not what was written to.
        """
        memory = self._follow(**packed["memory"])
        if not memory[0]:  # Windows makes new memory of the name when the writing process has just ended
            raise OSError("The arrays went with the process that wrote them")
        return [
            (
                tuple(entry["steps"]),
                np.ndarray(tuple(entry["shape"]), np.dtype(entry["dtype"]), memory, entry["offset"]).copy(),
            )
            for entry in packed["arrays"]
        ]

    def close(self) -> None:
        """Give the memory back."""
        if self._map is not None:
            self._map.close()
            self._map = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _reserve(self, size: int) -> mmap.mmap:
        if self._map is not None and len(self._map) >= size:
            return self._map
        size = max(1, -(-size * 5 // 4 // _GRANULE)) * _GRANULE  # a bit more, for images that vary in size
        if sys.platform == "win32":
            name = f"external_modules-{os.urandom(16).hex()}"
            fresh = mmap.mmap(-1, size, tagname=name)
            self._name = name
        else:
            _grow(self._descriptor, size)
            fresh = mmap.mmap(self._descriptor, size)
        self._replace(fresh)
        return fresh

    def _follow(self, name: str | None, size: int) -> mmap.mmap:
        if self._map is not None and (self._name, len(self._map)) == (name, size):
            return self._map
        if sys.platform == "win32":
            fresh = mmap.mmap(-1, size, tagname=name)
        else:
            fresh = mmap.mmap(self._descriptor, size)
        self._name = name
        self._replace(fresh)
        return fresh

    def _replace(self, fresh: mmap.mmap) -> None:
        if self._map is not None:
            self._map.close()
        self._map = fresh


def split_arrays(value: Any, name: str) -> tuple[Any, Located]:
    """Separate a value into JSON and arrays.

    Args:
        value: an array, a JSON value (also numpy's numbers and paths), or lists and dicts of them.
        name: how an error calls it.

    Returns:
        The value with None in place of each array, and the arrays with where they were.

    Raises:
        UnsuitableValueError: something in it is neither.
    """
    located: Located = []
    return _split(value, name, (), located), located


def join_arrays(plain: Any, located: Located) -> Any:
    """Put arrays back to where `split_arrays` took them from."""
    for steps, array in located:
        if not steps:
            return array
        place = plain
        for step in steps[:-1]:
            place = place[step]
        place[steps[-1]] = array
    return plain


def write_files(located: Located, folder: Path, prefix: str) -> Packed:
    """Write each array to a .npy file of its own.

    Args:
        located: the arrays.
        folder: an existing folder.
        prefix: how the files' names begin.

    Returns:
        What `read_files` needs, as JSON.

    Raises:
        OSError: a file cannot be written.
    """
    entries = []
    for number, (steps, array) in enumerate(located):
        words = [_OTHER_THAN_FILE_NAME.sub("_", str(step)) for step in steps]
        file = "-".join([prefix, str(number), *words])[:_LONGEST_NAME] + ".npy"
        np.save(folder / file, np.asarray(array, order="C"), allow_pickle=False)
        entries.append({"steps": list(steps), "file": file})
    return {"arrays": entries}


def read_files(packed: Packed, folder: Path) -> Located:
    """Return the arrays that `write_files` wrote.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file holds something else than an array.
    """
    return [
        (tuple(entry["steps"]), np.load(folder / Path(entry["file"]).name, allow_pickle=False))
        for entry in packed["arrays"]
    ]


class ArrayExchange:
    """Packs values for the other side and unpacks what comes from there; used by both.

    Args:
        outgoing: memory for what is packed, or None to use files.
        incoming: memory that the other side writes to, or None.
        folder: an existing folder of this exchange alone, for arrays that find no memory.
        prefix: how this side's files begin.
        keep_files: whether files are left where they are once they are read.
    """

    def __init__(
        self,
        outgoing: SharedBlock | None,
        incoming: SharedBlock | None,
        folder: Path,
        prefix: str,
        *,
        keep_files: bool = False,
    ) -> None:
        self._outgoing = outgoing
        self._incoming = incoming
        self._folder = folder
        self._prefix = prefix
        self._keep_files = keep_files

    def pack(self, value: Any, name: str) -> Packed:
        """Return a value as JSON, with its arrays where the other side finds them.

        Raises:
            UnsuitableValueError: it cannot go to another process.
            OSError: there is room neither in memory nor in the folder.
        """
        plain, located = split_arrays(value, name)
        return {"value": plain, **self._store(located)}

    def unpack(self, packed: Packed) -> Any:
        """Return the value that the other side packed; its arrays are copies."""
        if not packed["arrays"]:
            return packed["value"]
        if "memory" in packed and self._incoming is not None:
            located = self._incoming.read(packed)
        else:
            located = read_files(packed, self._folder)
            for entry in () if self._keep_files else packed["arrays"]:
                (self._folder / entry["file"]).unlink()
        return join_arrays(packed["value"], located)

    def _store(self, located: Located) -> Packed:
        if not located:
            return {"arrays": []}
        if self._outgoing is not None:
            with contextlib.suppress(OSError, ValueError, OverflowError):  # no memory for so much: files
                return self._outgoing.write(located)
        return write_files(located, self._folder, self._prefix)


def _split(value: Any, name: str, steps: Steps, located: Located) -> Any:
    if isinstance(value, np.ndarray):
        located.append((steps, _checked(value, name)))
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return _plain_scalar(value)
    if isinstance(value, np.generic) and value.dtype.kind in "biufU":
        return float(value) if value.dtype.kind == "f" else _plain_scalar(value.item())
    if isinstance(value, PurePath):
        return str(value.absolute() if isinstance(value, Path) else value)
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise UnsuitableValueError(f"{name} has the key {key!r}; keys must be texts: write str(key)")
        return {str(key): _split(item, f"{name}[{key!r}]", (*steps, str(key)), located) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_split(item, f"{name}[{i}]", (*steps, i), located) for i, item in enumerate(value)]
    kind = type(value)
    raise UnsuitableValueError(
        f"{name} is a {kind.__module__}.{kind.__qualname__}, which cannot go to another process; possible are numpy "
        "arrays, numbers, texts, None, paths, and lists and dicts of them"
    )


def _plain_scalar(value: Any) -> Any:
    """Return a value of exactly the types that JSON knows; a subclass, such as an enumeration, may print otherwise."""
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value) if kind is not str else str.__str__(value)
    return value


def _checked(array: Array, name: str) -> Array:
    if isinstance(array, np.ma.MaskedArray):
        raise UnsuitableValueError(f"{name} is a masked array; send .filled(value), or data and mask as two arrays")
    if array.dtype.kind not in _SENDABLE or array.dtype.hasobject:
        raise UnsuitableValueError(
            f"{name} is an array of {array.dtype}; possible are arrays of numbers, truth values, times and texts "
            "of fixed length (a table: each column as an array of its own)"
        )
    return np.asarray(array)


def _make_memory() -> int:
    import fcntl

    descriptor = _open_memory()
    # Of a host without standard streams it may be 0, 1 or 2, which a worker has for something else.
    higher = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    return higher


def _open_memory() -> int:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # forbidden, as in some containers
            return os.memfd_create("external_modules")
    descriptor, path = tempfile.mkstemp(prefix="external_modules-")
    os.unlink(path)
    return descriptor


def _grow(descriptor: int, size: int) -> None:
    """Make the file larger, with its blocks: a write to a block that cannot be had would kill the process."""
    if sys.platform == "linux":
        os.posix_fallocate(descriptor, 0, size)
    elif sys.platform != "win32":
        zeros = bytes(_GRANULE)
        for offset in range(os.fstat(descriptor).st_size, size, _GRANULE):
            os.pwrite(descriptor, zeros[: size - offset], offset)
