"""What the names of image files say about the place of each in a dataset.

A name is split into words at everything that is neither letter nor digit. A word of letters and numbers such as `z2`,
`xy1c3` or `T001XY01` gives places on axes; the name of a dye or of transmitted light, alone or behind such a word as in
`w1DAPI`, gives a channel:

========  =====================================================================
axis      letters before a number (upper or lower case)
========  =====================================================================
position  xy, pos, s, f
time      t
Z         z
channel   c, ch, w; or a word such as DAPI, GFP, mCherry, Cy5, Alexa488, BF, DIC
========  =====================================================================

What is left of a name (a well, a condition) tells positions apart, too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_AXIS_OF_LETTERS = {"xy": "xy", "pos": "xy", "s": "xy", "f": "xy", "t": "t", "z": "z", "c": "c", "ch": "c", "w": "c"}
_TOKEN = r"(xy|pos|ch|[sftzcw])([0-9]+)"
_CHANNEL = (
    r"dapi|hoechst\d*|draq5|[ecmtb]?gfp|e?[ycrb]fp|m(cherry|scarlet|orange|ruby\d?|turquoise\d?|neongreen|venus)|"
    r"tdtomato|venus|citrine|fitc|tritc|rhodamine|texasred|txred|sir|cy[2357]|(alexa|alexafluor|af|atto)\d{3}|"
    r"bf|brightfield|trans|transmitted|phase|dic|tl|pol"
)
_WORD = re.compile(f"(?P<tokens>(?:{_TOKEN})*)(?P<channel>{_CHANNEL})?", re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """Where a name says that its file belongs.

    Args:
        position: what tells the positions apart; equal for files of one position.
        places: number on each of the axes t, z and c that the name gives, or the word of a channel.
        has_position: whether the name numbers positions, too.
    """

    position: tuple[str | int, ...]
    places: dict[str, int | str]
    has_position: bool

    @property
    def axes(self) -> frozenset[str]:
        """The axes that the name gives."""
        return frozenset([*self.places, *(["xy"] if self.has_position else [])])


def read_place(path: Path) -> Place | None:
    """Read a file name; None if it gives no place, or two on one axis."""
    rest: list[str | int] = []
    numbers: list[tuple[str, int]] = []
    channel_words: list[str] = []
    for word in re.split(r"[^A-Za-z0-9]+", file_stem(path)):
        match = _WORD.fullmatch(word)
        if match is None:
            rest.append(word)
            continue
        for letters, number in re.findall(_TOKEN, match["tokens"], re.IGNORECASE):
            numbers.append((_AXIS_OF_LETTERS[letters.lower()], int(number)))
        if match["channel"]:
            channel_words.append(match["channel"])
    axes = [axis for axis, _ in numbers]
    if len(set(axes)) < len(axes) or len(channel_words) > 1:
        return None
    places: dict[str, int | str] = {axis: number for axis, number in numbers if axis != "xy"}
    if channel_words:
        # A number beside the word repeats it.
        places["c"] = channel_words[0]
    position = (*rest, *(number for axis, number in numbers if axis == "xy"))
    return Place(position, places, "xy" in axes) if places or "xy" in axes else None


def file_stem(path: Path) -> str:
    """Give a file's name without its type (`cells` for `cells.ome.tif`)."""
    return re.sub(r"\.ome$", "", path.stem, flags=re.IGNORECASE)


def natural_order(path: Path) -> tuple[list[str | int], str]:
    """Give a key that sorts `frame2` before `frame10`."""
    parts = re.split(r"([0-9]+)", str(path).lower())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], str(path)
