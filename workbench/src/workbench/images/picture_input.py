"""PNG and JPEG files for import."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workbench.errors import InvalidImageError
from workbench.images.input_files import AXES, Description, InputFile

if TYPE_CHECKING:
    from PIL.Image import Image

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY = 0  # PNG colour type
_MOST_PIXELS = 178_956_970  # as Pillow has it unless another library lifts its limit


class PictureInput(InputFile):
    """A PNG or JPEG file: grey with 1 to 16 bits, a palette, or colours with 8 or 16 bits."""

    _samples: NDArray[Any] | None = None

    def close(self) -> None:
        """Forget the pixels until they are read again."""
        self._samples = None

    def _describe(self) -> Description:
        samples = self._read({})
        return Description(
            sizes=dict.fromkeys(AXES, 1),
            shape=samples.shape[1:],
            dtype=self._stored_dtype(samples.dtype),
            colour=len(samples) == 3,
        )

    def _read(self, index: Mapping[str, int]) -> NDArray[Any]:
        if self._samples is None:
            samples = self._decode()
            if len(samples) in (2, 4):
                self._check_opaque(samples[-1])
                samples = samples[:-1]
            self._samples = samples
        return self._samples

    def _decode(self) -> NDArray[Any]:
        """Give the samples (S, H, W), transparency last."""
        with self.path.open("rb") as file:
            header = file.read(26)
        # Pillow would keep only the upper 8 of the 16 bits.
        deep = header[:8] == _SIGNATURE and header[24] == 16 and header[25] != _GREY
        with _opened(self) as image:
            return _decode_with_gdal(self) if deep else _decode_with_pillow(image)


@contextmanager
def _opened(file: InputFile) -> Iterator[Image]:
    """Open a picture whose size is bearable; nothing of it is decoded yet."""
    from PIL import Image

    too_large = InvalidImageError(f"{file.path}: is too large for a file of this type. Save it as TIFF.")
    with warnings.catch_warnings():
        # A large image of one's own is no attack.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            image = Image.open(file.path, formats=("PNG", "JPEG"))
        except Image.DecompressionBombError as error:
            raise too_large from error
        with image:
            if image.width * image.height > _MOST_PIXELS:
                raise too_large
            yield image


def _decode_with_pillow(image: Image) -> NDArray[Any]:
    mode = "RGBA" if "transparency" in image.info else "RGB"
    samples = np.asarray(image.convert(mode) if image.mode in ("P", "CMYK") else image)
    if samples.dtype == np.int32:  # as Pillow gives 16 bits in some versions
        samples = samples.astype(np.uint16)
    return samples[None] if samples.ndim == 2 else np.moveaxis(samples, 2, 0)


def _decode_with_gdal(file: InputFile) -> NDArray[Any]:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(file.path, driver="PNG") as image:
            samples: NDArray[Any] = image.read()
    return samples
