"""Archives of models that condensatenet_module unpacks, and what it refuses."""

from __future__ import annotations

import gzip
import importlib.util
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from condensatenet_model_files import MODEL_FILES, MODULE, entry, pack, write_model


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a model with weights and sizes of its own."""
    return write_model(tmp_path_factory.mktemp("models") / "my droplets ü", bias=1.5, min_size=40)


def unpack_model() -> Callable[[Path, Path], Path]:
    specification = importlib.util.spec_from_file_location("model_files_of_module", MODULE / "model_files.py")
    assert specification is not None and specification.loader is not None
    model_files = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(model_files)
    return model_files.unpack_model


REFUSED = {
    "up": ([entry("../config.json")], "outside"),
    "up_within": ([entry("model/../../evil")], "outside"),
    "up_windows": ([entry("..\\evil")], "outside"),
    "absolute": ([entry("/config.json")], "outside"),
    "symlink": ([entry("model.safetensors", tarfile.SYMTYPE, "/etc/passwd")], "link"),
    "hardlink": ([entry("config.json", tarfile.LNKTYPE, "../x")], "link"),
    "device": ([entry("zero", tarfile.CHRTYPE)], "device"),
    "pipe": ([entry("pipe", tarfile.FIFOTYPE)], "link, a device or another"),
    "twice": ([entry("config.json")], "twice"),
    "many": ([entry(f"{number}.txt") for number in range(1001)], "too much"),
    "long_name": ([entry("x" * 2**21)], "damaged"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_an_archive_must_not_hold(trained: Path, tmp_path: Path, case: str) -> None:
    entries, said = REFUSED[case]
    archive = pack(trained, tmp_path / "model.tar.gz", *((information, b"{}") for information in entries))
    store = tmp_path / "deep" / "store"
    store.parent.mkdir()
    with pytest.raises(ValueError, match=rf"The model .* cannot be used: .*{said}"):
        unpack_model()(archive, store)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["deep", "model.tar.gz", "store"]


def claim_size(content: bytes, size: int) -> bytes:
    """Return a tar with one entry, weights that claim to be of some size."""
    information = entry("model.safetensors")
    information.size = size
    return information.tobuf() + content


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (claim_size(b"", 2**30 + 1), "too large"),
        (claim_size(b"", 2**31), "too much"),
        (claim_size(b"short", 2**20), "damaged"),
        (b"no tar" * 200, "damaged"),
        (b"", "damaged"),
    ],
)
def test_archives_that_lie_or_are_none(tmp_path: Path, content: bytes, said: str) -> None:
    archive = tmp_path / "model.tar.gz"
    for whole in (gzip.compress(content), content):
        archive.write_bytes(whole)
        with pytest.raises(ValueError, match=said if whole != content else "damaged"):
            unpack_model()(archive, tmp_path / "store")


def test_every_damage_of_an_archive_is_noticed(trained: Path, tmp_path: Path) -> None:
    archive = pack(trained, tmp_path / "model.tar.gz")
    whole = archive.read_bytes()
    for place in [200, 300, len(whole) // 3, len(whole) // 2, len(whole) - 6]:  # the last in the checksum
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        archive.write_bytes(damaged)
        with pytest.raises(ValueError, match="cannot be used"):
            unpack_model()(archive, tmp_path / "store")
    with gzip.open(archive, "wb") as file:
        file.write(gzip.decompress(whole) + b"more")
    with pytest.raises(ValueError, match="something follows its end"):
        unpack_model()(archive, tmp_path / "store")


def test_the_last_used_archives_stay_unpacked(trained: Path, tmp_path: Path) -> None:
    unpack, store = unpack_model(), tmp_path / "store"
    first = unpack(pack(trained, tmp_path / "first.tar.gz"), store)
    os.utime(first, (1, 1))
    kept = first.stat().st_ino
    folders = []
    for number in range(9):
        more = (entry("README.md"), str(number).encode())
        folders.append(unpack(pack(trained, tmp_path / f"{number}.tar.gz", more), store))
        os.utime(folders[-1], (2 + number, 2 + number))
        if number == 3:
            assert unpack(tmp_path / "first.tar.gz", store).stat().st_ino == kept
    assert set(store.iterdir()) == {first, *folders[2:]}
    for name in MODEL_FILES:
        assert (first / name).read_bytes() == (trained / name).read_bytes()
