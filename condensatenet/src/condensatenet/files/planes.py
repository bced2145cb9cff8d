"""The 2-D planes of an image file as they are stored, one at a time; what the values mean is decided in ``images``."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from condensatenet.errors import CondensateNetError, InvalidImageError

if TYPE_CHECKING:
    from PIL import Image
    from tifffile import TiffFile, TiffFrame, TiffPage, TiffPageSeries

_GREY_PHOTOMETRICS = (0, 1)  # TIFF MinIsWhite, MinIsBlack
_PALETTE_PHOTOMETRIC = 3
_SEPARATE_PLANES = 2  # TIFF PlanarConfiguration
_ALPHA_SAMPLES = (1, 2)  # TIFF ExtraSamples: associated and unassociated alpha


@dataclass(frozen=True, eq=False)
class Plane:
    """One stored plane.

    ``samples`` is (S, H, W) in the file's own type: one sample for grey, more for colour, the last of them
    transparency if ``has_alpha``. ``palette`` (3, K) says which colour each value stands for. ``suffix`` tells the
    planes of one file apart, for instance ``_t0_c1``; it is empty if there is only one.
    """

    suffix: str
    samples: NDArray[Any]
    has_alpha: bool = False
    palette: NDArray[Any] | None = None


def read_planes(path: str | Path) -> Generator[Plane]:
    """Read a file plane by plane, so that memory holds one of them.

    Raises:
        InvalidImageError: there is no such file, its type is not known, or it is damaged.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InvalidImageError(f"{path}: files of this type cannot be read. Convert it to one of {known_types()}.")
    if not path.is_file():
        raise InvalidImageError(f"{path}: there is no such file. Check the name and the folder.")
    try:
        yield from reader(path)
    except CondensateNetError:
        raise
    except Exception as error:  # the libraries raise nearly every type there is for a damaged file
        reason = str(error) or type(error).__name__
        raise InvalidImageError(
            f"{path}: cannot be read; it is damaged, incomplete or not what its name says ({reason}). "
            "Copy or export it again."
        ) from error


def known_types() -> str:
    """The file types that can be read, for messages."""
    return ", ".join(_READERS)


def is_image_name(path: Path) -> bool:
    """Whether a file is, by its name, one that a folder is searched for.

    Hidden files are not (macOS puts a ``._name.tif`` beside every file on foreign disks), nor are the ``_seg.npy``
    files of Cellpose, which hold a pickled dictionary.
    """
    return path.suffix.lower() in _READERS and not path.name.startswith(".") and not path.name.endswith("_seg.npy")


def _read_npy(path: Path) -> Iterator[Plane]:
    with path.open("rb") as handle:
        array = np.lib.format.read_array(handle, allow_pickle=False)
    if array.ndim != 2:
        raise InvalidImageError(f"{path}: holds an array of shape {array.shape}; save one (H, W) array per file.")
    yield Plane("", array[None])


def _read_png_or_jpeg(path: Path) -> Iterator[Plane]:
    from PIL import Image

    with path.open("rb") as handle:
        header = handle.read(26)
    # Pillow would silently keep only the upper 8 of the 16 bits.
    is_png, bits, colour_type = header[:8] == b"\x89PNG\r\n\x1a\n", header[24:25], header[25:26]
    if is_png and bits == b"\x10" and colour_type != b"\x00":
        raise InvalidImageError(f"{path}: is a PNG with 16-bit colours. Save each channel as a grey PNG or TIFF.")
    try:
        with warnings.catch_warnings():
            # A large image of one's own is no attack; Pillow still refuses twice that size.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                plane = _pillow_plane(image, "")
    except Image.DecompressionBombError as error:
        raise InvalidImageError(f"{path}: is too large for a PNG or JPEG file. Save it as TIFF.") from error
    yield plane


def _pillow_plane(image: Image.Image, suffix: str) -> Plane:
    samples = np.asarray(image)
    palette = None
    if image.mode == "P":
        palette = np.asarray(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3).T
    samples = samples[None] if samples.ndim == 2 else np.moveaxis(samples, 2, 0)
    return Plane(suffix, samples, image.mode in ("LA", "RGBA"), palette)


def _read_tiff(path: Path) -> Iterator[Plane]:
    import tifffile

    with tifffile.TiffFile(path) as tiff, _PillowPages() as pillow_pages:
        # The first image may be marked reduced by odd writers; any other that is, is a preview.
        series = [s for i, s in enumerate(tiff.series) if i == 0 or not s.keyframe.is_reduced]
        _check_page_chain(tiff)
        for number, one_series in enumerate(series):
            prefix = f"_series{number}" if len(series) > 1 else ""
            yield from _read_series(one_series, prefix, pillow_pages)


def _check_page_chain(tiff: TiffFile) -> None:
    """Refuse a file that ends before its last page: tifffile logs that and goes on with the pages that are left."""
    position = tiff.pages.next_page_offset
    if position is None:
        return
    tiff.filehandle.seek(position)
    if any(tiff.filehandle.read(tiff.tiff.offsetsize)):
        raise ValueError(f"the file ends after page {len(tiff.pages)}, but more follow")


def _read_series(series: TiffPageSeries, prefix: str, pillow_pages: _PillowPages) -> Iterator[Plane]:
    """Read the planes of one image series; the axes before those of a page (time, z, channel, ...) name them."""
    keyframe = series.keyframe
    axes = series.axes[: len(series.axes) - len(keyframe.axes)]
    shape = series.shape[: len(axes)]
    one_page_each = len(series.pages) == math.prod(shape)
    if not one_page_each and series.dataoffset is None:
        raise ValueError(f"{math.prod(shape)} planes are announced and {len(series.pages)} stored")
    for number, index in enumerate(np.ndindex(*shape)):
        if one_page_each:
            page = series.pages[number]
            if page is None:
                raise ValueError(f"plane{_suffix(axes, index)} is missing; it may be in a file that lies elsewhere")
            array = _read_page(page, keyframe, pillow_pages)
        else:
            array = _read_contiguous(series, number)
        yield from _split_page(array, keyframe, prefix + _suffix(axes, index))


def _read_page(page: TiffPage | TiffFrame, keyframe: TiffPage, pillow_pages: _PillowPages) -> NDArray[Any]:
    import tifffile

    try:
        return page.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        # LZW is common, and Pillow (libtiff) reads it without imagecodecs, which tifffile needs for it.
        path = Path(page.parent.filehandle.path)
        array = pillow_pages.read(path, page.index) if isinstance(page.index, int) else None
        if array is None or array.shape != keyframe.shape or array.dtype.newbyteorder("=") != keyframe.dtype:
            scheme = tifffile.COMPRESSION(keyframe.compression).name
            raise InvalidImageError(
                f"{path}: is compressed in a way ({scheme}) that only the package imagecodecs can read. Install it "
                "(pip install imagecodecs) or save the image uncompressed or with zlib (deflate)."
            ) from error
        return array


def _read_contiguous(series: TiffPageSeries, number: int) -> NDArray[Any]:
    """Read one plane of a stack whose pixels lie in a row behind a single page, as ImageJ writes stacks over 4 GiB."""
    keyframe = series.keyframe
    assert series.dataoffset is not None and keyframe.dtype is not None
    plane_size = math.prod(keyframe.shape)
    handle = keyframe.parent.filehandle
    handle.seek(series.dataoffset + number * plane_size * keyframe.dtype.itemsize)
    array = handle.read_array(keyframe.dtype.newbyteorder(keyframe.parent.byteorder), plane_size)
    return array.reshape(keyframe.shape)


def _split_page(array: NDArray[Any], keyframe: TiffPage, suffix: str) -> Iterator[Plane]:
    """Split a page with several depths, or with samples that are channels and not a colour, into planes."""
    axes = keyframe.axes
    order = [*(i for i, a in enumerate(axes) if a not in "SYX"), *(axes.index(a) for a in "SYX" if a in axes)]
    array = array.transpose(order)
    if "S" not in axes:
        array = array[..., None, :, :]
    inner_axes = "".join(a for a in axes if a not in "SYX")
    has_alpha = any(extra in _ALPHA_SAMPLES for extra in keyframe.extrasamples)
    # Planes of more than 8 bits, stored apart, are red, green and blue only in a guess of older tifffile versions.
    guessed_colour = keyframe.planarconfig == _SEPARATE_PLANES and array.dtype.itemsize > 1
    is_grey = keyframe.photometric in _GREY_PHOTOMETRICS or guessed_colour
    channels = is_grey and array.shape[-3] > 1 and not has_alpha
    palette = None
    if keyframe.photometric == _PALETTE_PHOTOMETRIC and not keyframe.parent.is_imagej:  # ImageJ: only for display
        palette = keyframe.colormap
    for index in np.ndindex(*array.shape[:-3]):
        samples, name = array[index], suffix + _suffix(inner_axes, index)
        if channels:
            for channel in range(len(samples)):
                yield Plane(f"{name}_s{channel}", samples[channel : channel + 1])
        else:
            yield Plane(name, samples, has_alpha, palette)


def _suffix(axes: str, index: tuple[int, ...]) -> str:
    # I and Q are tifffile's letters for an axis without a meaning.
    return "".join(f"_{'page' if axis in 'IQ' else axis.lower()}{i}" for axis, i in zip(axes, index, strict=True))


class _PillowPages:
    """TIFF pages read by Pillow, which finds a page by walking from the one before: the file stays open."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._images: dict[Path, Image.Image] = {}

    def __enter__(self) -> _PillowPages:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def read(self, path: Path, page: int) -> NDArray[Any] | None:
        """Return the page, or None if Pillow does not know its kind either."""
        from PIL import Image, UnidentifiedImageError

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            try:
                if path not in self._images:
                    self._images[path] = self._stack.enter_context(Image.open(path, formats=("TIFF",)))
                self._images[path].seek(page)
            except UnidentifiedImageError:
                return None
            return np.array(self._images[path])


_READERS: dict[str, Callable[[Path], Iterator[Plane]]] = {
    ".tif": _read_tiff,
    ".tiff": _read_tiff,
    ".png": _read_png_or_jpeg,
    ".jpg": _read_png_or_jpeg,
    ".jpeg": _read_png_or_jpeg,
    ".npy": _read_npy,
}
