"""Under one name what worker authors of the platform look for under this name."""

from __future__ import annotations

from annotation_utilities.conversion import (
    annotations_to_points,
    annotations_to_polygons,
    filter_usable_training_samples,
    points_to_annotations,
    polygons_to_annotations,
)
from annotation_utilities.frames import frame_to_large_image_params, get_frame_index
from annotation_utilities.geometry import geometry_to_polygon_coords
from annotation_utilities.interface_values import (
    get_required_select,
    get_selected_channels,
    split_channel_selection,
)
from annotation_utilities.layers import get_images_for_all_channels, get_layers, process_and_merge_channels
from annotation_utilities.selection import (
    filter_elements_T_XY,
    filter_elements_T_XY_Z,
    filter_elements_Z_XY,
    find_matching_annotations_by_location,
    get_annotations_with_tag,
    get_annotations_with_tags,
)

__all__ = [
    "annotations_to_points",
    "annotations_to_polygons",
    "filter_elements_T_XY",
    "filter_elements_T_XY_Z",
    "filter_elements_Z_XY",
    "filter_usable_training_samples",
    "find_matching_annotations_by_location",
    "frame_to_large_image_params",
    "geometry_to_polygon_coords",
    "get_annotations_with_tag",
    "get_annotations_with_tags",
    "get_frame_index",
    "get_images_for_all_channels",
    "get_layers",
    "get_required_select",
    "get_selected_channels",
    "points_to_annotations",
    "polygons_to_annotations",
    "process_and_merge_channels",
    "split_channel_selection",
]
