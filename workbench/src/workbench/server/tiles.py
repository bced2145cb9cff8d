"""Routes of images: metadata, regions, tiles and histograms, as large_image computes them."""

from __future__ import annotations

import errno
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from workbench.errors import RestError
from workbench.images.source import sources_of
from workbench.server.endpoint import Call, RouteSpec, route
from workbench.server.tile_parameters import (
    read_edge,
    read_encoding,
    read_given,
    read_part,
    read_pickle_protocol,
    read_style,
)
from workbench.store.documents import Document

if TYPE_CHECKING:
    from large_image.tilesource import TileSource

_LARGEST_ENLARGEMENT = 8192  # pixels; output larger than the image and than this only eats memory
_LARGEST_OUTPUT_BYTES = 2**30
_STYLED_PIXEL_BYTES = 16  # colours and transparency while large_image mixes them
_MOST_BINS = 2**20
# Errors of the system that tell nothing about the image.
_SYSTEM_ERRORS = (errno.ENOSPC, getattr(errno, "EDQUOT", None), errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_EMPTY = "The region is empty: it lies outside the image, or its right or bottom is not beyond its left or top."
_BAND_SAMPLE = 2048  # pixels per side that band statistics look at, as in large_image
_BAND_NAMES = {1: ("gray",), 2: ("gray", "alpha"), 3: ("red", "green", "blue"), 4: ("red", "green", "blue", "alpha")}


def get_metadata(call: Call) -> Any:
    """Sizes, frames, channels and scale of an image."""
    with _image(call) as source:
        return _plain(source.getMetadata())


def get_internal_metadata(call: Call) -> Any:
    """What the file says besides."""
    with _image(call) as source:
        result = dict(source.getInternalMetadata() or {})
        if profiles := source.getICCProfiles(onlyInfo=True):
            result["iccprofiles"] = profiles
        result["tilesource"] = source.name
        if hasattr(source, "_populatedLevels"):
            result["populatedLevels"] = source._populatedLevels
        return _plain(result)


def get_region(call: Call) -> Response:
    """Pixels of a part of a frame: as an encoded image, or exact as a pickled numpy array (H, W, bands)."""
    protocol = read_pickle_protocol(call)
    how: Mapping[str, Any] = {"format": "numpy"} if protocol else read_encoding(call)
    arguments = {**read_part(call), **read_given(call, fill=call.text), **how}
    with _image(call, style=read_style(call)) as source:
        _check_frame(source, arguments)
        _check_output(source, arguments, whole=True)
        data, kind = source.getRegion(**arguments)
    return _pixels(data, kind, protocol)


def get_thumbnail(call: Call) -> Response:
    """A whole frame, at most 256 pixels wide and high unless told otherwise."""
    protocol = read_pickle_protocol(call)
    how: Mapping[str, Any] = {"format": "numpy"} if protocol else read_encoding(call)
    arguments = read_given(call, width=call.integer, height=call.integer, frame=call.integer, fill=call.text)
    arguments |= how
    with _image(call, style=read_style(call)) as source:
        _check_frame(source, arguments)
        output = {"maxWidth": arguments.get("width"), "maxHeight": arguments.get("height")}
        output = {key: value for key, value in output.items() if value}
        _check_output(source, {**arguments, "output": output}, whole=True)
        data, kind = source.getThumbnail(**arguments)
    return _pixels(data, kind, protocol)


def get_tile(call: Call) -> Response:
    """One tile of a level, of the frame in the path or the query."""
    try:
        z, x, y = (int(call.path[axis]) for axis in "zxy")
        frame = int(call.path["frame"]) if "frame" in call.path else call.integer("frame")
    except ValueError as error:
        raise RestError(400, "x, y, and z must be integers, and so must the frame.") from error
    if x < 0 or y < 0 or z < 0:
        raise RestError(400, "x, y, and z must be positive integers")
    options = {**read_encoding(call), **read_edge(call)}
    with _image(call, out_of_range=404, style=read_style(call), **options) as source:
        return _pixels(source.getTile(x, y, z, frame=frame), source.getTileMimeType(), 0)


def get_histogram(call: Call) -> Any:
    """How often each range of values occurs in a part of a frame, for each band."""
    arguments = {**read_part(call), "bins": call.integer("bins", 256), "density": call.boolean("density")}
    if not 1 <= arguments["bins"] <= _MOST_BINS:
        raise RestError(400, f"bins must be between 1 and {_MOST_BINS}.")
    low, high = call.integer("rangeMin"), call.integer("rangeMax")
    if low is not None or high is not None:
        # The defaults of the platform, whatever the type of the image.
        arguments["range"] = (0 if low is None else low, 256 if high is None else high)
    elif call.boolean("roundRange"):
        arguments["range"] = "round"
    with _image(call, style=read_style(call)) as source:
        _check_frame(source, arguments)
        _check_output(source, arguments)
        entries = source.histogram(**arguments).get("histogram")
    if entries is None:
        raise RestError(400, _EMPTY)
    floats = ("bin_edges", "hist", "range")
    return [
        {**entry, **{key: [float(value) for value in entry[key]] for key in floats}, "samples": float(entry["samples"])}
        for entry in entries
    ]


def get_bands(call: Call) -> dict[str, Any]:
    """Meaning, range, mean and standard deviation of each band of a frame."""
    arguments = read_given(call, frame=call.integer)
    with _image(call) as source:
        _check_frame(source, arguments)
        output = {"maxWidth": min(source.sizeX, _BAND_SAMPLE), "maxHeight": min(source.sizeY, _BAND_SAMPLE)}
        statistics = source.histogram(onlyMinMax=True, output=output, resample=False, **arguments)
    count = len(statistics["min"])
    names = _BAND_NAMES.get(count, _BAND_NAMES[3])
    return {
        str(band + 1): {
            "interpretation": names[band] if band < len(names) else "unknown",
            **{key: float(statistics[key][band]) for key in ("min", "max", "mean", "stdev")},
        }
        for band in range(count)
    }


def create_image(call: Call) -> None:
    """Makes a file of an item its image, if it can be read as one."""
    item = call.item()
    if "largeImage" in item:
        raise RestError(400, "Item already has largeImage set.")
    files = call.store.files.children(item["_id"])
    file_id = call.text("fileId") or (files[0]["_id"] if len(files) == 1 else None)
    if file_id is None:
        raise RestError(400, 'Missing "fileId" parameter.')
    if file_id not in [file["_id"] for file in files]:
        raise RestError(400, "The provided file must be in the provided item.")
    with _image(call, {**item, "largeImage": {"fileId": file_id}}) as source:
        name = source.name
    call.store.items.set_large_image(item["_id"], {"fileId": file_id, "sourceName": name})


def delete_image(call: Call) -> dict[str, bool]:
    """Makes an item no image any more; its files stay."""
    item = call.item()
    call.store.items.set_large_image(item["_id"], None)
    return {"deleted": "largeImage" in item}


@contextmanager
def _image(
    call: Call, item: Document | None = None, *, style: str | None = None, out_of_range: int = 400, **options: Any
) -> Iterator[TileSource]:
    """Open the image of an item, which is the path's unless given; what large_image refuses becomes an answer."""
    from large_image.exceptions import TileGeneralError, TileSourceRangeError

    item = item or call.item()
    try:
        with sources_of(call.store).open(item, style=style, **options) as source:
            yield source
    except RestError:
        raise
    except TileSourceRangeError as error:
        raise RestError(out_of_range, str(error)) from error
    except (TileGeneralError, ValueError, ArithmeticError) as error:
        raise RestError(400, f"The image cannot be given like this: {error}") from error
    except (OSError, SyntaxError) as error:  # Pillow calls a broken PNG file a wrong syntax
        if isinstance(error, OSError) and error.errno in _SYSTEM_ERRORS:
            raise
        raise RestError(
            400, "The image file is damaged: its pixels cannot be read. Upload a whole copy of it."
        ) from error
    except Exception as error:
        if style is None:
            raise
        # Styles are a small language, and what is wrong in one can surface anywhere.
        raise RestError(400, f"The style cannot be used ({type(error).__name__}: {error}).") from error


def _check_frame(source: TileSource, arguments: Mapping[str, Any]) -> None:
    frame = arguments.get("frame", 0)
    if not 0 <= frame < source.frames:
        raise RestError(400, f"Frame {frame} does not exist; the image has {source.frames} (counted from 0).")


def _check_output(source: TileSource, arguments: Mapping[str, Any], *, whole: bool = False) -> None:
    """Refuse what would come out empty, so much enlarged that it would fill the memory, or as a `whole` too large."""
    import numpy as np

    kept = {key: arguments[key] for key in ("region", "scale", "output", "frame") if key in arguments}
    for value in kept.get("output", {}).values():
        if value < 1:
            raise RestError(400, "Invalid output width or height: it must be at least 1.")
    plan = source.tileIterator(format="numpy", resample=None, **kept).info
    if plan is None:
        raise RestError(400, _EMPTY)
    width, height = plan["output"]["width"], plan["output"]["height"]
    sizes = [(width, source.sizeX), (height, source.sizeY)]
    if "fill" in arguments:
        filled = kept.get("output", {})
        sizes += [(value, _LARGEST_ENLARGEMENT) for value in filled.values()]
        width, height = max(width, filled.get("maxWidth", 0)), max(height, filled.get("maxHeight", 0))
    if any(size > max(whole, _LARGEST_ENLARGEMENT) for size, whole in sizes):
        raise RestError(400, f"The output would be too large. Ask for at most {_LARGEST_ENLARGEMENT} pixels per side.")
    pixel_bytes = source.bandCount * np.dtype(source.dtype).itemsize
    if getattr(source, "style", None):
        pixel_bytes = max(pixel_bytes, _STYLED_PIXEL_BYTES)
    if whole and width * height * pixel_bytes > _LARGEST_OUTPUT_BYTES:
        raise RestError(400, "The output would be larger than 1 GiB. Ask for a part with left, top, right, bottom.")


def _pixels(data: Any, kind: str, protocol: int) -> Response:
    import numpy as np

    if protocol:
        if data.size == 0:
            data = b""
        else:
            data, kind = pickle.dumps(np.ascontiguousarray(data), protocol=protocol), "application/octet-stream"
    if not len(data):
        raise RestError(400, _EMPTY)
    return Response(data, headers={"X-Content-Type-Options": "nosniff"}, media_type=kind)


def _plain(value: Any) -> Any:
    """Turn what a source tells into what JSON can hold."""
    import numpy as np

    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, PurePath):
        return value.name  # where the store keeps it is nobody's business
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _route(method: str, path: str, handler: Callable[[Call], Any]) -> RouteSpec:
    return route(method, f"item/{{id}}/tiles{path}", handler, reads_pixels=True)


ROUTES = [
    _route("GET", "", get_metadata),
    _route("POST", "", create_image),
    _route("DELETE", "", delete_image),
    _route("GET", "/internal_metadata", get_internal_metadata),
    _route("GET", "/region", get_region),
    _route("GET", "/thumbnail", get_thumbnail),
    _route("GET", "/zxy/{z}/{x}/{y}", get_tile),
    _route("GET", "/fzxy/{frame}/{z}/{x}/{y}", get_tile),
    _route("GET", "/histogram", get_histogram),
    _route("GET", "/bands", get_bands),
]
