"""The export of a dataset: all of its files, or none."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.errors import WorkbenchError
from workbench.export.labels import draw_labels, write_labels
from workbench.export.objects import Object, has_any, read_objects
from workbench.export.outlines import write_geojson
from workbench.export.tables import Row, mean_intensities, write_csv
from workbench.images.source import sources_of
from workbench.store.documents import Document
from workbench.store.folders import is_dataset
from workbench.store.store import Store

_Place = tuple[int, int, int, int]  # XY, Z, Time, channel


@dataclass
class Exported:
    """What an export wrote.

    Args:
        folder: where it is.
        objects: how many annotations there are in the outlines and the table.
        label_files: names of the label masks.
        invalid: identifiers of annotations whose outline encloses nothing, which were left out.
        elsewhere: identifiers of annotations at a place that the image does not have, which were left out.
        hidden: how many areas have no pixel in the label masks: they are too small, outside the image or under others.
    """

    folder: Path
    objects: int = 0
    label_files: list[str] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    hidden: int = 0


def export_dataset(
    store: Store,
    dataset_id: str,
    folder: str | Path,
    *,
    tags: Sequence[str] | None = None,
    region_tag: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Exported:
    """Write the annotations of a dataset into a folder.

    There is a label mask `labels/..._labels.tif` for every place that has annotated areas, and for every channel of it
    if areas are on several; places are numbered from 1, as in the user interface. `outlines.geojson` and `objects.csv`
    are of the whole dataset. The folder appears when everything is in it.

    Args:
        dataset_id: identifier of the dataset's folder.
        folder: must not exist, or be empty.
        tags: only annotations with one of these.
        region_tag: of outlines around what is fully annotated. They are no objects, pixels outside them are -1 in the
            label masks, and there are label masks only where there are regions.
        progress: called with the number of label masks that are written and of all.

    Raises:
        WorkbenchError: there is no such dataset, it has no image, or the folder is not empty.
    """
    folder = Path(folder).expanduser().absolute()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise WorkbenchError(f"{folder} is there already. Choose another folder for the export, or remove that one.")
    dataset = store.folders.find(dataset_id)
    if dataset is None or not is_dataset(dataset):
        raise WorkbenchError(f"There is no dataset with the identifier {dataset_id}.")
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        (partial / "labels").mkdir(parents=True)
        exported = _Export(store, dataset, partial, region_tag).write(tags or (), progress)
        os.replace(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    exported.folder = folder
    return exported


def find_image(store: Store, dataset: Document) -> Document:
    """Give the item of a dataset that is its image.

    Raises:
        WorkbenchError: it has none.
    """
    images = [item for item in store.items.children(dataset["_id"]) if "largeImage" in item]
    if not images:
        raise WorkbenchError(f"The dataset {dataset['name']} has no image.")
    selected = dataset["meta"].get("selectedLargeImageId")
    return next((item for item in images if item["_id"] == selected), images[0])


class _Export:
    def __init__(self, store: Store, dataset: Document, folder: Path, region_tag: str | None) -> None:
        self._store, self._dataset, self._folder, self._region_tag = store, dataset, folder, region_tag
        self._item = find_image(store, dataset)
        with sources_of(store).open(self._item) as source:
            tiles = source.getMetadata()
        self._shape = (tiles["sizeY"], tiles["sizeX"])
        self._channel_names = tiles.get("channels", [])
        self._sizes = [tiles.get("IndexRange", {}).get(f"Index{axis}", 1) for axis in ("XY", "Z", "T", "C")]
        keys = ("IndexXY", "IndexZ", "IndexT", "IndexC")
        frames = tiles.get("frames", [{}])
        self._frames = {tuple(frame.get(key, 0) for key in keys): number for number, frame in enumerate(frames)}
        self._exported = Exported(folder)

    def write(self, tags: Sequence[str], progress: Callable[[int, int], None] | None) -> Exported:
        objects, regions = self._read(tags)
        groups: dict[_Place, list[Object]] = defaultdict(list)
        for item in objects:
            if item.is_area:
                groups[(*item.location, item.channel)].append(item)
        if self._region_tag is not None:
            channels = {place[3] for place in groups} or {0}
            # Where nothing is in a region, that is known, too.
            wanted = [(*location, channel) for location in sorted(regions) for channel in sorted(channels)]
            groups = defaultdict(list, {place: groups[place] for place in wanted})
        else:
            groups = defaultdict(list, sorted(groups.items()))
        several = len({place[3] for place in groups}) > 1
        rows = {item.id: Row(item) for item in objects}
        for number, (place, items) in enumerate(groups.items()):
            for row in self._write_place(place, items, regions, several):
                rows[row.item.id] = row
            if progress is not None:
                progress(number + 1, len(groups))
        write_geojson(self._folder / "outlines.geojson", objects)
        write_csv(self._folder / "objects.csv", rows.values(), self._channel_names)
        self._exported.objects = len(objects)
        return self._exported

    def _read(self, tags: Sequence[str]) -> tuple[list[Object], dict[tuple[int, int, int], list[Any]]]:
        objects: list[Object] = []
        regions: dict[tuple[int, int, int], list[Any]] = defaultdict(list)
        for item in read_objects(self._store, self._dataset["_id"]):
            is_region = self._region_tag is not None and self._region_tag in item.tags
            if not is_region and not has_any(item, tags):
                continue
            if item.geometry is None:
                self._exported.invalid.append(item.id)
            elif (*item.location, item.channel) not in self._frames:
                self._exported.elsewhere.append(item.id)
            elif is_region:
                if item.is_area:
                    regions[item.location].append(item.geometry)
            else:
                objects.append(item)
        return objects, regions

    def _write_place(
        self, place: _Place, items: list[Object], regions: dict[tuple[int, int, int], list[Any]], several: bool
    ) -> list[Row]:
        inside = None if self._region_tag is None else regions[place[:3]]
        labels = draw_labels(items, self._shape, regions=inside)
        name = f"labels/{self._name(place, several)}_labels.tif"
        write_labels(self._folder / name, labels)
        self._exported.label_files.append(name)
        means = mean_intensities(labels, self._read_frame(place), len(items))
        self._exported.hidden += sum(mean is None for mean in means)
        return [
            Row(item, name, number + 1, mean) if mean is not None else Row(item)
            for number, (item, mean) in enumerate(zip(items, means, strict=True))
        ]

    def _name(self, place: _Place, several: bool) -> str:
        """Name a place by those of its axes that have more than one position."""
        parts = [re.sub(r"[^\w.-]+", "_", self._dataset["name"]).strip("_.") or "dataset"]
        for axis, number, size in zip(("xy", "z", "t"), place, self._sizes, strict=False):
            if size > 1:
                parts.append(f"{axis}{number + 1:0{len(str(size))}}")
        return "_".join([*parts, f"c{place[3] + 1}"] if several else parts)

    def _read_frame(self, place: _Place) -> NDArray[Any]:
        with sources_of(self._store).open(self._item) as source:
            pixels, _ = source.getRegion(format="numpy", frame=self._frames[place])
        # The bands of a colour image count alike.
        return np.asarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels.mean(axis=2))
