"""Image files that can be imported: what each holds, and its planes one at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from workbench.errors import InvalidImageError, WorkbenchError

AXES = ("xy", "t", "z", "c")
KNOWN_TYPES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")

# By type of a file's values: the type in which they are stored without loss.
_STORED_AS = {
    "bool": "uint8",
    "uint8": "uint8",
    "int16": "uint16",
    "uint16": "uint16",
    "float16": "float32",
    "float32": "float32",
}
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Description:
    """What a file holds.

    Args:
        sizes: of the axes xy, t, z and c.
        shape: (H, W) of a plane.
        dtype: name of the type in which its values are stored: uint8, uint16 or float32.
        colour: whether a plane has the samples red, green and blue.
        channel_names: one for each channel, or none.
        pixel_size: width and height in µm, if known.
    """

    sizes: Mapping[str, int]
    shape: tuple[int, int]
    dtype: str
    colour: bool = False
    channel_names: tuple[str, ...] = ()
    pixel_size: tuple[float, float] | None = None


class InputFile(ABC):
    """An image file; opened when it is read and closed by :meth:`close`, also when it is damaged.

    Raises:
        InvalidImageError: it cannot be read, or holds what cannot be imported.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.description = self._guarded(self._describe)

    def read(self, index: Mapping[str, int]) -> NDArray[Any]:
        """Give the samples of a plane, (1, H, W) or of a colour image (3, H, W), in the type of the description.

        Args:
            index: place on each axis.

        Raises:
            InvalidImageError: the file is damaged here, or a value cannot be stored.
        """
        samples = self._guarded(lambda: self._read(index))
        if samples.dtype.kind == "i" and samples.min() < 0:
            raise InvalidImageError(
                f"{self.path}: has negative values. Save it as 32-bit float, or with 16 bits without sign (ImageJ: "
                "Image > Type)."
            )
        if samples.dtype.kind == "f" and not np.isfinite(samples).all():
            raise InvalidImageError(
                f"{self.path}: has pixels that are no numbers (NaN or infinite). Give them a value first (ImageJ: "
                "Process > Noise > Remove NaNs)."
            )
        return samples.astype(self.description.dtype, copy=False)

    @abstractmethod
    def close(self) -> None:
        """Close the file until it is read again."""

    @abstractmethod
    def _describe(self) -> Description: ...

    @abstractmethod
    def _read(self, index: Mapping[str, int]) -> NDArray[Any]: ...

    def _stored_dtype(self, dtype: Any) -> str:
        if str(dtype) not in _STORED_AS:
            raise InvalidImageError(
                f"{self.path}: has values of type {dtype}, which cannot be kept exactly. Save it with 8 or 16 bits, or "
                "as 32-bit float (ImageJ: Image > Type)."
            )
        return _STORED_AS[str(dtype)]

    def _check_opaque(self, alpha: NDArray[Any]) -> None:
        if alpha.min() != alpha.max():
            raise InvalidImageError(f"{self.path}: is transparent in places. Save it without transparency (alpha).")

    def _guarded(self, action: Callable[[], _Result]) -> _Result:
        try:
            return action()
        except WorkbenchError:
            self.close()
            raise
        except Exception as error:  # the libraries raise nearly every type there is for a damaged file
            self.close()
            reason = str(error) or type(error).__name__
            raise InvalidImageError(
                f"{self.path}: cannot be read; it is damaged, incomplete or not what its name says ({reason}). "
                "Copy or export it again."
            ) from error


def open_input(path: Path) -> InputFile:
    """Read what an image file holds.

    Raises:
        InvalidImageError: it is missing, of an unknown type, damaged, or holds what cannot be imported.
    """
    from workbench.images.picture_input import PictureInput
    from workbench.images.tiff_input import TiffInput

    kind = path.suffix.lower()
    if not path.is_file():
        raise InvalidImageError(f"{path}: there is no such file. Check the name and the folder.")
    if kind not in KNOWN_TYPES:
        raise InvalidImageError(f"{path}: files of this type cannot be imported. Save it as TIFF or PNG.")
    return TiffInput(path) if kind in (".tif", ".tiff") else PictureInput(path)
