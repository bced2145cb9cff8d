"""From regions and annotations to training samples: image crops with their label masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

from annotation_client.errors import DatasetError
from annotation_utilities.errors import InvalidGeometryError
from annotation_utilities.geometry import annotation_to_geometry
from annotation_utilities.regions import crop_box, region_label_mask
from annotation_utilities.selection import location_of
from condensatenet.inference.normalize import HIGH_PERCENTILE, LOW_PERCENTILE

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from annotation_client.tiles import UPennContrastDataset

Location = tuple[int, int, int]
"""(XY, Z, Time), from 0."""


@dataclass(frozen=True)
class Sample:
    """An annotated part of a frame.

    Attributes:
        image: (h, w) crop in the frame's dtype.
        labels: (h, w) int32: 0 background, 1 and up instances, -1 outside the region.
        intensity_range: intensities of the whole frame that become 0 and 1.
    """

    image: NDArray[np.generic]
    labels: NDArray[np.int32]
    intensity_range: tuple[float, float]


@dataclass
class Selection:
    """What the user marked, by position.

    Attributes:
        regions, annotations: valid geometries in pixel-corner coordinates.
        malformed: shapes that are no outlines, which were left out.
    """

    regions: dict[Location, list[BaseGeometry]] = field(default_factory=dict)
    annotations: dict[Location, list[BaseGeometry]] = field(default_factory=dict)
    malformed: int = 0

    @property
    def region_count(self) -> int:
        """Number of usable regions."""
        return sum(map(len, self.regions.values()))

    @property
    def annotation_count(self) -> int:
        """Number of usable annotations at the positions of the regions."""
        return sum(map(len, self.annotations.values()))


@dataclass
class TrainingSet:
    """The samples, and what was left out on the way.

    Attributes:
        samples: in the order of their positions.
        region_count: regions that are used.
        without_annotations, outside: regions that are not, because they hold no annotation, or lie outside the image
            or at a position that the dataset does not have.
    """

    samples: list[Sample] = field(default_factory=list)
    region_count: int = 0
    without_annotations: int = 0
    outside: int = 0

    @property
    def instance_count(self) -> int:
        """Number of instances in all samples."""
        return sum(len(np.unique(sample.labels[sample.labels > 0])) for sample in self.samples)


def select_by_position(regions: Iterable[dict[str, Any]], annotations: Iterable[dict[str, Any]]) -> Selection:
    """Sort annotation documents by position; only annotations at positions that have a region are kept."""
    selection = Selection()
    for document in regions:
        _add(selection, selection.regions, document)
    for document in annotations:
        if location_of(document) in selection.regions:
            _add(selection, selection.annotations, document)
    return selection


def collect_samples(
    dataset: UPennContrastDataset,
    selection: Selection,
    channel: int,
    report: Callable[[int, int], None],
) -> TrainingSet:
    """Cut the regions out of their frames, one frame at a time.

    Regions that overlap become one, so that no pixel can be both trained on and held out.

    Args:
        dataset: where the pixels come from; only those of the crops are fetched.
        selection: what the user marked.
        channel: channel of the images, from 0.
        report: called with the numbers of finished and of all positions.
    """
    result = TrainingSet()
    for done, (location, regions) in enumerate(sorted(selection.regions.items())):
        report(done, len(selection.regions))
        annotations = selection.annotations.get(location, [])
        tree = shapely.STRtree(annotations)
        if not _has_frame(dataset, location, channel):
            result.outside += len(regions)
            continue
        annotated = [region for region in regions if len(tree.query(region, predicate="intersects"))]
        result.without_annotations += len(regions) - len(annotated)
        inside = [region for region in annotated if crop_box(region, dataset.shape) is not None]
        result.outside += len(annotated) - len(inside)
        result.region_count += len(inside)
        limits = None
        for region in shapely.get_parts(shapely.union_all(inside)):
            box = crop_box(region, dataset.shape)
            if box is None:
                continue
            limits = limits or dataset.intensity_percentiles(*location, channel, LOW_PERCENTILE, HIGH_PERCENTILE)
            labels = region_label_mask(region, [annotations[i] for i in sorted(tree.query(region))], box)
            result.samples.append(Sample(dataset.crop(*location, channel, box), labels, limits))
    return result


def _has_frame(dataset: UPennContrastDataset, location: Location, channel: int) -> bool:
    try:
        dataset.coordinatesToFrameIndex(*location, channel)
    except DatasetError:
        return False
    return True


def _add(selection: Selection, group: dict[Location, list[BaseGeometry]], document: dict[str, Any]) -> None:
    try:
        geometry = annotation_to_geometry(document)
    except InvalidGeometryError:
        selection.malformed += 1
    else:
        group.setdefault(location_of(document), []).append(geometry)
