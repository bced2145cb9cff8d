"""Archives of models: what is packed is what is unpacked, and nothing else ever reaches the disk."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import random
import shutil
import tarfile
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from model_files import contents, make_model

import model_archive
from model_archive import MANIFEST_FILE, ModelStoreError, extract_archive, write_archive

DESCRIPTION = {"name": "mine", "base_model": "pretrained"}

Entry = tuple[tarfile.TarInfo, bytes]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_model(tmp_path / "model")


@pytest.fixture
def archive(model: Path, tmp_path: Path) -> Path:
    write_archive(model, tmp_path / "model.tar.gz", DESCRIPTION)
    return tmp_path / "model.tar.gz"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "inside" / "target").mkdir(parents=True)
    return tmp_path / "inside" / "target"


def pack(path: Path, entries: list[Entry], *, format: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w:gz", format=format) as tar:
        for entry, data in entries:
            if entry.isreg():
                entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def regular(name: str, data: bytes) -> Entry:
    return tarfile.TarInfo(name), data


def special(name: str, kind: bytes, linkname: str = "") -> Entry:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, linkname
    return entry, b""


def model_entries(model: Path, prefix: str = "") -> list[Entry]:
    return [regular(prefix + name, data) for name, data in contents(model).items()]


# ---- packing


def test_every_file_of_a_training_comes_back(model: Path, target: Path, tmp_path: Path) -> None:
    for name in ("training_curves.png", "held_out_overlay.png"):
        (model / name).write_bytes(b"picture of " + name.encode())
    write_archive(model, tmp_path / "archive", DESCRIPTION)
    manifest = extract_archive(tmp_path / "archive", target)
    assert contents(target) == contents(model)
    assert manifest is not None
    assert manifest.items() >= DESCRIPTION.items()
    assert set(manifest["files"]) == set(contents(model))


def test_the_shipped_model_comes_back(target: Path, tmp_path: Path) -> None:
    from condensatenet.files.pretrained import SHIPPED_MODEL

    write_archive(SHIPPED_MODEL, tmp_path / "archive", DESCRIPTION)
    extract_archive(tmp_path / "archive", target)
    assert contents(target) == contents(SHIPPED_MODEL)


def test_all_that_a_training_writes_is_expected() -> None:
    from condensatenet.training import result

    written = {result.REPORT_FILE, result.CURVES_FILE, result.OVERLAY_FILE, result.CARD_FILE}
    assert set(model_archive.FILE_LIMITS) == {"config.json", "model.safetensors", MANIFEST_FILE} | written


def test_the_same_model_gives_the_same_bytes(model: Path, archive: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    write_archive(copy, tmp_path / "another_name", DESCRIPTION)
    assert (tmp_path / "another_name").read_bytes() == archive.read_bytes()
    assert archive.read_bytes()[3:8] == bytes(5)  # gzip's flags (no name) and time


def test_the_manifest_comes_first_and_other_tools_can_read_all(model: Path, archive: Path) -> None:
    with tarfile.open(archive) as tar:
        assert tar.getnames() == [MANIFEST_FILE, *sorted(contents(model))]
        assert all(member.mode == 0o644 and member.mtime == 0 for member in tar)


def test_other_files_stay_out(model: Path, target: Path, tmp_path: Path) -> None:
    expected = contents(model)
    (model / "modeling_condensatenet.py").write_text("raise SystemExit", encoding="utf-8")
    (model / MANIFEST_FILE).write_text("{}", encoding="utf-8")
    (model / "checkpoint").mkdir()
    write_archive(model, tmp_path / "archive", DESCRIPTION)
    extract_archive(tmp_path / "archive", target)
    assert contents(target) == expected


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("config.json", None, "holds no config.json"),
        ("model.safetensors", None, "holds no model.safetensors"),
        ("config.json", b"{", "config.json: not valid JSON"),
        ("model.safetensors", b"", "not a safetensors file"),
        ("model.safetensors", b"\x02\0\0\0\0\0\0\0{}", "not a safetensors file"),
        ("README.md", bytes(2**20 + 1), "README.md of model is too large"),
    ],
)
def test_what_is_no_model_is_not_packed(
    model: Path, tmp_path: Path, name: str, data: bytes | None, reason: str
) -> None:
    if data is None:
        (model / name).unlink()
    else:
        (model / name).write_bytes(data)
    with pytest.raises(ModelStoreError, match=reason):
        write_archive(model, tmp_path / "archive", DESCRIPTION)


# ---- archives made by hand


@pytest.mark.parametrize("prefix", ["", "./", "my model/", "Zellkörper/"])
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_an_archive_without_a_manifest_is_read(
    model: Path, target: Path, tmp_path: Path, prefix: str, format: int
) -> None:
    entries = model_entries(model, prefix)
    for entry, _ in entries:
        entry.mtime = 1.5  # makes Python write a header of its own
    pack(tmp_path / "archive", [special(prefix or "./", tarfile.DIRTYPE), *entries], format=format)
    assert extract_archive(tmp_path / "archive", target) is None
    assert contents(target) == contents(model)


def test_other_files_are_passed_over(model: Path, target: Path, tmp_path: Path) -> None:
    others = ["modeling_condensatenet.py", "._config.json", "a/b/config.json", "x" * 300, "checkpoint/optimizer.pt"]
    entries = [regular(name, b"something else") for name in others] + model_entries(model)
    pack(tmp_path / "archive", entries)
    extract_archive(tmp_path / "archive", target)
    assert contents(target) == contents(model)


# ---- archives that are not to be trusted

HOSTILE: dict[str, tuple[Callable[[], Entry], str]] = {
    "parent": (lambda: regular("../config.json", b"{}"), "outside of its folder"),
    "parent inside": (lambda: regular("a/../../b", b"{}"), "outside of its folder"),
    "absolute": (lambda: regular("/tmp/evil", b"{}"), "outside of its folder"),
    "link": (lambda: special("config.json", tarfile.SYMTYPE, "/etc/passwd"), "a link"),
    "link of another name": (lambda: special("more", tarfile.SYMTYPE, ".."), "a link"),
    "hard link": (lambda: special("README.md", tarfile.LNKTYPE, "model.safetensors"), "a link"),
    "character device": (lambda: special("config.json", tarfile.CHRTYPE), "a device"),
    "block device": (lambda: special("config.json", tarfile.BLKTYPE), "a device"),
    "fifo": (lambda: special("config.json", tarfile.FIFOTYPE), "a pipe"),
    "unknown kind": (lambda: special("config.json", b"V"), "of a kind that no model has"),
    "too large": (lambda: regular("config.json", bytes(2**20 + 1)), "config.json that is too large"),
}


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_a_hostile_entry_refuses_the_archive(
    model: Path, target: Path, tmp_path: Path, hostile: str, last: bool
) -> None:
    make_entry, reason = HOSTILE[hostile]
    entries = [entry for entry in model_entries(model) if not last or entry[0].name != make_entry()[0].name]
    entries.insert(len(entries) if last else 0, make_entry())
    pack(tmp_path / "archive", entries)
    before = sorted(path for path in tmp_path.rglob("*") if target not in path.parents)
    with pytest.raises(ModelStoreError, match=reason):
        extract_archive(tmp_path / "archive", target)
    assert all(path.is_file() and not path.is_symlink() for path in target.iterdir())
    assert sorted(path for path in tmp_path.rglob("*") if target not in path.parents) == before


def test_a_name_in_an_extension_header_leads_nowhere(model: Path, target: Path, tmp_path: Path) -> None:
    entries = model_entries(model)
    entries[0][0].pax_headers = {"path": "../../escaped"}
    pack(tmp_path / "archive", entries)
    with tarfile.open(tmp_path / "archive") as tar:
        assert "../../escaped" in tar.getnames()
    extract_archive(tmp_path / "archive", target)
    assert contents(target) == contents(model)
    assert not list(tmp_path.rglob("escaped"))


def test_a_file_that_is_there_twice_refuses_the_archive(model: Path, target: Path, tmp_path: Path) -> None:
    pack(tmp_path / "archive", model_entries(model) + model_entries(model, "a/")[:1])
    with pytest.raises(ModelStoreError, match="twice"):
        extract_archive(tmp_path / "archive", target)


def test_two_manifests_refuse_the_archive(model: Path, target: Path, tmp_path: Path) -> None:
    pack(tmp_path / "archive", [regular(MANIFEST_FILE, b"{}"), regular(MANIFEST_FILE, b"{}"), *model_entries(model)])
    with pytest.raises(ModelStoreError, match=r"manifest\.json twice"):
        extract_archive(tmp_path / "archive", target)


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickle was loaded",)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_is_no_model(model: Path, target: Path, tmp_path: Path, protocol: int) -> None:
    (model / "model.safetensors").write_bytes(pickle.dumps([_Evil(), bytes(100)], protocol=protocol))
    pack(tmp_path / "archive", model_entries(model))
    with pytest.raises(ModelStoreError, match=r"^model\.safetensors: (a pickle|truncated or not a safetensors file)"):
        extract_archive(tmp_path / "archive", target)


def test_an_archive_of_something_else_is_no_model(target: Path, tmp_path: Path) -> None:
    pack(tmp_path / "archive", [regular("photo.jpg", b"...")])
    with pytest.raises(ModelStoreError, match=r"holds no config\.json"):
        extract_archive(tmp_path / "archive", target)


@pytest.mark.parametrize("data", [b"", b"no archive", b"\x1f\x8b", gzip.compress(b""), gzip.compress(b"no tar" * 999)])
def test_what_is_no_archive_is_called_damaged(target: Path, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "archive").write_bytes(data)
    with pytest.raises(ModelStoreError, match="damaged"):
        extract_archive(tmp_path / "archive", target)


def test_a_bomb_is_stopped(target: Path, tmp_path: Path) -> None:
    entry = tarfile.TarInfo("zeros")
    entry.size = 2**33 - 1
    block = gzip.compress(bytes(2**24), compresslevel=1)
    (tmp_path / "archive").write_bytes(gzip.compress(entry.tobuf(tarfile.USTAR_FORMAT)) + block * 100)
    assert (tmp_path / "archive").stat().st_size < 2**23
    with pytest.raises(ModelStoreError, match="unpacks to more than"):
        extract_archive(tmp_path / "archive", target)
    assert not list(target.iterdir())


def test_a_bomb_of_entries_is_stopped(target: Path, tmp_path: Path) -> None:
    entries = [regular(f"{number}", b"") for number in range(model_archive.MAX_ENTRIES + 1)]
    pack(tmp_path / "archive", entries)
    with pytest.raises(ModelStoreError, match="more than 1,000 entries"):
        extract_archive(tmp_path / "archive", target)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_huge_name_does_not_fill_the_memory(target: Path, tmp_path: Path, kind: bytes) -> None:
    entry = tarfile.TarInfo("name")
    entry.type, entry.size = kind, 2**27
    data = gzip.compress(entry.tobuf(tarfile.USTAR_FORMAT)) + gzip.compress(b"a" * 2**24, compresslevel=1) * 8
    (tmp_path / "archive").write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(ModelStoreError):
            extract_archive(tmp_path / "archive", target)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [b"\x80" + bytes(10) + b"\x01", b"\xff" * 12, b"77777777777\0"])
@pytest.mark.parametrize("kind", [b"0", b"x", b"5"])
def test_odd_sizes_are_refused(target: Path, tmp_path: Path, size: bytes, kind: bytes) -> None:
    header = bytearray(tarfile.TarInfo("config.json").tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = size
    header[156:157] = kind
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "archive").write_bytes(gzip.compress(bytes(header) + bytes(1024)))
    with pytest.raises(ModelStoreError):
        extract_archive(tmp_path / "archive", target)


# ---- damage


@pytest.fixture
def small_archive(tmp_path: Path) -> Path:
    small = make_model(tmp_path / "small", weights_bytes=50, report=False)
    write_archive(small, tmp_path / "small.tar.gz", DESCRIPTION)
    return tmp_path / "small.tar.gz"


def test_every_flipped_bit_is_noticed_or_without_effect(small_archive: Path, tmp_path: Path) -> None:
    original, expected = small_archive.read_bytes(), contents(tmp_path / "small")
    damaged, choice, refused = tmp_path / "damaged", random.Random(0), 0
    for position in range(len(original)):
        data = bytearray(original)
        data[position] ^= 1 << choice.randrange(8)
        damaged.write_bytes(data)
        with tempfile.TemporaryDirectory(dir=tmp_path) as target:
            try:
                extract_archive(damaged, Path(target))
            except ModelStoreError:
                refused += 1
            else:
                assert contents(Path(target)) == expected
    # The rest are bytes of gzip's header, such as the time, and other ways to write down the same zeros.
    assert refused > 0.95 * len(original)


def test_a_truncated_archive_is_noticed_at_every_length(small_archive: Path, tmp_path: Path) -> None:
    original, damaged = small_archive.read_bytes(), tmp_path / "damaged"
    for length in range(len(original)):
        damaged.write_bytes(original[:length])
        with tempfile.TemporaryDirectory(dir=tmp_path) as target, pytest.raises(ModelStoreError, match="damaged"):
            extract_archive(damaged, Path(target))


@pytest.mark.parametrize("tail", [b"x", bytes(100) + b"x", gzip.compress(b"more")])
def test_something_behind_the_end_is_noticed(archive: Path, target: Path, tail: bytes) -> None:
    archive.write_bytes(archive.read_bytes() + tail)
    with pytest.raises(ModelStoreError, match="damaged"):
        extract_archive(archive, target)


def _manifest(model: Path, archive: Path, change: Callable[[dict[str, Any]], object]) -> list[Entry]:
    with tarfile.open(archive) as tar:
        file = tar.extractfile(MANIFEST_FILE)
        assert file is not None
        manifest = json.load(file)
    change(manifest)
    return [regular(MANIFEST_FILE, json.dumps(manifest).encode()), *model_entries(model)]


def test_a_file_that_was_exchanged_in_a_whole_archive_is_noticed(
    model: Path, archive: Path, target: Path, tmp_path: Path
) -> None:
    other = make_model(tmp_path / "other", seed=1)
    (model / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    pack(archive, _manifest(model, archive, lambda manifest: None))
    with pytest.raises(ModelStoreError, match=r"model\.safetensors is not the file"):
        extract_archive(archive, target)


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "not listed": lambda manifest: manifest["files"].pop("config.json"),
    "listed but missing": lambda manifest: manifest["files"].update({"training_curves.png": {"size": 1, "sha256": ""}}),
    "no list": lambda manifest: manifest.pop("files"),
    "list of a wrong kind": lambda manifest: manifest.update(files=["config.json"]),
    "entry of a wrong kind": lambda manifest: manifest["files"].update({"config.json": 5}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_manifest_that_does_not_fit_is_noticed(model: Path, archive: Path, target: Path, change: str) -> None:
    pack(archive, _manifest(model, archive, CHANGES[change]))
    with pytest.raises(ModelStoreError, match="damaged"):
        extract_archive(archive, target)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"[" * 200_000, b"\xff"])
def test_a_manifest_that_cannot_be_read_is_noticed(model: Path, target: Path, tmp_path: Path, text: bytes) -> None:
    pack(tmp_path / "archive", [regular(MANIFEST_FILE, text), *model_entries(model)])
    with pytest.raises(ModelStoreError, match="damaged"):
        extract_archive(tmp_path / "archive", target)


def test_a_manifest_may_list_files_of_a_later_version(model: Path, archive: Path, target: Path) -> None:
    later = _manifest(model, archive, lambda manifest: manifest["files"].update({"new.html": {"size": 1}}))
    pack(archive, [*later, regular("new.html", b"x")])
    assert extract_archive(archive, target) is not None
    assert contents(target) == contents(model)
