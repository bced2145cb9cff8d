"""Frames and label masks in image files: finding, pairing, reading and writing them."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from condensatenet.errors import InvalidImageError, InvalidLabelsError, InvalidOptionError
from condensatenet.files.atomic import atomic_write
from condensatenet.files.planes import Plane, is_image_name, known_types, read_planes
from condensatenet.labels import check_labels

_LABEL_SUFFIXES = ("_cp_masks", "_labels", "_label", "_masks", "_mask")


@dataclass(frozen=True, eq=False)
class Frame:
    """One 2-D image of a file.

    ``name`` is the file's stem, with the place on the other axes if the file has several planes (``cells_t0_z1_c2``);
    ``index`` counts the planes of the file from 0; ``image`` is (H, W) in the type that the file holds.
    """

    name: str
    index: int
    image: NDArray[Any]


def read_frames(path: str | Path) -> Iterator[Frame]:
    """Read the 2-D planes of a TIFF (also OME-TIFF and ImageJ stacks), PNG, JPEG or .npy file, one after the other.

    Colour images whose channels are equal are read as grey. Values are those of the file, except that a palette image
    with grey colours gives the greys. No more than one plane is held in memory.

    Raises:
        InvalidImageError: the file is missing, damaged, of an unknown type or in colour. A file that is damaged further
            back gives the planes before that first.
    """
    stem = file_stem(Path(path))
    for index, plane in enumerate(read_planes(path)):
        yield Frame(stem + plane.suffix, index, _intensities(plane, Path(path)))


def read_image(path: str | Path) -> NDArray[Any]:
    """Read a file that holds one plane, as (H, W) in the type of the file.

    Raises:
        InvalidImageError: as :func:`read_frames`, or the file holds several planes.
    """
    return _intensities(_only_plane(path), Path(path))


def read_labels(path: str | Path) -> NDArray[np.int32]:
    """Read a label mask as int32 (H, W): 0 background, > 0 instance ids, -1 not annotated (in signed types only).

    Of a palette image the palette is ignored: labels are the stored values, whatever their display colours.

    Raises:
        InvalidImageError: the file cannot be read or holds several planes.
        InvalidLabelsError: it is in colour or holds values that are no labels.
    """
    plane = _only_plane(path)
    if not _is_grey(plane):
        raise InvalidLabelsError(
            f"{path}: is a colour image, so its instances have no numbers. "
            "Export the label mask as a 16-bit grey TIFF or PNG, without a colour map burnt in."
        )
    return check_labels(plane.samples[0], str(path))


def write_labels(path: str | Path, labels: NDArray[Any]) -> None:
    """Write a label mask (H, W) as zlib-compressed TIFF in the smallest of uint16, uint32 and int32 that holds it.

    The file appears under its name when it is complete. :func:`read_labels` gives the same labels back.

    Raises:
        InvalidLabelsError: the array is no label mask.
        InvalidOptionError: the name does not end in .tif or .tiff.
    """
    import tifffile

    if Path(path).suffix.lower() not in (".tif", ".tiff"):
        raise InvalidOptionError(f"Label masks are written as TIFF; give {path} a name that ends in .tif.")
    labels = check_labels(labels)
    dtype = np.int32 if labels.min() < 0 else np.uint16 if labels.max() <= np.iinfo(np.uint16).max else np.uint32
    with atomic_write(path) as handle:
        tifffile.imwrite(handle, labels.astype(dtype), compression="zlib", photometric="minisblack")


def find_images(patterns: Iterable[str | Path]) -> list[Path]:
    """List the image files that files, folders (without their subfolders) and wildcards stand for.

    Returns:
        Every file once, in natural order (``frame2`` before ``frame10``).

    Raises:
        InvalidOptionError: one of the patterns leads to no image file.
    """
    expanded = [os.path.expanduser(pattern) for pattern in patterns]
    if not expanded:
        raise InvalidOptionError("No images were named. Give image files, folders, or wildcards such as 'data/*.tif'.")
    found: dict[Path, Path] = {}
    for pattern in expanded:
        for path in _expand(pattern):
            found.setdefault(path.resolve(), path)
    return sorted(found.values(), key=_natural_order)


def pair_images_with_labels(image_dir: str | Path, label_dir: str | Path) -> list[tuple[Path, Path]]:
    """Pair the images of one folder with the label masks of another (or the same) by name.

    The mask of ``cells.tif`` is called ``cells`` or ``cells_labels``, ``_label``, ``_masks``, ``_mask`` or
    ``_cp_masks``, with any known file type. In one folder for both, the files with such an ending are the masks.

    Raises:
        InvalidOptionError: a folder is missing or empty, or an image or a mask has no partner or more than one.
    """
    images, masks = _list_folder(Path(image_dir)), _list_folder(Path(label_dir))
    if os.path.samefile(image_dir, label_dir):
        masks = [path for path in masks if unlabelled_stem(path) != file_stem(path)]
        images = [path for path in images if unlabelled_stem(path) == file_stem(path)]
    by_name: dict[str, tuple[list[Path], list[Path]]] = {file_stem(path): ([], []) for path in images}
    for path in images:
        by_name[file_stem(path)][0].append(path)
    for path in masks:
        # An image may itself be called `x_mask`: an equal name goes first.
        name = file_stem(path) if file_stem(path) in by_name else unlabelled_stem(path)
        by_name.setdefault(name, ([], []))[1].append(path)
    problems = []
    for own, others in by_name.values():
        if len(own) != 1 or len(others) != 1:
            names = " and ".join(path.name for path in [*own, *others])
            lack = "" if own and others else " without a label mask" if own else " without an image"
            problems.append(names + (lack or " belong to one name"))
    if problems:
        shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        raise InvalidOptionError(
            f"Images in {image_dir} and label masks in {label_dir} do not pair up: {shown}. The mask of 'cells.tif' is "
            f"called 'cells' or 'cells' with one of {', '.join(_LABEL_SUFFIXES)}. Rename these files or move them away."
        )
    return [(own[0], others[0]) for own, others in by_name.values()]


def _only_plane(path: str | Path) -> Plane:
    with closing(read_planes(path)) as planes:
        plane = next(planes)
        another = next(planes, None)
    if another is not None:
        raise InvalidImageError(
            f"{path}: holds several planes ({plane.suffix[1:]}, {another.suffix[1:]}, ...) where one is needed. "
            "Save the one that you mean (time, z, channel) as a file of its own."
        )
    return plane


def _is_grey(plane: Plane) -> bool:
    colours = plane.samples[:-1] if plane.has_alpha else plane.samples
    if plane.has_alpha and plane.samples[-1].min() != plane.samples[-1].max():
        return False
    return all(np.array_equal(colours[0], other) for other in colours[1:])


def _intensities(plane: Plane, path: Path) -> NDArray[Any]:
    if not _is_grey(plane):
        raise InvalidImageError(
            f"{path}: is a colour image. Split its channels (in ImageJ: Image > Color > Split Channels) and use the "
            "one that shows the condensates."
        )
    image = plane.samples[0]
    if plane.palette is not None:
        image = _resolve_palette(image, plane.palette, path)
    if image.dtype == bool:
        image = image.astype(np.uint8)
    return np.ascontiguousarray(image, dtype=image.dtype.newbyteorder("="))


def _resolve_palette(values: NDArray[Any], palette: NDArray[Any], path: Path) -> NDArray[Any]:
    """Turn the values of a palette image into intensities.

    A palette of greys is looked up. One that gets brighter with every value is how a program displays intensities
    (green for GFP), which are then the values themselves. Any other is a picture in colour.
    """
    used = np.unique(values)
    if used[-1] >= palette.shape[1]:
        raise InvalidImageError(f"{path}: is damaged (a pixel has a colour that the palette does not have).")
    colours = palette[:, used]
    if (colours == colours[0]).all():
        grey = palette[0]
        if grey.dtype == np.uint16 and not (grey % 257).any():  # TIFF writes 8-bit palettes in 16 bits
            grey = (grey // 257).astype(np.uint8)
        image: NDArray[Any] = grey[values]
        return image
    if (np.diff(colours.sum(axis=0, dtype=np.int64)) > 0).all():
        return values
    raise InvalidImageError(
        f"{path}: is a picture with a colour palette, whose values are no intensities. Export the original in grey."
    )


def _expand(pattern: str) -> list[Path]:
    path = Path(pattern)
    if path.is_dir():
        return _list_folder(path)
    if path.is_file():
        if not is_image_name(path):
            raise InvalidOptionError(f"{pattern} is no image file of a known type ({known_types()}).")
        return [path]
    if not glob.has_magic(pattern):
        raise InvalidOptionError(f"There is no file or folder {pattern} (seen from {Path.cwd()}). Check the name.")
    paths = [path for path in map(Path, glob.glob(pattern, recursive=True)) if path.is_file() and is_image_name(path)]
    if not paths:
        raise InvalidOptionError(f"No image file matches {pattern} (looked for {known_types()}).")
    return paths


def _list_folder(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InvalidOptionError(f"There is no folder {folder}. Check the name.")
    paths = [path for path in folder.iterdir() if path.is_file() and is_image_name(path)]
    if not paths:
        raise InvalidOptionError(f"No images in the folder {folder} (looked for {known_types()}, not in subfolders).")
    return sorted(paths, key=_natural_order)


def _natural_order(path: Path) -> tuple[list[str | int], str]:
    parts = re.split(r"([0-9]+)", str(path).lower())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], str(path)


def file_stem(path: Path) -> str:
    """Return a file's name without its type (`cells` for `cells.ome.tif`)."""
    return re.sub(r"\.ome$", "", path.stem, flags=re.IGNORECASE)


def unlabelled_stem(path: Path) -> str:
    """Return the name of the image that a label mask belongs to (`cells` for `cells_labels.tif`)."""
    stem = file_stem(path)
    return next((stem.removesuffix(suffix) for suffix in _LABEL_SUFFIXES if stem.endswith(suffix)), stem)
