"""Several image files as the axes of one dataset."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.errors import InvalidImageError
from workbench.images.file_names import Place, file_stem, natural_order, read_place
from workbench.images.input_files import AXES, InputFile, open_input

_OPEN_FILES = 8
_AXIS_NAMES = {"xy": "position", "t": "time", "z": "Z", "c": "channel"}
_COLOURS = ("Red", "Green", "Blue")


@dataclass(eq=False)
class Arrangement:
    """The planes of a dataset, each in one of several files.

    Args:
        sizes: of the axes xy, t, z and c.
        shape: (H, W) of a plane.
        dtype: uint8, uint16 or float32.
        channel_names: one for each channel, or none.
        position_names: one for each position.
        pixel_size: width and height in µm, if known.
    """

    sizes: dict[str, int]
    shape: tuple[int, int]
    dtype: str
    channel_names: tuple[str, ...]
    position_names: tuple[str, ...]
    pixel_size: tuple[float, float] | None
    _files: dict[tuple[int, ...], InputFile] = field(repr=False)
    _sizes_in_file: Mapping[str, int] = field(repr=False)
    _is_colour: bool = field(repr=False)
    _open: list[InputFile] = field(default_factory=list, repr=False)

    def read(self, xy: int, t: int, z: int, c: int) -> NDArray[Any]:
        """Give a plane (H, W) in the type of the dataset.

        Raises:
            InvalidImageError: its file is damaged, or holds values that cannot be stored.
        """
        channel, sample = (0, c) if self._is_colour else (c, 0)
        place = [
            divmod(number, self._sizes_in_file[axis]) for axis, number in zip(AXES, (xy, t, z, channel), strict=True)
        ]
        file = self._files[tuple(of_file for of_file, _ in place)]
        if file not in self._open:
            while len(self._open) >= _OPEN_FILES:
                self._open.pop(0).close()
            self._open.append(file)
        plane: NDArray[Any] = file.read(dict(zip(AXES, (in_file for _, in_file in place), strict=True)))[sample]
        return plane

    def close(self) -> None:
        """Close the files until they are read again."""
        while self._open:
            self._open.pop().close()


def arrange(paths: Sequence[Path]) -> Arrangement:
    """Tell what dataset image files make up; see :mod:`workbench.images.file_names` for what their names say.

    Every file is a position, unless all names give places on the same axes. Colour images all of whose samples are
    equal are grey; others have the channels red, green and blue.

    Raises:
        InvalidImageError: a file cannot be read, or the files do not fit together.
    """
    files = []
    for path in sorted(paths, key=natural_order):
        files.append(open_input(path))
        files[-1].close()
    first = files[0].description
    for file in files[1:]:
        _check_alike(files[0], file)
    is_colour = any([_has_colours(file) for file in files])
    if is_colour:
        _check_colours(files)

    places = [read_place(file.path) for file in files]
    named = len(files) > 1 and all(place is not None and places[0] and place.axes == places[0].axes for place in places)
    keys = _keys_by_name(files, [place for place in places if place]) if named else _keys_by_order(files)
    sizes = {}
    for number, axis in enumerate(AXES):
        among_files = 1 + max(key[number] for key in keys)
        sizes[axis] = among_files * first.sizes[axis]
        if among_files > 1 and first.sizes[axis] > 1 and axis != "xy":
            raise InvalidImageError(
                f"{files[0].path}: holds {first.sizes[axis]} planes on the {_AXIS_NAMES[axis]} axis, and the names of "
                "the files number that axis, too. Rename the files or split them."
            )
    by_key = dict(zip(keys, files, strict=True))
    if is_colour:
        if sizes["c"] > 1:
            raise InvalidImageError(f"{files[0].path}: has channels and colours. Save its colours as channels.")
        sizes["c"] = len(_COLOURS)
    names = (
        _COLOURS
        if is_colour
        else _channel_names(by_key, [place.places.get("c") for place in places if place and named])
    )
    pixel_sizes = {file.description.pixel_size for file in files} - {None}
    return Arrangement(
        sizes=sizes,
        shape=first.shape,
        dtype=first.dtype,
        channel_names=names if len(names) == sizes["c"] else (),
        position_names=_position_names(by_key, first.sizes["xy"]),
        pixel_size=pixel_sizes.pop() if len(pixel_sizes) == 1 else None,
        _files=by_key,
        _sizes_in_file=first.sizes,
        _is_colour=is_colour,
    )


def _check_alike(first: InputFile, other: InputFile) -> None:
    a, b = first.description, other.description
    if a.shape != b.shape:
        what, one, another = "size", f"{a.shape[1]} x {a.shape[0]}", f"{b.shape[1]} x {b.shape[0]} pixels"
    elif a.dtype != b.dtype:
        what, one, another = "kind of values", a.dtype, b.dtype
    elif a.sizes != b.sizes:
        what, one, another = "number of planes", _count(a.sizes), _count(b.sizes)
    else:
        return
    raise InvalidImageError(
        f"{other.path}: has another {what} than {first.path} ({another} and {one}). Import the files of a kind "
        "together, and the others as a dataset of their own."
    )


def _count(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{_AXIS_NAMES[axis]} {size}" for axis, size in sizes.items() if size > 1) or "one plane"


def _has_colours(file: InputFile) -> bool:
    if not file.description.colour:
        return False
    sizes = file.description.sizes
    try:
        for place in itertools.product(*(range(sizes[axis]) for axis in AXES)):
            samples = file.read(dict(zip(AXES, place, strict=True)))
            if not (np.array_equal(samples[0], samples[1]) and np.array_equal(samples[0], samples[2])):
                return True
    finally:
        file.close()
    return False


def _check_colours(files: Sequence[InputFile]) -> None:
    for file in files:
        if not file.description.colour:
            raise InvalidImageError(
                f"{file.path}: is grey, while others of the files are in colour. Import them as a dataset of their own."
            )


def _keys_by_order(files: Sequence[InputFile]) -> list[tuple[int, ...]]:
    return [(number, 0, 0, 0) for number in range(len(files))]


def _keys_by_name(files: Sequence[InputFile], places: Sequence[Place]) -> list[tuple[int, ...]]:
    columns = [[place.position for place in places]]
    columns += [[(place.places.get(axis, 0),) for place in places] for axis in AXES[1:]]
    values = [sorted(set(column), key=_value_order) for column in columns]
    keys = [tuple(of.index(value) for of, value in zip(values, row, strict=True)) for row in zip(*columns, strict=True)]
    taken: dict[tuple[int, ...], InputFile] = {}
    for key, file in zip(keys, files, strict=True):
        if key in taken:
            raise InvalidImageError(
                f"{taken[key].path} and {file.path} have the same place by their names. Rename one or leave it out."
            )
        taken[key] = file
    for key in itertools.product(*(range(len(of)) for of in values)):
        if key not in taken:
            missing = [
                f"{_AXIS_NAMES[axis]} {'_'.join(map(str, of[place]))}"
                for axis, of, place in zip(AXES, values, key, strict=True)
                if len(of) > 1
            ]
            raise InvalidImageError(
                f"By the names of the {len(files)} files, the one for {', '.join(missing)} is missing. Add it, or "
                "rename the files so that they do not number axes."
            )
    return keys


def _value_order(value: tuple[str | int, ...]) -> Any:
    return natural_order(Path("_".join(map(str, value))))


def _channel_names(files: Mapping[tuple[int, ...], InputFile], words: Sequence[str | int | None]) -> tuple[str, ...]:
    """Take the names inside the files; else the words in their names."""
    of_files = {key[3]: file.description.channel_names for key, file in files.items() if not any(key[:3])}
    names = tuple(name for channel in sorted(of_files) for name in of_files[channel])
    channels = sum(max(1, len(of_file)) for of_file in of_files.values())
    if names and len(set(names)) == len(names) == channels:
        return names
    by_channel = dict(zip((key[3] for key in files), words, strict=False))
    return tuple(word for _, word in sorted(by_channel.items()) if isinstance(word, str))


def _position_names(files: Mapping[tuple[int, ...], InputFile], in_file: int) -> tuple[str, ...]:
    stems = {key[0]: file_stem(file.path) for key, file in reversed(list(files.items()))}
    return tuple(
        f"{stems[position]} {number + 1}" if in_file > 1 else stems[position]
        for position in range(len(stems))
        for number in range(in_file)
    )
