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
from annotation_utilities.regions import Box, crop_box, region_label_mask
from annotation_utilities.selection import location_of
from condensatenet.inference.normalize import HIGH_PERCENTILE, LOW_PERCENTILE

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from annotation_client.tiles import UPennContrastDataset

_SAME_OBJECT = 0.5  # overlap (intersection over union) above which two outlines show one object

Location = tuple[int, int, int]
"""(XY, Z, Time), from 0."""


@dataclass(frozen=True)
class Sample:
    """An annotated part of a frame.

    Attributes:
        image: (h, w) crop in the frame's dtype.
        labels: (h, w) int32: 0 background, 1 and up instances, -1 outside the region.
        intensity_range: intensities of the whole frame that become 0 and 1.
        position: XY, from 0; slices and time points of one position may show the same objects.
    """

    image: NDArray[np.generic]
    labels: NDArray[np.int32]
    intensity_range: tuple[float, float]
    position: int


@dataclass
class Selection:
    """What the user marked, by position.

    Attributes:
        regions, annotations: valid geometries in pixel-corner coordinates.
        malformed: shapes that are no outlines, which were left out.
        regions_with_annotation_tag: regions that have the annotation tag, too; they are not taken for objects.
    """

    regions: dict[Location, list[BaseGeometry]] = field(default_factory=dict)
    annotations: dict[Location, list[BaseGeometry]] = field(default_factory=dict)
    malformed: int = 0
    regions_with_annotation_tag: int = 0

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
        repeated: annotations that outline an object a second time.
    """

    samples: list[Sample] = field(default_factory=list)
    region_count: int = 0
    without_annotations: int = 0
    outside: int = 0
    repeated: int = 0

    @property
    def instance_count(self) -> int:
        """Number of instances in all samples."""
        return sum(len(np.unique(sample.labels[sample.labels > 0])) for sample in self.samples)


def select_by_position(regions: Iterable[dict[str, Any]], annotations: Iterable[dict[str, Any]]) -> Selection:
    """Sort annotation documents by position; only annotations at positions that have a region are kept."""
    selection = Selection()
    region_ids = set()
    for document in regions:
        region_ids.add(document["_id"])
        _add(selection, selection.regions, document)
    for document in annotations:
        if document["_id"] in region_ids:
            selection.regions_with_annotation_tag += 1
        elif location_of(document) in selection.regions:
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
        if not _has_frame(dataset, location, channel):
            result.outside += len(regions)
            continue
        given = selection.annotations.get(location, [])
        annotations = without_repetitions(given)
        result.repeated += len(given) - len(annotations)
        tree = shapely.STRtree(annotations)

        def draw(region: BaseGeometry, box: Box, tree: Any = tree, known: Any = annotations) -> NDArray[np.int32]:
            return region_label_mask(region, [known[i] for i in sorted(tree.query(region))], box)

        used = []
        for region in regions:
            box = crop_box(region, dataset.shape)
            if box is None:
                result.outside += 1
            elif (draw(region, box) > 0).any():
                used.append(region)
            else:
                result.without_annotations += 1
        result.region_count += len(used)
        if not used:
            continue
        limits = dataset.intensity_percentiles(*location, channel, LOW_PERCENTILE, HIGH_PERCENTILE)
        for region in shapely.get_parts(shapely.union_all(used)):
            box = crop_box(region, dataset.shape)
            if box is not None:
                crop = dataset.crop(*location, channel, box)
                result.samples.append(Sample(crop, draw(region, box), limits, location[0]))
    return result


def without_repetitions(outlines: list[BaseGeometry]) -> list[BaseGeometry]:
    """Leave out outlines that share more than half of their common area with a larger one: the same object again."""
    ordered = sorted(outlines, key=lambda outline: (-outline.area, outline.wkb))
    first, second = shapely.STRtree(ordered).query(np.array(ordered, dtype=object), predicate="intersects")
    repeated: set[int] = set()
    for smaller, larger in sorted(zip(first.tolist(), second.tolist(), strict=True)):
        if larger < smaller and larger not in repeated:
            shared = ordered[smaller].intersection(ordered[larger]).area
            if shared > _SAME_OBJECT * (ordered[smaller].area + ordered[larger].area - shared):
                repeated.add(smaller)
    return [outline for number, outline in enumerate(ordered) if number not in repeated]


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
