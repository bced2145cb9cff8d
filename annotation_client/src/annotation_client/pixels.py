"""Reading pixels that a server sends as a pickled numpy array, without trusting the server.

A pickle is a program that may call anything. Here it is read in two steps. First its opcodes are listed, which runs
nothing, and any that arrays do not need ends the matter. Then it is executed with stand-ins for the few names that
arrays use: they note shape, type and bytes. Only after all of these were checked is a real array made.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from typing import TYPE_CHECKING, Any

from annotation_client.errors import ClientError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_BYTES = 2**31

_OPCODES = re.compile(
    "PROTO|FRAME|STOP|MARK|POP|POP_MARK|MEMOIZE|(LONG_)?BIN(PUT|GET)|(STACK_)?GLOBAL|REDUCE|BUILD|NONE|NEWTRUE|NEWFALSE|"
    "BININT[12]?|(SHORT_)?BINUNICODE|(SHORT_)?BINBYTES|BINBYTES8|BYTEARRAY8|READONLY_BUFFER|(EMPTY_)?TUPLE|TUPLE[123]"
)
_MAX_OPCODES = 200  # numpy writes about 40
_MAX_AXES = 8
_TYPES = re.compile(r"b1|[iu][1248]|f[248]")


def load_array(data: bytes) -> NDArray[Any]:
    """Return the numpy array in a pickle of protocol 2 to 5, as numpy 1 and 2 write it.

    Args:
        data: the pickle.

    Returns:
        A writable array of booleans, integers or floats in this machine's byte order.

    Raises:
        ClientError: the data is not the pickle of one such array of at most `MAX_BYTES` bytes.
    """
    try:
        _check_opcodes(data)
        result = _Unpickler(io.BytesIO(data)).load()
        if not isinstance(result, _Array):
            raise ValueError("not an array")
        return result.to_numpy()
    except MemoryError as error:
        raise ClientError("The image that the server sent does not fit into memory. Close other programs.") from error
    except Exception as error:  # a damaged pickle may raise anything
        raise ClientError(
            f"The server sent pixels in a form that is not accepted ({error}). Try again; if it stays, the server or "
            "something on the way to it changes what it sends."
        ) from error


def _check_opcodes(data: bytes) -> None:
    if len(data) > MAX_BYTES + 2**16:
        raise ValueError(f"more than {MAX_BYTES} bytes")
    for count, (opcode, argument, _) in enumerate(pickletools.genops(io.BytesIO(data))):
        if not _OPCODES.fullmatch(opcode.name):
            raise ValueError(f"it holds {opcode.name}")
        if count >= _MAX_OPCODES or (isinstance(argument, int) and "PUT" in opcode.name and argument >= _MAX_OPCODES):
            raise ValueError("it is too long for one array")


class _DType:
    """Stands for `numpy.dtype`."""

    def __init__(self, code: Any, align: Any = False, copy: Any = True) -> None:
        if not isinstance(code, str) or not _TYPES.fullmatch(code):
            raise ValueError(f"values of type {code!r}")
        self.code = code
        self.order = "="

    def __setstate__(self, state: Any) -> None:
        _version, order, *rest = state
        if order not in ("<", ">", "|", "=") or rest[:5] != [None, None, None, -1, -1]:
            raise ValueError("values of a composed type")
        self.order = order


class _Array:
    """Stands for `numpy.ndarray`."""

    state: tuple[Any, ...] = ()

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, column_major, data = state
        self.state = (data, dtype, shape, "F" if column_major else "C", None)

    def to_numpy(self) -> NDArray[Any]:
        import numpy as np

        data, dtype, shape, order, axes = self.state
        if not isinstance(data, (bytes, bytearray)) or not isinstance(dtype, _DType):
            raise ValueError("an array without numbers")
        if not isinstance(shape, tuple) or len(shape) > _MAX_AXES or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError("an impossible shape")
        if math.prod(shape) * int(dtype.code[1:]) != len(data):
            raise ValueError(f"{len(data)} bytes for an array of shape {shape}")
        stored = np.dtype(dtype.order + dtype.code)
        values: NDArray[Any] = np.frombuffer(data, dtype=stored)
        if order == "K" and isinstance(axes, tuple):  # axes that lie in another order in memory
            array = values.reshape(shape).transpose(axes)
        elif order in ("C", "F") and axes is None:
            array = values.reshape(shape, order=order)
        else:
            raise ValueError("an unknown order of axes")
        array = array.astype(stored.newbyteorder("="), copy=False)
        return array if array.flags.writeable else array.copy(order="K")


def _reconstruct(_subtype: Any, _shape: Any, _code: Any) -> _Array:
    return _Array()


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any, axis_order: Any = None) -> _Array:
    array = _Array()
    array.state = (data, dtype, shape, order, axis_order)
    return array


def _encode(text: Any, encoding: Any) -> bytes:
    """Stand for `codecs.encode`, by which protocols 0 to 2 write bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError("an unknown encoding")
    return text.encode("latin1")


_NAMES = {
    ("numpy", "ndarray"): None,  # only an argument of _reconstruct
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encode,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,  # numpy 1
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,  # numpy 2
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise ValueError(f"it asks for {module}.{name}")
        return _NAMES[module, name]
