"""What goes to a worker and comes back is the same, whichever way it goes."""

from __future__ import annotations

import enum
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calling_behaving_worker import SCRIPT, open_module

from external_modules.calls.shared_arrays import SharedBlock
from external_modules.errors import ExternalModuleError, WorkerError
from external_modules.external_module import ExternalModule

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ExternalModule]]:
    folder = tmp_path_factory.mktemp("arrays")
    opened = {"memory": open_module(folder), "files": open_module(folder, shared_memory=False)}
    yield opened
    for module in opened.values():
        module.close()


@pytest.fixture(params=["memory", "files", "one-shot"])
def call(modules: dict[str, ExternalModule], request: pytest.FixtureRequest) -> Call:
    module = modules.get(request.param, modules["memory"])
    mode = "one-shot" if request.param == "one-shot" else "server"
    return lambda what, **arguments: module.call(SCRIPT, mode=mode, what=what, **arguments)


def arrays() -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(0)
    image = random.integers(0, 65535, (37, 53), dtype=np.uint16)
    found = {
        kind: random.integers(0, 200, (5, 7, 3)).astype(kind)
        for kind in ("uint8", "uint16", "int32", "int64", "float32", "float64", "bool", "complex64", "float16")
    }
    return {
        **found,
        "empty": np.zeros((0, 5), np.float32),
        "empty_in_the_middle": np.zeros((3, 0, 4), np.int32),
        "of_no_dimension": np.array(3.5, np.float32),
        "cut_out": image[3:30:2, ::-3],
        "transposed": image.T,
        "fortran": np.asfortranarray(image),
        "broadcast": np.broadcast_to(np.float32(2), (4, 6)),
        "big_endian": image.astype(">u2"),
        "big_endian_real": image.astype(">f4"),
        "not_a_number": np.array([np.nan, np.inf, -np.inf, -0.0]),
        "labels": np.arange(70_000, dtype=np.int32).reshape(700, 100),
        "texts": np.array(["nucleus", "\u00b5m"]),
        "times": np.array(["2026-11-22T12:00"], dtype="datetime64[ms]"),
    }


def assert_same(result: object, expected: np.ndarray[Any, Any]) -> None:
    assert isinstance(result, np.ndarray)
    assert (result.dtype, result.dtype.byteorder) == (expected.dtype, expected.dtype.byteorder)
    assert result.shape == expected.shape
    np.testing.assert_array_equal(result, expected)
    assert result.flags.writeable and result.flags.c_contiguous


def test_every_array_comes_back_as_it_was(call: Call) -> None:
    sent = arrays()
    before = {name: array.copy() for name, array in sent.items()}
    result = call("echo", **sent)
    assert list(result) == list(sent)
    for name, array in before.items():
        assert_same(result[name], array)
        np.testing.assert_array_equal(sent[name], array)


def test_arrays_within_lists_and_dicts(call: Call) -> None:
    one, two = np.arange(3), np.ones((2, 2), bool)
    value = {"images": [one, {"mask": two, "name": "a"}], "$array": 1, "": None}
    result = call("echo", value=value)["value"]
    assert_same(result["images"][0], one)
    assert_same(result["images"][1]["mask"], two)
    assert (result["images"][1]["name"], result["$array"], result[""]) == ("a", 1, None)


def test_an_array_far_inside(call: Call) -> None:
    value: Any = np.ones(3)
    for _ in range(9):
        value = {"a name of thirty letters or more": value}
    result = call("echo", value=value)["value"]
    for _ in range(9):
        (result,) = result.values()
    assert_same(result, np.ones(3))


def test_an_array_alone_with_many_labels(call: Call) -> None:
    assert_same(call("labels", side=300), np.arange(90_000, dtype=np.int32).reshape(300, 300))


def test_json_values(call: Call) -> None:
    class Colour(str, enum.Enum):
        RED = "red"

    values = {
        "nothing": None,
        "text": 'quo"tes\n\u2603\U0001f52c',
        "number": 3,
        "large": 2**80,
        "real": 0.1,
        "truth": False,
        "list": [1, [2, {"a": None}]],
        "empty": {},
    }
    result = call("echo", **values)
    assert result == values
    assert [type(value) for value in result.values()] == [type(value) for value in values.values()]
    result = call("echo", a=np.float32(0.5), b=np.uint16(3), c=np.bool_(True), d=Path("x/y"), e=(1, 2), f=Colour.RED)
    assert result == {"a": 0.5, "b": 3, "c": True, "d": str(Path("x/y").absolute()), "e": [1, 2], "f": "red"}
    scalars = call("return", kind="scalars")
    assert np.isnan(scalars.pop("e"))
    assert scalars == {"a": 1.5, "b": 3, "c": True, "d": [1, 2]}
    assert call("return", kind="none") is None


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("set", "the worker's result is a builtins.set"),
        ("nested", "the worker's result['table'][1]['deep'] is a builtins.bytes"),
        ("objects", "the worker's result is an array of object"),
        ("records", "each column as an array of its own"),
        ("masked", "masked array"),
        ("number keys", "has the key 1"),
        ("function", "builtin_function_or_method"),
        ("cycle", "recursion"),
    ],
)
def test_a_result_that_cannot_be_sent_is_named(modules: dict[str, ExternalModule], kind: str, text: str) -> None:
    module = modules["memory"]
    worker = module.call(SCRIPT, what="pid")
    with pytest.raises(WorkerError, match=r"behaving_worker\.py") as caught:
        module.call(SCRIPT, what="return", kind=kind)
    assert text in str(caught.value)
    assert module.call(SCRIPT, what="pid") == worker


@pytest.mark.parametrize("value", [object(), {3: 4}, np.array([None]), b"bytes", np.ma.masked_array([1], [True])])
def test_an_argument_that_cannot_be_sent_is_named(modules: dict[str, ExternalModule], value: object) -> None:
    module = modules["memory"]
    worker = module.call(SCRIPT, what="pid")
    for mode in ("server", "one-shot"):
        with pytest.raises(ExternalModuleError, match=r"arguments\['image'\]"):
            module.call(SCRIPT, mode=mode, what="echo", image=value)  # type: ignore[arg-type]
    assert module.call(SCRIPT, what="pid") == worker


def test_the_function_may_keep_and_change_its_arrays(modules: dict[str, ExternalModule]) -> None:
    image = np.zeros((500, 500), np.uint16)
    module = modules["memory"]
    kept = [module.call(SCRIPT, what="keep", image=image + value) for value in (10, 20, 30)][-1]
    assert kept == [11, 21, 31]


def test_results_of_growing_and_shrinking_size(modules: dict[str, ExternalModule]) -> None:
    module = modules["memory"]
    results = [module.call(SCRIPT, what="labels", side=side) for side in (10, 2500, 3, 3000, 1200)]
    for side, result in zip((10, 2500, 3, 3000, 1200), results, strict=True):
        assert_same(result, np.arange(side * side, dtype=np.int32).reshape(side, side))
    sent = [np.full((side, side), side, np.uint16) for side in (4000, 20, 5000)]
    for image in sent:
        assert_same(module.call(SCRIPT, what="echo", image=image)["image"], image)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory")
def test_a_result_for_which_there_is_no_room_is_told(modules: dict[str, ExternalModule]) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    module = modules["memory"]
    worker = module.call(SCRIPT, what="pid")

    def leave_little_room() -> bool:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**25, before[1]))
        return False

    try:
        with pytest.raises(ExternalModuleError, match="The result cannot be taken from the worker"):
            module.call(SCRIPT, what="labels", side=6000, should_abort=leave_little_room)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert module.call(SCRIPT, what="pid") == worker


@pytest.mark.skipif(sys.platform == "win32", reason="memory without a descriptor")
def test_memory_that_nobody_wrote_to_is_not_read() -> None:
    block = SharedBlock()
    os.ftruncate(block.descriptor, 2**20)
    with pytest.raises(OSError, match="went with the process"):
        block.read({"arrays": [], "memory": {"name": None, "size": 2**20}})
    block.close()


def test_files_of_a_server_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with open_module(tmp_path, shared_memory=False) as module:
        for _ in range(3):
            module.call(SCRIPT, what="echo", a=np.ones(3), b=np.ones(4))
        (folder,) = tmp_path.glob("external_modules-*")
        assert list(folder.iterdir()) == []
        module.call(SCRIPT, mode="one-shot", what="echo", a=np.ones(3))
        assert list(tmp_path.glob("external_modules-*")) == [folder]
    assert list(tmp_path.glob("external_modules-*")) == []


def test_a_kept_call_can_be_computed_again_by_hand(modules: dict[str, ExternalModule], tmp_path: Path) -> None:
    folder = tmp_path / "kept call"
    image = np.arange(12, dtype=np.uint16).reshape(3, 4)
    for _ in range(2):  # the second call takes the place of the first
        modules["memory"].call(SCRIPT, mode="one-shot", keep_folder=folder, what="echo", image=image, sigma=1.5)
    names = {path.name for path in folder.iterdir()}
    files = {"argument-0-image.npy", "result-0-image.npy"}
    assert names == {"README.txt", "request.json", "result.json", *files}
    (folder / "result.json").unlink()
    (folder / "result-0-image.npy").unlink()
    command = (folder / "README.txt").read_text().strip().splitlines()[-1]
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, cwd="/", stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (0, "")
    assert "the result is in" in done.stdout
    result = json.loads((folder / "result.json").read_text())
    assert result["value"] == {"image": None, "sigma": 1.5}
    np.testing.assert_array_equal(np.load(folder / "result-0-image.npy"), image)


def test_a_kept_call_that_fails_fails_by_hand_too(modules: dict[str, ExternalModule], tmp_path: Path) -> None:
    with pytest.raises(WorkerError):
        modules["memory"].call(SCRIPT, mode="one-shot", keep_folder=tmp_path / "kept", what="raise")
    command = (tmp_path / "kept" / "README.txt").read_text().strip().splitlines()[-1]
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 1
    assert "in do_raise" in done.stderr and "no objects in" in done.stderr


def test_a_call_is_kept_though_its_script_cannot_be_run(modules: dict[str, ExternalModule], tmp_path: Path) -> None:
    module, folder = modules["memory"], tmp_path / "kept"
    (module.folder.path / "bad.py").write_text("import no_such_package\n")
    with pytest.raises(WorkerError, match="no_such_package"):
        module.call("bad.py", mode="one-shot", keep_folder=folder, image=np.ones(3))
    command = (folder / "README.txt").read_text().strip().splitlines()[-1]
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 1 and "no_such_package" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files")
def test_a_folder_in_which_a_call_could_not_be_kept_can_be_used_again(
    modules: dict[str, ExternalModule], tmp_path: Path
) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, before[1]))
    try:
        with pytest.raises(ExternalModuleError, match="cannot be passed"):
            modules["memory"].call(
                SCRIPT, mode="one-shot", keep_folder=tmp_path, what="echo", a=np.ones(3), b=np.ones(100_000)
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "argument-0-a.npy").exists()
    modules["memory"].call(SCRIPT, mode="one-shot", keep_folder=tmp_path, what="count")
    assert {path.name for path in tmp_path.iterdir()} == {"README.txt", "request.json", "result.json"}


def test_a_folder_with_other_files_is_not_taken(modules: dict[str, ExternalModule], tmp_path: Path) -> None:
    (tmp_path / "image.npy").write_bytes(b"mine")
    with pytest.raises(ExternalModuleError, match="is not empty"):
        modules["memory"].call(SCRIPT, mode="one-shot", keep_folder=tmp_path, what="pid")
    with pytest.raises(ExternalModuleError, match="one-shot"):
        modules["memory"].call(SCRIPT, keep_folder=tmp_path / "new", what="pid")
    assert (tmp_path / "image.npy").read_bytes() == b"mine"
