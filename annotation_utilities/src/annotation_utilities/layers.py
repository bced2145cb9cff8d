"""The layers in which the platform shows a dataset's channels: reading them, and merging channels as they do.

The functions that ask a server do so through the client that they are given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from annotation_utilities.errors import AnnotationError
from annotation_utilities.frames import channel_count

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def get_images_for_all_channels(tileClient: Any, datasetId: str, XY: int, Z: int, Time: int) -> list[NDArray[Any]]:
    """Return the image of every channel at one position, through a tile client (``UPennContrastDataset``)."""
    frames = [
        tileClient.coordinatesToFrameIndex(XY, Z, Time, channel) for channel in range(channel_count(tileClient.tiles))
    ]
    return [tileClient.getRegion(datasetId, frame=frame) for frame in frames]


def get_layers(girderClient: Any, datasetId: str) -> list[dict[str, Any]]:
    """Return the layers of the first configuration with which a dataset is viewed, through a ``GirderClient``.

    Raises:
        AnnotationError: the dataset was never viewed, or its configuration has no layers.
    """
    views = girderClient.get("dataset_view", parameters={"datasetId": datasetId})
    if not views:
        raise AnnotationError("The dataset has no layers yet. Open it once, save the contrast settings and run again.")
    configuration = girderClient.get(f"upenn_collection/{views[0]['configurationId']}")
    layers: list[dict[str, Any]] | None = (configuration.get("meta") or {}).get("layers")
    if not layers:
        raise AnnotationError("The dataset's configuration has no layers. Save the contrast settings and run again.")
    return layers


def process_and_merge_channels(
    images: Sequence[NDArray[Any]], layers: Sequence[Mapping[str, Any]], mode: str = "lighten"
) -> NDArray[np.float64]:
    """Merge the visible layers into one coloured image.

    Args:
        images: (H, W) or (H, W, 1) per channel, in the order of the channels.
        layers: ``channel``, ``visible``, ``color`` ("#rrggbb") and ``contrast`` (``mode`` "percentile" or "absolute",
            ``blackPoint``, ``whitePoint``) of each layer.
        mode: "lighten" takes the brightest layer, "add" their sum, "screen" the inverse product of their inverses.

    Returns:
        (H, W, 3) from 0 to 1.

    Raises:
        AnnotationError: no layer is visible, or one names an unknown mode, colour or channel.
    """
    import numpy as np

    merge = {
        "lighten": lambda stack: stack.max(axis=0),
        "add": lambda stack: np.clip(stack.sum(axis=0), 0, 1),
        "screen": lambda stack: 1 - np.prod(1 - stack, axis=0),
    }.get(mode)
    if merge is None:
        raise AnnotationError(f"{mode!r} is no way to merge channels; choose lighten, add or screen.")
    coloured = [_colour_layer(images, layer) for layer in layers if layer["visible"]]
    if not coloured:
        raise AnnotationError("No layer is visible. Show at least one and run again.")
    merged: NDArray[np.float64] = merge(np.stack(coloured))
    return merged


def _colour_layer(images: Sequence[NDArray[Any]], layer: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return (H, W, 3) from 0 to 1."""
    import numpy as np

    channel, contrast = layer["channel"], layer["contrast"]
    if not 0 <= channel < len(images):
        raise AnnotationError(f"A layer shows channel {channel + 1}; the dataset has {len(images)}.")
    image = np.asarray(images[channel], dtype=float)
    image = image.reshape(image.shape[:2])
    limits = (contrast["blackPoint"], contrast["whitePoint"])
    if contrast["mode"] == "percentile":
        limits = tuple(np.percentile(image, limits))
    elif contrast["mode"] != "absolute":
        raise AnnotationError(f"{contrast['mode']!r} is no contrast mode; the modes are percentile and absolute.")
    black, white = limits
    span = white - black
    # Without a span everything above the black point is white.
    bright = np.clip((image - black) / span, 0, 1) if span > 0 else (image > black).astype(float)
    return bright[:, :, None] * _colour(layer["color"])


def _colour(text: str) -> NDArray[np.float64]:
    """Return (3,) from 0 to 1 for "#rrggbb"."""
    import numpy as np

    if not re.fullmatch("#[0-9a-fA-F]{6}", text):
        raise AnnotationError(f"{text!r} is no colour; a layer's colour is written as #rrggbb.")
    return np.frombuffer(bytes.fromhex(text[1:]), np.uint8) / 255
