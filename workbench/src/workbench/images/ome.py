"""What the XML of an OME-TIFF and the tags of an ImageJ TIFF say about channels and pixel size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from tifffile import TiffFile

_MICROMETRES = {
    "pm": 1e-6,
    "Å": 1e-4,
    "nm": 1e-3,
    "µm": 1.0,  # the micro sign
    "μm": 1.0,  # the Greek letter
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
}


def ome_channel_names(xml: str | None) -> list[str]:
    """Give the names of the channels of the first image, or nothing unless each has one of its own."""
    pixels = _first_pixels(xml)
    names = [] if pixels is None else [channel.get("Name", "").strip() for channel in pixels.iterfind("{*}Channel")]
    return names if _tell_apart(names) else []


def channel_names(tiff: TiffFile, channels: int) -> tuple[str, ...]:
    """Give the channel names that a TIFF file holds, or nothing unless each channel has one of its own."""
    names = ome_channel_names(tiff.ome_metadata) if tiff.is_ome else _imagej_labels(tiff, channels)
    return tuple(names) if len(names) == channels else ()


def pixel_size(tiff: TiffFile) -> tuple[float, float] | None:
    """Give the width and height of a pixel in µm, where the file says so in a unit of length.

    Resolutions of other files are not taken: most programs write one for printers.
    """
    size: tuple[float, float] | None = None
    if tiff.is_ome and (pixels := _first_pixels(tiff.ome_metadata)) is not None:
        size = _ome_length(pixels, "X"), _ome_length(pixels, "Y")
    elif tiff.is_imagej:
        unit = str((tiff.imagej_metadata or {}).get("unit", "")).replace("\\u00B5", "µ")
        tags = tiff.pages.first.tags
        scale = _MICROMETRES.get(unit, 0.0)
        size = scale * _per_unit(tags.valueof("XResolution")), scale * _per_unit(tags.valueof("YResolution"))
    return size if size and all(0 < length < float("inf") for length in size) else None


def _first_pixels(xml: str | None) -> ElementTree.Element | None:
    try:
        return ElementTree.fromstring(xml or "").find("{*}Image/{*}Pixels")
    except ElementTree.ParseError:
        return None


def _ome_length(pixels: ElementTree.Element, axis: str) -> float:
    try:
        length = float(pixels.get(f"PhysicalSize{axis}", "0"))
    except ValueError:
        return 0.0
    return length * _MICROMETRES.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"), 0.0)


def _per_unit(resolution: Any) -> float:
    """Turn a TIFF resolution, a fraction of pixels per unit, into units per pixel; 0 if there is none."""
    pixels, units = resolution or (0, 0)
    return units / pixels if pixels else 0.0


def _imagej_labels(tiff: TiffFile, channels: int) -> list[str]:
    """Give the slice labels of an ImageJ stack, in which channels go fastest, if they name the channels."""
    labels = [str(label).strip() for label in (tiff.imagej_metadata or {}).get("Labels") or []]
    names = labels[:channels]
    repeated = all(label == names[i % channels] for i, label in enumerate(labels))
    return names if len(labels) % channels == 0 and repeated and _tell_apart(names) else []


def _tell_apart(names: list[str]) -> bool:
    return all(names) and len(set(names)) == len(names)
