"""Images, object labels and tables of NIS-Elements GA3, for nodes of both signature generations (v6.20 and v7.00).

GA3 hands over objects of its module `limnode`. Their arrays are always of rank 4 (z, y, x, component): channels are
uint8, uint16 or float32; binaries are uint8 (anything but 0 is object) or int32 (the value is the object's number).
`limnode` is not imported here, so that everything can be used and tested without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from external_modules.errors import CallAbortedError, ExternalModuleError
from external_modules.node import watching
from external_modules.object_labels import Calibration, labels_of, number_on, object_table, to_object_labels

_UNSIGNED_LIMITS = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}


class GA3NodeMixin:
    """What a GA3 node needs besides `ExternalModuleNode`.

    A node's `output` calls `define_outputs`, and its `run` calls `run_2d`; the other methods are the parts of these,
    for nodes that do more.
    """

    to_object_labels = staticmethod(to_object_labels)
    object_table = staticmethod(object_table)

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
                result = labels_of(result)
            if tables or any(_is_binary(parameter) for parameter in images):
                labels = number_on(to_object_labels(result), highest)
                highest = max(highest, int(labels.max(initial=0)))
            for parameter in images:
                self.insert_2d_result(parameter, labels if _is_binary(parameter) else result, z)
            if tables:
                columns = object_table(labels, image, size)
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
    labels = to_object_labels(result)
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
