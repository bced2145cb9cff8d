"""Label masks in files, and finding and pairing files; every file here is a real one."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from condensatenet.errors import InvalidLabelsError, InvalidOptionError
from condensatenet.files.images import find_images, pair_images_with_labels, read_labels, write_labels

Array = NDArray[Any]


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.float32, np.uint8, np.uint16, np.uint64])
@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_labels_keep_their_values(tmp_path: Path, dtype: Any, suffix: str) -> None:
    labels = np.array([[0, 1, 2], [100, 0, 7]], dtype)
    if np.dtype(dtype).kind != "u":
        labels[0, 0] = -1
    path = tmp_path / f"labels{suffix}"
    np.save(path, labels) if suffix == ".npy" else tifffile.imwrite(path, labels, photometric="minisblack")
    read = read_labels(path)
    assert read.dtype == np.int32
    np.testing.assert_array_equal(read, labels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_labels_from_png(tmp_path: Path, dtype: Any) -> None:
    labels = np.array([[0, 1, np.iinfo(dtype).max], [7, 0, 7]], dtype)
    Image.fromarray(labels).save(tmp_path / "labels.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "labels.png"), labels)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (np.array([[0.0, 1.5]], np.float32), "fractions"),
        (np.array([[0.0, np.nan]], np.float32), "NaN"),
        (np.array([[0.0, np.inf]], np.float32), "too large"),
        (np.array([[0, -2]], np.int16), "-2"),
        (np.array([[0, 2**31]], np.uint32), "2147483648"),
        (np.zeros((2, 2), np.complex64), "complex64"),
    ],
)
def test_values_that_are_no_labels(tmp_path: Path, labels: Array, reason: str) -> None:
    np.save(tmp_path / "labels.npy", labels)
    with pytest.raises(InvalidLabelsError, match=rf"labels\.npy.*{reason}"):
        read_labels(tmp_path / "labels.npy")
    with pytest.raises(InvalidLabelsError, match=reason):
        write_labels(tmp_path / "out.tif", labels)
    assert not (tmp_path / "out.tif").exists()


def test_colour_is_no_label_mask(tmp_path: Path) -> None:
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(tmp_path / "l.png")
    with pytest.raises(InvalidLabelsError, match=r"l\.png.*colour"):
        read_labels(tmp_path / "l.png")


@pytest.mark.parametrize(
    ("largest", "smallest", "dtype"),
    [
        (3, 0, np.uint16),
        (65535, 0, np.uint16),
        (65536, 0, np.uint32),
        (2**31 - 1, 0, np.uint32),
        (3, -1, np.int32),
        (70000, -1, np.int32),
    ],
)
def test_written_labels_are_small_and_come_back(tmp_path: Path, largest: int, smallest: int, dtype: Any) -> None:
    labels = np.zeros((300, 200), np.int64)
    labels[5:9, 5:9], labels[20:40, 3:5] = largest, smallest
    path = tmp_path / "new" / "labels.tif"
    write_labels(path, labels)
    np.testing.assert_array_equal(read_labels(path), labels)
    stored = tifffile.imread(path)
    assert stored.dtype == dtype and stored.shape == (300, 200)
    assert path.stat().st_size < labels.nbytes / 50


def test_writing_is_atomic(tmp_path: Path) -> None:
    path = tmp_path / "labels.tif"
    write_labels(path, np.ones((9, 9), np.uint8))
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask

    # A process with no room for the new file must leave the old one and no rests.
    script = (
        "import resource, signal, sys, numpy as np\n"
        "from condensatenet.files.images import write_labels\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "labels = np.random.default_rng(0).integers(0, 60000, (400, 400))\n"
        "write_labels(sys.argv[1], labels)\n"
    )
    failed = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert "File too large" in failed.stderr
    assert os.listdir(tmp_path) == ["labels.tif"]
    assert read_labels(path).sum() == 81


def test_labels_are_written_as_tiff_only(tmp_path: Path) -> None:
    with pytest.raises(InvalidOptionError, match=r"labels\.png.*\.tif"):
        write_labels(tmp_path / "labels.png", np.zeros((3, 3), int))
    with pytest.raises(InvalidLabelsError, match=r"\(3, 3, 3\)"):
        write_labels(tmp_path / "labels.tif", np.zeros((3, 3, 3), int))
    assert os.listdir(tmp_path) == []


# Finding and pairing


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()


def test_images_are_found_in_natural_order_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data"
    touch(folder, "f10.tif", "f2.TIF", "f1.tif", "notes.txt", "._f1.tif", "f1_seg.npy", "g.png", "[1].tif")
    touch(folder / "sub", "deep.tif")
    names = ["[1].tif", "f1.tif", "f2.TIF", "f10.tif", "g.png"]
    assert [path.name for path in find_images([str(folder)])] == names
    assert [path.name for path in find_images([folder / "g.png", folder / "f*", folder])] == names
    assert [path.name for path in find_images([str(folder / "[1].tif")])] == ["[1].tif"]
    assert [path.name for path in find_images([str(folder / "**" / "*.tif")])] == [
        "[1].tif",
        "f1.tif",
        "f10.tif",
        "deep.tif",
    ]
    monkeypatch.chdir(tmp_path)
    assert find_images(["data/g.png", str(folder / "g.png")]) == [Path("data/g.png")]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_images(["~/data/g.png"]) == [folder / "g.png"]


def test_what_is_not_found_is_named(tmp_path: Path) -> None:
    touch(tmp_path / "data", "notes.txt")
    for pattern, reason in [
        ("gone.tif", r"gone\.tif"),
        ("gone*.tif", r"gone\*\.tif.*\.png"),
        ("data", r"data.*\.jpg.*not in subfolders"),
        ("data/notes.txt", r"notes\.txt.*known type"),
    ]:
        with pytest.raises(InvalidOptionError, match=reason):
            find_images([str(tmp_path / pattern)])
    with pytest.raises(InvalidOptionError, match="No images were named"):
        find_images([])


def test_labels_are_paired_by_name(tmp_path: Path) -> None:
    images, labels = tmp_path / "images", tmp_path / "labels"
    touch(images, "a10.ome.tif", "a2.png", "b_mask.tif", "c.jpg", "d.tif", "e.tif", "f_mask.tif")
    touch(
        labels,
        "a10_cp_masks.png",
        "a2.tif",
        "b_mask_masks.tif",
        "c_labels.npy",
        "d_mask.ome.tif",
        "e_label.tif",
        "f_mask.png",
    )
    assert [(image.name, label.name) for image, label in pair_images_with_labels(images, labels)] == [
        ("a2.png", "a2.tif"),
        ("a10.ome.tif", "a10_cp_masks.png"),
        ("b_mask.tif", "b_mask_masks.tif"),
        ("c.jpg", "c_labels.npy"),
        ("d.tif", "d_mask.ome.tif"),
        ("e.tif", "e_label.tif"),
        ("f_mask.tif", "f_mask.png"),
    ]


def test_images_and_labels_in_one_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a.tif", "a_cp_masks.tif", "a_seg.npy", "b.tif", "b_masks.png")
    pairs = pair_images_with_labels(tmp_path, str(tmp_path))
    assert [(image.name, label.name) for image, label in pairs] == [
        ("a.tif", "a_cp_masks.tif"),
        ("b.tif", "b_masks.png"),
    ]


@pytest.mark.parametrize(
    ("image_names", "label_names", "reason"),
    [
        (["a.tif", "b.tif"], ["a.tif"], r"b\.tif without a label mask"),
        (["a.tif"], ["a.tif", "b_mask.tif"], r"b_mask\.tif without an image"),
        (["a.tif"], ["a.tif", "a_mask.tif"], r"a\.tif and a\.tif and a_mask\.tif belong"),
        (["a.tif", "a.png"], ["a.tif"], r"a\.png and a\.tif and a\.tif belong"),
        ([f"i{n}.tif" for n in range(11)], ["a.tif"], "and 4 more"),
        (["a.tif"], [], "No images in the folder"),
    ],
)
def test_images_without_a_clear_partner_are_named(
    tmp_path: Path, image_names: list[str], label_names: list[str], reason: str
) -> None:
    touch(tmp_path / "images", *image_names)
    touch(tmp_path / "labels", *label_names)
    with pytest.raises(InvalidOptionError, match=reason):
        pair_images_with_labels(tmp_path / "images", tmp_path / "labels")
    with pytest.raises(InvalidOptionError, match="no folder"):
        pair_images_with_labels(tmp_path / "images", tmp_path / "gone")
