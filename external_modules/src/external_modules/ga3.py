"""Images, object labels and tables of NIS-Elements GA3, for nodes of both signature generations (v6.20 and v7.00).

GA3 hands over objects of its module `limnode`. Their arrays are always of rank 4 (z, y, x, component): channels are
uint8, uint16 or float32; binaries are uint8 (anything but 0 is object) or int32 (the value is the object's number).
`limnode` is not imported here, so that everything can be used and tested without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from external_modules.errors import CallAbortedError, ExternalModuleError
from external_modules.node import watching

_LARGEST_LABEL = np.iinfo(np.int32).max
_UNSIGNED_LIMITS = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}


class Calibration(NamedTuple):
    """The size of a pixel. Without calibration x and y are 1 px.

    Attributes:
        x: width of a pixel in `unit`.
        y: height of a pixel in `unit`.
        z: distance of planes in micrometres, 0 where it is not known.
        unit: "µm" or "px".
    """

    x: float = 1.0
    y: float = 1.0
    z: float = 0.0
    unit: str = "px"


class GA3NodeMixin:
    """What a GA3 node needs besides `ExternalModuleNode`.

    A node's `output` calls `define_outputs`, and its `run` calls `run_2d`; the other methods are the parts of these,
    for nodes that do more.
    """

    def process_image(self, image: NDArray[Any], **params: Any) -> Any:
        """Segment one (H, W) image; the node writes it."""
        raise NotImplementedError(f"{type(self).__name__} needs a method process_image(self, image, **params)")

    def define_outputs(self, inp: Sequence[Any], out: Sequence[Any], *, name: str, color: Any = "#FFFF00") -> None:
        """Define the outputs that the node has: call it from `output`.

        A binary becomes a new layer of int32, which holds any number of objects. A table gets the columns of
        `object_table`, in the units of the first input. A channel stays as the host assigned it.

        Args:
            inp: the node's inputs, as `output` got them.
            out: the node's outputs, as `output` got them.
            name: name of the binary layer and of the table.
            color: "#RRGGBB", a number, or (red, green, blue) from 0 to 255.
        """
        if isinstance(color, str) and not re.fullmatch("#[0-9a-fA-F]{6}", color):
            raise ExternalModuleError(f"The colour {color!r} is not understood. Write it like '#FFFF00'.")
        for parameter in out:
            if hasattr(parameter, "makeInt32"):
                parameter.makeNew(name, color).makeInt32()
            elif hasattr(parameter, "withObjectCols"):
                unit = self.calibration(inp[0]).unit
                table = parameter.makeNew(name).withObjectCols().withIntCol("Plane")
                table.withFloatCol("Area", f"{unit}²").withFloatCol("CentroidX", unit).withFloatCol("CentroidY", unit)
                table.withFloatCol("MeanIntensity")

    def run_2d(self, inp: Sequence[Any], out: Sequence[Any], ctx: Any, *, channel: int = 0, **params: Any) -> None:
        """Give every plane of the first input to `process_image` and fill the outputs: call it from `run`.

        Objects of a volume are numbered through from plane to plane, so that no two planes share a number. A table
        gets one row for each object. When the host wishes to stop, outputs that are not filled yet stay as they are.

        Args:
            inp: the node's inputs, as `run` got them.
            out: the node's outputs, as `run` got them.
            ctx: the host's run context, whose `shouldAbort` is watched, also while the worker computes.
            channel: which component of the input is processed.
            **params: handed on to `process_image`, which returns an (H, W) array, or a dict that has one as "labels".

        Raises:
            ExternalModuleError: the call failed, or its result does not fit an output.
        """
        images = [parameter for parameter in out if getattr(parameter, "data", None) is not None]
        tables = [parameter for parameter in images if hasattr(parameter, "withColData")]
        images = [parameter for parameter in images if not hasattr(parameter, "withColData")]
        size = self.calibration(inp[0])
        rows: list[dict[str, NDArray[Any]]] = []
        highest = 0
        for z in range(_shape(inp[0])[0]):
            if ctx.shouldAbort:
                return
            image = self.extract_2d_image(inp[0], z, channel)
            try:
                with watching(lambda: bool(ctx.shouldAbort)):
                    result = self.process_image(image, **params)
            except CallAbortedError:
                return
            if isinstance(result, Mapping):
                result = result["labels"]
            if tables or any(_is_binary(parameter) for parameter in images):
                labels = self.to_object_labels(result)
                if highest:
                    labels = self.to_object_labels(np.where(labels > 0, labels.astype(np.int64) + highest, 0))
                highest = max(highest, int(labels.max(initial=0)))
            for parameter in images:
                self.insert_2d_result(parameter, labels if _is_binary(parameter) else result, z)
            if tables:
                columns = self.object_table(labels, image, size)
                columns["Plane"] = np.full(len(columns["ObjectId"]), z)
                rows.append(columns)
        for table in tables:
            self.write_object_table(table, {title: np.concatenate([part[title] for part in rows]) for title in rows[0]})

    def extract_2d_image(self, data: Any, z: int = 0, channel: int = 0) -> NDArray[Any]:
        """Return one plane of one component as an (H, W) array of the input's dtype.

        It is a copy: the host takes its memory back when a run ends, and a view that was kept would point nowhere.
        """
        depth, _, _, components = _shape(data)
        if not (0 <= z < depth and 0 <= channel < components):
            raise ExternalModuleError(
                f"The image has {depth} planes and {components} components, counted from 0; there is no plane {z} "
                f"with component {channel}."
            )
        image: NDArray[Any] = np.array(data.data[z, :, :, channel], order="C")
        return image

    def iterate_planes(self, data: Any) -> Iterator[tuple[int, int, NDArray[Any]]]:
        """Yield (z, channel, image) for every plane and component: see `extract_2d_image`."""
        depth, _, _, components = _shape(data)
        for z in range(depth):
            for channel in range(components):
                yield z, channel, self.extract_2d_image(data, z, channel)

    def insert_2d_result(self, out: Any, result: NDArray[Any], z: int = 0, channel: int = 0) -> None:
        """Write a result into one plane of an output, exactly or not at all.

        Args:
            out: a channel or binary output.
            result: (H, W), written to component `channel`; or (H, W, C) with all components of the output.
            z: the plane.
            channel: the component.

        Raises:
            ExternalModuleError: the result has another shape, or values that the output's dtype cannot hold.
        """
        result = np.asarray(result)
        shape = _shape(out)
        if result.shape not in (shape[1:3], shape[1:]):
            raise ExternalModuleError(
                f"The result has the shape {result.shape}; the output needs {shape[1:3]}. Have the worker return one "
                "value for every pixel of its input image."
            )
        fitting = _fit_binary(result, out.data.dtype) if _is_binary(out) else _fit_channel(result, out.data.dtype)
        if result.ndim == 2:
            out.data[z, :, :, channel] = fitting
        else:
            out.data[z] = fitting

    def calibration(self, data: Any) -> Calibration:
        """Return the size of a pixel of an input, or of its definition. The host gives it in the order x, y, z."""
        x, y, z = (float(value) for value in data.calibration)
        z = max(z, 0.0)
        return Calibration(x, y, z, "µm") if x > 0 and y > 0 else Calibration(z=z)

    def to_object_labels(self, labels: Any) -> NDArray[np.int32]:
        """Return labels as int32 with the same numbers, 0 for background.

        Raises:
            ExternalModuleError: they are no whole numbers from 0 to 2,147,483,647.
        """
        labels = np.asarray(labels)
        if labels.dtype.kind == "f":
            if not np.array_equal(labels, np.rint(labels)):
                raise ExternalModuleError(
                    "Object labels must be whole numbers, and these have fractions. If they are probabilities, write "
                    "them to a channel output that output() made with makeFloat()."
                )
        elif labels.dtype.kind not in "biu":
            raise ExternalModuleError(f"Object labels must be numbers, not {labels.dtype}.")
        lowest, highest = (labels.min(), labels.max()) if labels.size else (0, 0)
        if lowest < 0 or highest > _LARGEST_LABEL:
            raise ExternalModuleError(
                f"Object labels must be from 0 to {_LARGEST_LABEL}; these are from {lowest} to {highest}."
            )
        exact: NDArray[np.int32] = labels.astype(np.int32)
        return exact

    def object_table(
        self, labels: Any, image: NDArray[Any], calibration: Calibration | None = None
    ) -> dict[str, NDArray[Any]]:
        """Measure every object of a plane.

        Args:
            labels: (H, W) object labels.
            image: (H, W) intensities.
            calibration: size of a pixel; None for 1 px.

        Returns:
            Columns of equal length, ordered by object: ``ObjectId`` (int64), ``Area``, ``CentroidX``, ``CentroidY``
            and ``MeanIntensity`` (float64). Area and centroid are in the calibration's unit; positions count from
            the outer corner of the top-left pixel, whose centre is at (0.5, 0.5) px. Nothing found: no rows.
        """
        labels = self.to_object_labels(labels)
        if labels.ndim != 2 or labels.shape != image.shape:
            raise ExternalModuleError(f"Labels of shape {labels.shape} do not fit an image of shape {image.shape}.")
        size = calibration or Calibration()
        pixels = np.flatnonzero(labels)
        which = labels.ravel()[pixels]
        if which.size and which.max() > labels.size:  # few objects with large numbers
            numbers, which = np.unique(which, return_inverse=True)
        else:
            numbers = np.arange(int(which.max(initial=0)) + 1)
        count = np.bincount(which, minlength=len(numbers))
        present = np.flatnonzero(count)
        pixel_count = count[present]

        def mean_of(values: NDArray[Any]) -> NDArray[np.float64]:
            sums = np.bincount(which, weights=values, minlength=len(numbers))
            means: NDArray[np.float64] = sums[present] / pixel_count
            return means

        rows, columns = np.divmod(pixels, labels.shape[1])
        return {
            "ObjectId": numbers[present].astype(np.int64),
            "Area": pixel_count * (size.x * size.y),
            "CentroidX": (mean_of(columns) + 0.5) * size.x,
            "CentroidY": (mean_of(rows) + 0.5) * size.y,
            "MeanIntensity": mean_of(image.ravel()[pixels]),
        }

    def write_object_table(self, table: Any, columns: Mapping[str, NDArray[Any]]) -> None:
        """Fill a table output.

        Args:
            table: a table output whose columns `output` defined.
            columns: by title. A column of the table that is not among them, such as a loop's, stays as it is; one
                that holds the name of the objects' layer ("Entity") gets the table's name. Values that are no
                number become empty cells.

        Raises:
            ExternalModuleError: the table has none of the columns.
        """
        titles = list(table.data.colTitleList)
        values: dict[str, list[Any]] = {
            title: [None if value != value else value for value in column.tolist()] for title, column in columns.items()
        }
        if not any(title in values for title in titles):
            raise ExternalModuleError(
                f"The table has the columns {titles}, none of {sorted(values)}. Call define_outputs in output()."
            )
        values.setdefault("Entity", [table.data.tableName] * max(len(column) for column in values.values()))
        # By position: limnode takes a text for a pattern, and "Area" would also find "Area of cell".
        positions = [position for position, title in enumerate(titles) if title in values]
        table.withColData(positions, [values[titles[position]] for position in positions])


def _shape(parameter: Any) -> tuple[int, int, int, int]:
    shape = tuple(parameter.data.shape)
    if len(shape) != 4:
        raise ExternalModuleError(f"An image of GA3 has 4 axes (z, y, x, component), and this one the shape {shape}.")
    return shape


def _is_binary(parameter: Any) -> bool:
    # A uint8 channel and a uint8 binary differ in nothing else.
    return "Binary" in type(parameter).__name__


def _fit_binary(result: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    labels = GA3NodeMixin().to_object_labels(result)
    if dtype == np.int32:
        return labels
    highest = int(labels.max(initial=0))
    if highest > 255:
        raise ExternalModuleError(
            f"This binary output is uint8 and holds at most 255 objects; the result has objects up to number {highest}."
            " Write out[...].makeNew(...).makeInt32() in output()."
        )
    return labels.astype(dtype)


def _fit_channel(result: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    limit = _UNSIGNED_LIMITS.get(dtype)
    if limit is None or result.dtype == bool or not result.size:
        return result.astype(dtype)
    if result.dtype.kind not in "iu":
        raise ExternalModuleError(
            f"The result is {result.dtype} and this channel output {dtype}. Write makeFloat() for it in output(), or "
            "have the worker return whole numbers."
        )
    if result.min() < 0 or result.max() > limit:
        raise ExternalModuleError(
            f"The result has values from {result.min()} to {result.max()}; this channel output is {dtype} and holds 0 "
            f"to {limit}. Write makeUInt16() or makeFloat() for it in output()."
        )
    return result.astype(dtype)
