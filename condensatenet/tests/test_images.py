"""Reading frames from image files, whole and damaged ones; every file here is a real one."""

from __future__ import annotations

import logging
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from condensatenet.errors import InvalidImageError
from condensatenet.files.images import read_frames, read_image, read_labels

Array = NDArray[Any]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def stack(rng: np.random.Generator) -> Array:
    return rng.integers(0, 60000, (2, 3, 2, 17, 23)).astype(np.uint16)


def grey16(rng: np.random.Generator) -> Array:
    return rng.integers(0, 65536, (19, 31)).astype(np.uint16)


# Stacks


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"imagej": True}, id="imagej"),
        pytest.param({"imagej": True, "compression": "zlib"}, id="imagej-zlib"),
        pytest.param({"ome": True}, id="ome"),
        pytest.param({"ome": True, "compression": "zlib", "bigtiff": True, "byteorder": ">"}, id="ome-big"),
        pytest.param({"truncate": True}, id="one page for all"),
        pytest.param({"truncate": True, "byteorder": ">"}, id="one page for all, big-endian"),
    ],
)
def test_every_plane_of_a_stack_is_a_frame_named_by_its_axes(tmp_path: Path, stack: Array, options: Any) -> None:
    path = tmp_path / ("cells.ome.tif" if options.get("ome") else "cells.tif")
    tifffile.imwrite(path, stack, photometric="minisblack", metadata={"axes": "TZCYX"}, **options)
    frames = list(read_frames(path))
    names = [f"cells_t{t}_z{z}_c{c}" for t in range(2) for z in range(3) for c in range(2)]
    assert [frame.name for frame in frames] == names
    assert [frame.index for frame in frames] == list(range(12))
    assert all(frame.image.dtype == np.uint16 and frame.image.dtype.isnative for frame in frames)
    np.testing.assert_array_equal([frame.image for frame in frames], stack.reshape(12, 17, 23))


def test_pages_without_axes_are_counted(tmp_path: Path, stack: Array) -> None:
    path = tmp_path / "plain.tiff"
    tifffile.imwrite(path, stack[0, :, 0], photometric="minisblack", metadata=None)
    assert [frame.name for frame in read_frames(path)] == ["plain_page0", "plain_page1", "plain_page2"]


def test_pages_of_different_sizes_are_series_and_previews_are_left_out(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    path = tmp_path / "mixed.tif"
    shapes = (8, 9), (5, 6), (7, 3)
    pages = [rng.integers(0, 255, shape).astype(np.uint8) for shape in shapes]
    with tifffile.TiffWriter(path) as writer:
        for page, kind in zip(pages, (0, 1, 0), strict=True):
            writer.write(page, photometric="minisblack", metadata=None, subfiletype=kind)
    frames = list(read_frames(path))
    assert [frame.name for frame in frames] == ["mixed_series0", "mixed_series1"]
    np.testing.assert_array_equal(frames[1].image, pages[2])


def test_a_single_plane_is_named_like_its_file(tmp_path: Path, rng: np.random.Generator) -> None:
    image = grey16(rng)
    tifffile.imwrite(tmp_path / "a b.ome.tif", image[None, None], photometric="minisblack", metadata={"axes": "TCYX"})
    (frame,) = read_frames(tmp_path / "a b.ome.tif")
    assert (frame.name, frame.index) == ("a b", 0)
    np.testing.assert_array_equal(frame.image, image)


def test_depths_and_channels_inside_a_page_are_planes(tmp_path: Path, rng: np.random.Generator) -> None:
    volume = rng.integers(0, 255, (16, 32, 32)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "v.tif", volume, photometric="minisblack", volumetric=True, tile=(16, 16, 16))
    frames = list(read_frames(tmp_path / "v.tif"))
    assert [frame.name for frame in frames[:2]] == ["v_z0", "v_z1"]
    np.testing.assert_array_equal([frame.image for frame in frames], volume)

    channels = rng.integers(0, 255, (9, 8, 2)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "c.tif", channels, photometric="minisblack", planarconfig="contig")
    frames = list(read_frames(tmp_path / "c.tif"))
    assert [frame.name for frame in frames] == ["c_s0", "c_s1"]
    np.testing.assert_array_equal(np.dstack([frame.image for frame in frames]), channels)

    guessed = rng.integers(0, 60000, (3, 9, 8)).astype(np.uint16)  # what older versions of tifffile call RGB
    tifffile.imwrite(tmp_path / "g.tif", guessed, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal([frame.image for frame in read_frames(tmp_path / "g.tif")], guessed)


def test_a_stack_is_read_one_plane_at_a_time(tmp_path: Path) -> None:
    plane = np.zeros((512, 512), np.uint16)
    for name, options in (("plain", {}), ("zlib", {"compression": "zlib"}), ("row", {"truncate": True})):
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, np.broadcast_to(plane, (40, 512, 512)), photometric="minisblack", **options)
        next(read_frames(path))  # imports
        tracemalloc.start()
        count = sum(1 for _ in read_frames(path))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == 40
        assert peak < 4 * plane.nbytes, name


# Types of files and of pixels


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.uint32, np.float32, np.float64])
@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_values_and_type_are_those_of_the_file(
    tmp_path: Path, rng: np.random.Generator, dtype: Any, suffix: str
) -> None:
    image = (rng.random((11, 13)) * 100 - (20 if np.dtype(dtype).kind in "if" else 0)).astype(dtype)
    path = tmp_path / f"image{suffix}"
    if suffix == ".npy":
        np.save(path, image.astype(np.dtype(dtype).newbyteorder(">")))
    else:
        tifffile.imwrite(path, image, photometric="minisblack", byteorder=">")
    read = read_image(path)
    assert read.dtype == dtype and read.dtype.isnative
    np.testing.assert_array_equal(read, image)


@pytest.mark.parametrize("bits", [8, 16])
def test_grey_png(tmp_path: Path, rng: np.random.Generator, bits: int) -> None:
    image = rng.integers(0, 2**bits, (14, 15)).astype(f"uint{bits}")
    Image.fromarray(image).save(tmp_path / "a.PNG")
    np.testing.assert_array_equal(read_image(tmp_path / "a.PNG"), image)


def test_grey_jpeg(tmp_path: Path) -> None:
    image = np.add.outer(np.arange(40), np.arange(50)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "a.jpg", quality=95)
    read = read_image(tmp_path / "a.jpg")
    assert read.shape == image.shape and read.dtype == np.uint8
    assert np.abs(read.astype(int) - image).max() <= 3


@pytest.mark.parametrize("name", ["a.tif", "a.png", "planar.tif"])
@pytest.mark.parametrize("alpha", [False, True])
def test_equal_channels_are_grey(tmp_path: Path, rng: np.random.Generator, name: str, alpha: bool) -> None:
    image = rng.integers(0, 256, (12, 10)).astype(np.uint8)
    channels = [image, image, image, *([np.full_like(image, 255)] if alpha else [])]
    path = tmp_path / name
    if name == "a.png":
        Image.fromarray(np.dstack(channels)).save(path)
    elif name == "a.tif":
        options = {"extrasamples": ["unassalpha"]} if alpha else {}
        tifffile.imwrite(path, np.dstack(channels), photometric="rgb", **options)
    else:
        options = {"extrasamples": ["unassalpha"]} if alpha else {}
        tifffile.imwrite(path, np.stack(channels), photometric="rgb", planarconfig="separate", **options)
    np.testing.assert_array_equal(read_image(path), image)


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.jpg"])
@pytest.mark.parametrize("changed", [0, 1, 2])
def test_colour_says_to_split_the_channels(tmp_path: Path, rng: np.random.Generator, name: str, changed: int) -> None:
    image = np.repeat(rng.integers(0, 200, (32, 32, 1)), 3, axis=2).astype(np.uint8)
    image[4:20, 4:20, changed] += 55
    path = tmp_path / name
    if name == "a.tif":
        tifffile.imwrite(path, image, photometric="rgb")
    else:
        Image.fromarray(image).save(path)
    with pytest.raises(InvalidImageError, match=rf"{name}.*Split"):
        read_image(path)


def test_transparency_that_varies_is_no_grey_image(tmp_path: Path, rng: np.random.Generator) -> None:
    grey = rng.integers(0, 256, (12, 10)).astype(np.uint8)
    for mode, channels in (("LA", [grey, grey]), ("RGBA", [grey] * 4)):
        path = tmp_path / f"{mode}.png"
        Image.fromarray(np.dstack(channels), mode=None).save(path)
        with pytest.raises(InvalidImageError, match="Split"):
            read_image(path)
    opaque = np.dstack([grey, np.full_like(grey, 255)])
    Image.fromarray(opaque).save(tmp_path / "a.png")
    options: dict[str, Any] = {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]}
    tifffile.imwrite(tmp_path / "a.tif", opaque, **options)
    for name in ("a.png", "a.tif"):
        np.testing.assert_array_equal(read_image(tmp_path / name), grey)


def test_16_bit_colour_png_is_refused_rather_than_read_in_8_bits(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "rgb16.png")
    data = bytearray((tmp_path / "rgb16.png").read_bytes())
    data[24] = 16  # the bit depth in the header
    (tmp_path / "rgb16.png").write_bytes(data)
    with pytest.raises(InvalidImageError, match="16-bit colours"):
        read_image(tmp_path / "rgb16.png")


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_one_bit_images_have_values_0_and_1(tmp_path: Path, rng: np.random.Generator, suffix: str) -> None:
    mask = rng.random((13, 21)) > 0.5
    path = tmp_path / f"mask{suffix}"
    if suffix == ".tif":
        tifffile.imwrite(path, mask, photometric="minisblack")
    else:
        Image.fromarray(mask).save(path)
    assert read_image(path).dtype == np.uint8
    np.testing.assert_array_equal(read_image(path), mask)
    np.testing.assert_array_equal(read_labels(path), mask)


def palette_png(path: Path, values: Array, palette: Array) -> None:
    image = Image.fromarray(values)
    image.putpalette(palette.astype(np.uint8).tobytes())
    image.save(path)


def test_palettes(tmp_path: Path, rng: np.random.Generator) -> None:
    values = rng.integers(0, 256, (16, 16)).astype(np.uint8)
    ramp = np.arange(256)
    inverted_grey = np.stack([255 - ramp] * 3, axis=1)
    palette_png(tmp_path / "inverted.png", values, inverted_grey)
    np.testing.assert_array_equal(read_image(tmp_path / "inverted.png"), 255 - values)

    green = np.stack([0 * ramp, ramp, 0 * ramp], axis=1)
    palette_png(tmp_path / "green.png", values, green)
    np.testing.assert_array_equal(read_image(tmp_path / "green.png"), values)

    picture = rng.integers(0, 256, (256, 3))
    palette_png(tmp_path / "picture.png", values, picture)
    with pytest.raises(InvalidImageError, match="palette"):
        read_image(tmp_path / "picture.png")
    # Coloured label masks: the palette is for the eye, the labels are the values.
    np.testing.assert_array_equal(read_labels(tmp_path / "picture.png"), values)


def test_tiff_palettes(tmp_path: Path, rng: np.random.Generator) -> None:
    values = rng.integers(0, 256, (16, 16)).astype(np.uint8)
    inverted = np.stack([(255 - np.arange(256)) * 257] * 3).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="palette", colormap=inverted)
    read = read_image(tmp_path / "a.tif")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, 255 - values)
    # In ImageJ a look-up table, even one that is not monotonous, only displays the intensities.
    fire_like = rng.integers(0, 65536, (3, 256)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "b.tif", values, imagej=True, photometric="palette", colormap=fire_like)
    np.testing.assert_array_equal(read_image(tmp_path / "b.tif"), values)


def test_lzw_stacks_are_read_without_further_packages(tmp_path: Path, rng: np.random.Generator) -> None:
    pages = rng.integers(0, 65536, (4, 30, 40)).astype(np.uint16)
    first, *others = [Image.fromarray(page) for page in pages]
    first.save(tmp_path / "lzw.tif", compression="tiff_lzw", save_all=True, append_images=others)
    np.testing.assert_array_equal([frame.image for frame in read_frames(tmp_path / "lzw.tif")], pages)


def test_a_compression_that_needs_a_package_names_it(tmp_path: Path, rng: np.random.Generator) -> None:
    if _has_imagecodecs():
        pytest.skip("imagecodecs is installed")
    tifffile.imwrite(tmp_path / "a.tif", grey16(rng), photometric="minisblack")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tiff:
        tiff.pages.first.tags["Compression"].overwrite(34887)  # LERC
    with pytest.raises(InvalidImageError, match=r"LERC.*pip install imagecodecs"):
        read_image(tmp_path / "a.tif")


def _has_imagecodecs() -> bool:
    try:
        import imagecodecs  # noqa: F401
    except ImportError:
        return False
    return True


# Damaged files

TRUNCATED = (
    *("plain.tif", "strips.tif", "tiles.tif", "pages.tif", "imagej.tif", "row.tif", "ome.ome.tif", "lzw.tif"),
    *("a.png", "a.jpg", "a.npy"),
)


def _saved(name: str, rng: np.random.Generator) -> Callable[[Path], None]:
    pages = rng.integers(0, 60000, (3, 40, 50)).astype(np.uint16)
    small = (pages[0] >> 8).astype(np.uint8)
    options: dict[str, Any] = {"photometric": "minisblack", "metadata": None}

    def one_by_one(path: Path) -> None:
        with tifffile.TiffWriter(path) as writer:
            for page in pages:
                writer.write(page, contiguous=False, **options)

    writers: dict[str, Callable[[Path], None]] = {
        "plain.tif": lambda path: tifffile.imwrite(path, pages, **options),
        "strips.tif": lambda path: tifffile.imwrite(path, pages, compression="zlib", rowsperstrip=7, **options),
        "tiles.tif": lambda path: tifffile.imwrite(path, pages, tile=(16, 16), **options),
        "pages.tif": one_by_one,
        "imagej.tif": lambda path: tifffile.imwrite(path, pages, imagej=True),
        "row.tif": lambda path: tifffile.imwrite(path, pages, photometric="minisblack", truncate=True),
        "ome.ome.tif": lambda path: tifffile.imwrite(path, pages, photometric="minisblack"),
        "lzw.tif": lambda path: Image.fromarray(pages[0]).save(path, compression="tiff_lzw"),
        "a.png": lambda path: Image.fromarray(small).save(path),
        "a.jpg": lambda path: Image.fromarray(small).save(path),
        "a.npy": lambda path: np.save(path, pages[0]),
    }
    return writers[name]


@pytest.mark.parametrize(
    "name",
    TRUNCATED,
)
def test_a_truncated_file_is_refused_or_complete(
    tmp_path: Path, rng: np.random.Generator, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, logger="tifffile")
    path = tmp_path / name
    _saved(name, rng)(path)
    data = path.read_bytes()
    frames = [frame.image for frame in read_frames(path)]
    refused = 0
    for size in [*range(0, len(data), len(data) // 40), *range(len(data) - 9, len(data))]:
        path.write_bytes(data[:size])
        try:
            left = [frame.image for frame in read_frames(path)]
        except InvalidImageError as error:
            assert str(path) in str(error)
            refused += 1
        else:  # only bytes that belong to no plane are missing
            np.testing.assert_array_equal(left, frames)
    assert refused >= 35


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpeg", ".npy"])
@pytest.mark.parametrize("content", [b"", b"these are my notes about the images\n" * 20, b"II*\0"])
def test_a_file_that_is_no_image_is_named(
    tmp_path: Path, suffix: str, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, logger="tifffile")
    path = tmp_path / f"notes{suffix}"
    path.write_bytes(content)
    for read in (read_image, read_labels, lambda path: list(read_frames(path))):
        with pytest.raises(InvalidImageError, match=rf"notes\{suffix}.*cannot be read"):
            read(path)


def test_missing_and_unknown_files(tmp_path: Path) -> None:
    with pytest.raises(InvalidImageError, match=r"gone\.tif.*no such file"):
        read_image(tmp_path / "gone.tif")
    (tmp_path / "folder.tif").mkdir()
    with pytest.raises(InvalidImageError, match="no such file"):
        read_image(tmp_path / "folder.tif")
    (tmp_path / "a.gif").write_bytes(b"GIF89a")
    with pytest.raises(InvalidImageError, match=r"a\.gif.*\.tif, "):
        read_image(tmp_path / "a.gif")


def test_npy_never_runs_code_and_holds_one_plane(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"outlines": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InvalidImageError, match=r"a\.npy.*allow_pickle"):
        read_image(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.zeros((2, 3, 4)))
    with pytest.raises(InvalidImageError, match=r"\(2, 3, 4\)"):
        read_image(tmp_path / "b.npy")


def test_a_missing_plane_of_an_ome_tiff_is_not_filled_up(tmp_path: Path, stack: Array) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, stack[0, :, 0], photometric="minisblack", metadata={"axes": "ZYX"})
    data = path.read_bytes()
    assert data.count(b'SizeZ="3"') == 1
    path.write_bytes(data.replace(b'SizeZ="3"', b'SizeZ="4"'))
    with pytest.raises(InvalidImageError, match="z3 is missing"):
        list(read_frames(path))


def test_read_image_wants_one_plane(tmp_path: Path, stack: Array) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack[0, 0], imagej=True, metadata={"axes": "CYX"})
    for read in (read_image, read_labels):
        with pytest.raises(InvalidImageError, match=r"several planes \(c0, c1, "):
            read(path)
