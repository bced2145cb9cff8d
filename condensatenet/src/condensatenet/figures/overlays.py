"""Outlines of matched, missed and false instances over an image, one or a grid of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from condensatenet.errors import InvalidLabelsError, InvalidOptionError
from condensatenet.evaluation import match_instances
from condensatenet.inference.normalize import normalize_image
from condensatenet.labels import IGNORED

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

Color = tuple[int, int, int]

# Near the palette of Okabe and Ito, https://jfly.uni-koeln.de/color/, which any kind of colour vision can tell apart.
MATCHED_COLOR: Color = (86, 180, 233)
MISSED_COLOR: Color = (240, 228, 66)
FALSE_COLOR: Color = (255, 96, 0)
NOT_COUNTED_COLOR: Color = (140, 140, 140)

_CANVAS_COLOR: Color = (24, 24, 27)
_TEXT_COLOR: Color = (228, 228, 231)
_HATCH_COLOR: Color = (72, 72, 78)
_HATCH_SPACING = 12
_FONT_SIZE = 18
_STRIP_HEIGHT = 40
_SWATCH = 16
_GAP = 12
_OVERLAY_SIDE = 1000


class Panel(NamedTuple):
    """One overlay of a grid with the title above it, see :func:`draw_overlay`."""

    title: str
    image: ArrayLike
    truth: NDArray[np.integer] | None
    prediction: NDArray[np.integer]


class _Key(NamedTuple):
    name: str
    color: Color
    number: int | None = None


class _Overlay(NamedTuple):
    picture: Image
    keys: list[_Key]
    note: str


def draw_overlay(
    image: ArrayLike,
    truth: NDArray[np.integer] | None,
    prediction: NDArray[np.integer],
    path: str | PathLike[str] | None = None,
    *,
    iou_threshold: float = 0.5,
) -> NDArray[np.uint8]:
    """Draw which instances were matched, missed and falsely predicted, over the image in grey.

    Matched instances show their predicted outline. Outlines lie inside of their instance. Where nobody annotated, the
    image is dimmed and hatched, and what was predicted there is grey. Pixels of small images are enlarged to squares.

    Args:
        image: (H, W), any integer or floating dtype; shown from its 0.5 to its 99.5 percentile.
        truth: Annotated label mask (H, W) with -1 for ignored pixels, or None to show the prediction alone.
        prediction: Predicted label mask (H, W).
        path: Where to write the picture; the suffix tells the format, such as ``.png``.
        iou_threshold: Smallest IoU of a match.

    Returns:
        The picture with a legend below, RGB uint8 (height, width, 3).

    Raises:
        InvalidImageError: If the image is not one 2-D channel of finite numbers.
        InvalidLabelsError: If a mask is unusable or not of the image's shape.
    """
    overlay = _overlay(Panel("", image, truth, prediction), iou_threshold, side=_OVERLAY_SIDE, reduce=False)
    width, height = overlay.picture.size
    canvas, draw = _new_canvas(max(width, _legend_width(overlay.keys, overlay.note)), height + _STRIP_HEIGHT)
    canvas.paste(overlay.picture)
    _draw_legend(draw, height, overlay.keys)
    _draw_text(draw, canvas.width - _GAP, height, overlay.note, right=True)
    return _finish(canvas, path)


def draw_panels(
    rows: Sequence[Sequence[Panel]],
    path: str | PathLike[str] | None = None,
    *,
    panel_side: int = 512,
    iou_threshold: float = 0.5,
) -> NDArray[np.uint8]:
    """Draw a grid of overlays with one legend, for example one image per row, before (left) and after training (right).

    Args:
        rows: Panels; rows may be of different lengths, images of different sizes.
        path: Where to write the picture; the suffix tells the format, such as ``.png``.
        panel_side: Longest side of an image in the picture, about: it is enlarged or reduced by a whole factor.
        iou_threshold: Smallest IoU of a match.

    Returns:
        The picture, RGB uint8 (height, width, 3).

    Raises:
        InvalidImageError: If an image is not one 2-D channel of finite numbers.
        InvalidLabelsError: If a mask is unusable or not of its image's shape.
        InvalidOptionError: If there is no panel.
    """
    if not any(rows):
        raise InvalidOptionError("There is nothing to draw. Pass at least one row with one panel.")
    grid = [[_overlay(panel, iou_threshold, side=panel_side, reduce=True) for panel in row] for row in rows]
    keys = {key.name: key._replace(number=None) for row in grid for overlay in row for key in overlay.keys}
    columns = [[row[i] for row in grid if i < len(row)] for i in range(max(map(len, grid)))]
    widths = [max(overlay.picture.width for overlay in column) for column in columns]
    heights = [_STRIP_HEIGHT + max((overlay.picture.height for overlay in row), default=0) for row in grid]
    lefts = np.cumsum([_GAP, *(width + _GAP for width in widths)]).tolist()
    tops = np.cumsum([0, *heights]).tolist()
    canvas, draw = _new_canvas(max(lefts[-1], _legend_width(keys.values())), tops[-1] + _STRIP_HEIGHT)
    for panels, overlays, top in zip(rows, grid, tops, strict=False):
        for panel, overlay, left, width in zip(panels, overlays, lefts, widths, strict=False):
            canvas.paste(overlay.picture, (left, top + _STRIP_HEIGHT))
            _draw_text(draw, left + width, top, overlay.note, right=True)
            _draw_text(draw, left, top, _shorten(panel.title, width - _font().getlength(overlay.note) - _GAP))
    _draw_legend(draw, tops[-1], keys.values())
    return _finish(canvas, path)


def _overlay(panel: Panel, iou_threshold: float, *, side: int, reduce: bool) -> _Overlay:
    """Draw outlines on an image enlarged (or, if allowed, reduced) until its longest side is near `side`."""
    from PIL import Image

    grey = normalize_image(panel.image)
    truth = None if panel.truth is None else np.asarray(panel.truth)
    prediction = np.asarray(panel.prediction)
    for labels in (prediction, truth):
        if labels is not None and labels.shape != grey.shape:
            raise InvalidLabelsError(
                f"The image has the shape {grey.shape} but a label mask {labels.shape}. Pass masks of this image."
            )
    matching = match_instances(np.zeros_like(prediction) if truth is None else truth, prediction)
    matched_truth, matched = matching.matched_ids(iou_threshold)
    missed = np.setdiff1d(matching.truth_ids, matched_truth)
    false = np.setdiff1d(matching.predicted_ids, matched)

    longest = max(grey.shape)
    factor, divisor = max(1, round(side / longest)), max(1, round(longest / side)) if reduce else 1
    small = Image.fromarray(np.uint8(255 * grey + 0.5)).reduce(divisor)
    pixels = np.array(_enlarge(np.asarray(small), factor)[..., None].repeat(3, axis=2))
    prediction = _enlarge(prediction[::divisor, ::divisor], factor)
    thickness = min(3, 1 + factor // 2)
    if truth is None:
        _draw_outlines(pixels, prediction, matching.predicted_ids, MATCHED_COLOR, thickness)
        return _Overlay(Image.fromarray(pixels), [_Key("found", MATCHED_COLOR, matching.predicted_ids.size)], "")

    truth = _enlarge(truth[::divisor, ::divisor], factor)
    ignored = truth == IGNORED
    _hatch(pixels, ignored)
    _draw_outlines(pixels, prediction, matching.not_counted_ids, NOT_COUNTED_COLOR, thickness)
    _draw_outlines(pixels, prediction, matched, MATCHED_COLOR, thickness)
    _draw_outlines(pixels, truth, missed, MISSED_COLOR, thickness)
    _draw_outlines(pixels, prediction, false, FALSE_COLOR, thickness)
    keys = [
        _Key("matched", MATCHED_COLOR, matched.size),
        _Key("missed", MISSED_COLOR, missed.size),
        _Key("false", FALSE_COLOR, false.size),
    ]
    if ignored.any():
        keys.append(_Key("not annotated", NOT_COUNTED_COLOR))
    everything = matched.size + missed.size + false.size
    ap = matched.size / everything if everything else 1.0
    return _Overlay(Image.fromarray(pixels), keys, f"AP@{iou_threshold:g} = {ap:.2f}")


def _enlarge(array: NDArray[Any], factor: int) -> NDArray[Any]:
    return array.repeat(factor, axis=0).repeat(factor, axis=1)


def _hatch(pixels: NDArray[np.uint8], ignored: NDArray[np.bool_]) -> None:
    """Dim and hatch an area; dimming alone cannot be seen on a dark background."""
    rows, columns = np.ogrid[: ignored.shape[0], : ignored.shape[1]]
    pixels[ignored] //= 2
    pixels[ignored & ((rows + columns) % _HATCH_SPACING == 0)] = _HATCH_COLOR


def _draw_outlines(
    pixels: NDArray[np.uint8], labels: NDArray[Any], ids: NDArray[Any], color: Color, thickness: int
) -> None:
    remaining = np.where(np.isin(labels, ids), labels, 0)
    for _ in range(thickness):
        edge = np.zeros(labels.shape, bool)
        for here, there in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
            differs = remaining[here] != remaining[there]
            edge[here] |= differs
            edge[there] |= differs
        edge &= remaining > 0
        pixels[edge] = color
        remaining[edge] = 0


@cache
def _font() -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(_FONT_SIZE)


def _new_canvas(width: int, height: int) -> tuple[Image, ImageDraw]:
    from PIL import Image, ImageDraw

    canvas = Image.new("RGB", (width, height), _CANVAS_COLOR)
    return canvas, ImageDraw.Draw(canvas)


def _draw_text(draw: ImageDraw, x: float, top: int, text: str, *, right: bool = False) -> None:
    """Write text that starts (or ends) at x, in the middle of a strip."""
    anchor = "rm" if right else "lm"
    draw.text((x, top + _STRIP_HEIGHT // 2), text, _TEXT_COLOR, _font(), anchor=anchor)


def _shorten(text: str, width: float) -> str:
    """Cut the middle out of a text, because file names differ at their ends."""
    kept = len(text)
    shortened = text
    while kept and _font().getlength(shortened) > width:
        kept -= 1
        shortened = text[: -(-kept // 2)] + "..." + text[len(text) - kept // 2 :]
    return shortened


def _key_text(key: _Key) -> str:
    return key.name if key.number is None else f"{key.name} {key.number:,}"


def _legend_width(keys: Iterable[_Key], note: str = "") -> int:
    texts = [note, *map(_key_text, keys)]
    return round(sum(_font().getlength(text) + _SWATCH + 3 * _GAP for text in texts))


def _draw_legend(draw: ImageDraw, top: int, keys: Iterable[_Key]) -> None:
    x: float = _GAP
    for key in keys:
        y = top + (_STRIP_HEIGHT - _SWATCH) // 2
        draw.rectangle((x, y, x + _SWATCH, y + _SWATCH), outline=key.color, width=3)
        _draw_text(draw, x + _SWATCH + _GAP * 2 // 3, top, _key_text(key))
        x += _SWATCH + 3 * _GAP + _font().getlength(_key_text(key))


def _finish(canvas: Image, path: str | PathLike[str] | None) -> NDArray[np.uint8]:
    if path is not None:
        canvas.save(path)
    return np.array(canvas)
