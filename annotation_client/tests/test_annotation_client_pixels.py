"""Pixels arrive exactly, and a pickle that is anything else than pixels does nothing."""

from __future__ import annotations

import os
import pickle
import pickletools
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from annotation_client import pixels
from annotation_client.errors import ClientError
from annotation_client.pixels import load_array

TYPES = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "b1"]


def example(code: str, shape: tuple[int, ...] = (5, 7, 1)) -> NDArray[Any]:
    size = int(np.prod(shape)) * np.dtype(code).itemsize
    raw = np.random.default_rng(3).integers(0, 2 if code == "b1" else 256, size, np.uint8).tobytes()
    array = np.frombuffer(raw, code).reshape(shape)
    return np.nan_to_num(array) if array.dtype.kind == "f" else array


def other_numpy(data: bytes) -> bytes:
    """The same pickle as the other major version of numpy writes it."""
    new, old = b"numpy._core.", b"numpy.core."
    here, there = (new, old) if new in data else (old, new)
    assert here in data
    if data[1] < 4:  # names in a text line
        return data.replace(here, there)
    at = data.index(here)
    end = at + data[at - 1]
    name = data[at:end].replace(here, there)
    # the frame's length changes with the name's
    frame = data.index(b"\x95")
    assert frame == 2
    length = int.from_bytes(data[3:11], "little") + len(name) - (end - at)
    return data[:3] + length.to_bytes(8, "little") + data[11 : at - 1] + bytes([len(name)]) + name + data[end:]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("code", TYPES)
@pytest.mark.parametrize("order", ["<", ">"])
def test_arrays_arrive_exactly(code: str, order: str, protocol: int) -> None:
    array = example(code)
    sent = array.astype(array.dtype.newbyteorder(order))
    for data in (pickle.dumps(sent, protocol), other_numpy(pickle.dumps(sent, protocol))):
        result = load_array(data)
        assert result.dtype == array.dtype and result.dtype.isnative
        assert result.flags.writeable
        np.testing.assert_array_equal(result, array)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(example("u2", (5, 7))),
        example("u2", (5, 7, 3)).transpose(1, 0, 2),
        example("u2", (5, 7, 3)).transpose(2, 0, 1),
        example("u2", (6, 8))[::2, ::3],
        example("u2", (6, 8))[::-1],
        example("u2", (3, 1)).T,
        np.array(7, np.uint16),
        example("u2", (1, 2, 3, 4, 5)),
    ],
    ids=str,
)
def test_any_order_in_memory_arrives(array: NDArray[Any], protocol: int) -> None:
    np.testing.assert_array_equal(load_array(pickle.dumps(array, protocol)), array)


def test_what_numpy_writes_for_axes_in_another_order_is_read() -> None:
    """Newer versions of numpy write such an array without copying it first."""
    array = example("u2", (4, 3, 2)).transpose(1, 2, 0)
    data = Calls(
        ("numpy._core.numeric", "_frombuffer"),
        (array.transpose(2, 0, 1).tobytes(), np.dtype("u2"), (4, 3, 2), "K", (1, 2, 0)),
    )
    np.testing.assert_array_equal(load_array(data.pickled()), array)


def test_a_read_only_array_arrives_writable() -> None:
    array = example("u2")
    array.flags.writeable = False
    assert load_array(pickle.dumps(array, 5)).flags.writeable


def test_a_frame_of_8_mb_arrives() -> None:
    array = np.random.default_rng(0).integers(0, 65536, (2048, 2048, 1), np.uint16)
    np.testing.assert_array_equal(load_array(pickle.dumps(array, 5)), array)


class Calls:
    """Writes a pickle that calls something by name, whatever it is."""

    def __init__(self, name: tuple[str, str], arguments: tuple[Any, ...], state: Any = None) -> None:
        self.name = name
        self.arguments = arguments
        self.state = state

    def pickled(self) -> bytes:
        module, name = self.name
        arguments = pickle.dumps(self.arguments, 5)[2:-1]
        if arguments[:1] == b"\x95":
            arguments = arguments[9:]
        state = b"" if self.state is None else pickle.dumps(self.state, 3)[2:-1] + b"b"
        return b"\x80\x05c" + f"{module}\n{name}\n".encode() + arguments + b"R" + state + b"."


class Runs:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def attacks(proof: Path) -> dict[str, bytes]:
    write = f"open({str(proof)!r}, 'w').close()"
    reconstruct = ("numpy.core.multiarray", "_reconstruct")
    frombuffer = ("numpy.core.numeric", "_frombuffer")
    dtype = np.dtype("u2")
    array = np.zeros((2, 2), np.uint16)
    good = pickle.dumps(array, 5)
    return {
        "os.system": pickle.dumps(Runs(os.system, f"touch {proof}"), 2),
        "os.system, protocol 5": pickle.dumps(Runs(os.system, f"touch {proof}"), 5),
        "os.system, protocol 0": pickle.dumps(Runs(os.system, f"touch {proof}"), 0),
        "eval": pickle.dumps(Runs(eval, f"__import__('os').system('touch {proof}')")),
        "exec": pickle.dumps(Runs(exec, write)),
        "eval, old name": Calls(("__builtin__", "eval"), (write,)).pickled(),
        "open": pickle.dumps(Runs(open, str(proof), "w")),
        "getattr": Calls(("builtins", "getattr"), ("", "join")).pickled(),
        "import": pickle.dumps(Runs(__import__, "antigravity")),
        "numpy.load": Calls(("numpy", "load"), (str(proof),)).pickled(),
        "numpy.save": Calls(("numpy", "save"), (str(proof), 1)).pickled(),
        "numpy.fromfile": Calls(("numpy", "fromfile"), ("/etc/passwd", "u1")).pickled(),
        "numpy.memmap": Calls(("numpy", "memmap"), (str(proof), "u1", "w+", 0, (4,))).pickled(),
        "numpy.core.multiarray.fromfile": Calls(("numpy.core.multiarray", "fromfile"), ("/etc/passwd",)).pickled(),
        "dotted name": Calls(("numpy", "dtype.__class__.mro"), ()).pickled(),
        "the array class itself": Calls(("numpy", "ndarray"), ((2**40,),)).pickled(),
        "codecs.decode": Calls(("_codecs", "decode"), (b"x", "zip")).pickled(),
        "codecs.encode to something else": Calls(("_codecs", "encode"), ("x", "idna")).pickled(),
        "objects": pickle.dumps(np.array([{}, Runs(os.system, f"touch {proof}")], object)),
        "texts": pickle.dumps(np.array(["a", "b"])),
        "records": pickle.dumps(np.zeros(2, [("a", "u1"), ("b", "u2")])),
        "dates": pickle.dumps(np.zeros(2, "M8[s]")),
        "complex": pickle.dumps(np.zeros(2, complex)),
        "huge shape": Calls(frombuffer, (b"", dtype, (2**31, 2**31), "C")).pickled(),
        "huge shape in a state": Calls(
            reconstruct, (None, (0,), b"b"), (1, (2**31, 2**31), dtype, False, b"")
        ).pickled(),
        "shape that overflows to the size": Calls(frombuffer, (b"", dtype, (2**32, 2**32), "C")).pickled(),
        "negative shape": Calls(frombuffer, (b"\0" * 8, dtype, (-2, -2), "C")).pickled(),
        "shape with a wildcard": Calls(frombuffer, (b"\0" * 8, dtype, (-1, 2), "C")).pickled(),
        "shape of booleans": Calls(frombuffer, (b"\0\0", dtype, (True,), "C")).pickled(),
        "shape of floats": Calls(frombuffer, (b"\0\0", dtype, (1.0,), "C")).pickled(),
        "too many axes": Calls(frombuffer, (b"\0\0", dtype, (1,) * 40, "C")).pickled(),
        "too few bytes": Calls(frombuffer, (b"\0" * 7, dtype, (2, 2), "C")).pickled(),
        "too many bytes": Calls(frombuffer, (b"\0" * 9, dtype, (2, 2), "C")).pickled(),
        "wrong axes": Calls(frombuffer, (b"\0" * 8, dtype, (2, 2), "K", (0, 0))).pickled(),
        "axes without their order": Calls(frombuffer, (b"\0" * 8, dtype, (2, 2), "K")).pickled(),
        "unknown order": Calls(frombuffer, (b"\0" * 8, dtype, (2, 2), "A")).pickled(),
        "values that are a text": Calls(frombuffer, ("\0" * 8, dtype, (2, 2), "C")).pickled(),
        "type that is a text": Calls(frombuffer, (b"\0" * 8, "u2", (2, 2), "C")).pickled(),
        "values that are a list": Calls(
            reconstruct, (None, (0,), b"b"), (1, (2, 2), dtype, False, [1, 2, 3, 4])
        ).pickled(),
        "an array without state": Calls(reconstruct, (None, (0,), b"b")).pickled(),
        "a number": pickle.dumps(7),
        "a list of arrays": pickle.dumps([array]),
        "a tuple of arrays": pickle.dumps((array, array)),
        "a type": pickle.dumps(dtype),
        "a numpy scalar": pickle.dumps(np.uint16(3)),
        "a masked array": pickle.dumps(np.ma.masked_array(array)),
        "a dict": pickle.dumps({"a": 1}),
        "a persistent id": b"\x80\x03X\x01\x00\x00\x00aQ.",
        "an extension": b"\x80\x03\x82\x01.",
        "a memo at a huge place": b"\x80\x03Kar\xff\xff\xff\x7f.",
        "a text memo at a huge place": b"Ka" + b"p2147483647\n.",
        "a huge announced text": b"\x80\x05\x8e" + (2**60).to_bytes(8, "little") + b"x",
        "a huge number of opcodes": b"\x80\x03" + b"N0" * 100_000 + b"N.",
        "an out of band buffer": b"\x80\x05\x97.",
        "nothing": b"",
        "noise": bytes(range(256)),
        "cut at the end": good[:-3],
        "cut in the middle": good[: len(good) // 2],
        "JSON": b'{"message": "no"}',
        "a TIFF": b"II*\0\x08\0\0\0",
        "a page": b"<html></html>",
    }


@pytest.mark.parametrize("name", sorted(attacks(Path("x"))))
def test_anything_else_is_refused_and_does_nothing(name: str, tmp_path: Path) -> None:
    data = attacks(tmp_path / "proof")[name]
    with pytest.raises(ClientError):
        load_array(data)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a memo at a huge place", "too long for one array"),
        ("a huge number of opcodes", "too long for one array"),
        ("a persistent id", "holds BINPERSID"),
        ("an extension", "holds EXT1"),
        ("objects", "holds EMPTY_LIST"),
        ("os.system, protocol 0", "holds PUT"),
    ],
)
def test_a_strange_program_is_not_even_started(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ClientError, match=reason):
        load_array(attacks(tmp_path / "proof")[name])


def test_the_attacks_would_work_on_an_ordinary_reader(tmp_path: Path) -> None:
    """Otherwise the test above proves nothing."""
    for name in ("os.system", "os.system, protocol 5", "exec", "open"):
        proof = tmp_path / name
        result = pickle.loads(attacks(proof.with_name("proof"))[name])
        if hasattr(result, "close"):
            result.close()
        (tmp_path / "proof").unlink()


@pytest.mark.parametrize("name", ["os.system, protocol 5", "objects", "huge shape", "numpy.load", "a number"])
def test_each_line_of_defence_holds_alone(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "_check_opcodes", lambda data: None)
    with pytest.raises(ClientError):
        load_array(attacks(tmp_path / "proof")[name])
    assert list(tmp_path.iterdir()) == []


def test_a_payload_over_the_limit_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "MAX_BYTES", 1000)
    load_array(pickle.dumps(np.zeros(900, np.uint8)))
    with pytest.raises(ClientError, match="more than 1000 bytes"):
        load_array(pickle.dumps(np.zeros(70_000, np.uint8)))


@given(data=st.binary(max_size=200), place=st.integers(0, 200), length=st.integers(0, 20))
def test_damaged_pickles_give_an_array_or_our_error(data: bytes, place: int, length: int) -> None:
    good = pickle.dumps(np.arange(6, dtype=np.uint16).reshape(2, 3), 5)
    for damaged in (data, good[:place] + data[:length] + good[place + length :]):
        with suppress(ClientError):
            assert isinstance(load_array(damaged), np.ndarray)


def test_numpy_needs_few_opcodes() -> None:
    for protocol in (2, 3, 4, 5):
        data = pickle.dumps(np.zeros((1,) * 8, ">u2"), protocol)
        assert len(list(pickletools.genops(data))) < pixels._MAX_OPCODES / 2
