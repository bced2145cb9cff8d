from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from scipy import ndimage

from condensatenet.errors import InvalidOptionError
from condensatenet.simulation import MIN_AREA, FrameStyle, draw_style, simulate_dataset, simulate_frame

Frames = list[tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="module")
def frames() -> Frames:
    return list(simulate_dataset(60, seed=3))


def plain_style(**changes: float) -> FrameStyle:
    """Well lit bodies on a dark background without cells."""
    style = draw_style(np.random.default_rng(0))
    plain = {
        "median_area": 100.0, "area_spread": 0.3, "largest_area": 600.0, "coverage": 0.1, "clustering": 0.0,
        "fused_share": 0.0, "irregularity": 0.03, "brightness_spread": 0.1, "hollowness": 0.0, "cell_coverage": 0.0,
        "defocused_share": 0.0, "background": 0.02, "vignetting": 0.0, "psf_sigma": 0.8, "photons": 500.0,
        "read_noise": 1.0, "noise_blur": 0.0, "bit_depth": 16, "exposure": 0.2, "offset": 0.05,
    }  # fmt: skip
    return replace(style, **(plain | changes))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def areas_of(labels: np.ndarray) -> np.ndarray:
    return np.bincount(labels.ravel())[1:]


def test_same_state_gives_same_frame_and_another_a_different_one() -> None:
    first, second, other = (simulate_frame((96, 80), rng=rng(seed)) for seed in (5, 5, 6))
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first[0], other[0])


def test_dataset_frame_depends_on_seed_and_index_only(frames: Frames) -> None:
    again = list(islice(simulate_dataset(1000, seed=3), 4))
    for (image, labels), (image_again, labels_again) in zip(frames, again, strict=False):
        np.testing.assert_array_equal(image, image_again)
        np.testing.assert_array_equal(labels, labels_again)
    alone = simulate_frame(rng=np.random.default_rng([3, 2]))
    np.testing.assert_array_equal(alone[0], frames[2][0])
    assert not np.array_equal(next(iter(simulate_dataset(1, seed=4)))[0], frames[0][0])


@pytest.mark.parametrize(("bit_depth", "dtype"), [(8, np.uint8), (12, np.uint16), (16, np.uint16)])
def test_bit_depth_sets_dtype_and_range(bit_depth: int, dtype: type) -> None:
    image, labels = simulate_frame((64, 96), rng=rng(), style=plain_style(exposure=2.0), bit_depth=bit_depth)
    assert image.shape == labels.shape == (64, 96)
    assert image.dtype == dtype
    assert labels.dtype == np.int32
    assert image.max() == 2**bit_depth - 1, "an exposure of 2 saturates the bodies"


def test_all_bit_depths_occur(frames: Frames) -> None:
    assert {draw_style(rng(seed)).bit_depth for seed in range(30)} == {8, 12, 16}
    assert {image.dtype.name for image, _ in frames} == {"uint8", "uint16"}


@pytest.mark.parametrize("shape", [(32, 32), (1, 1), (7, 200), (300, 170)])
def test_any_shape(shape: tuple[int, int]) -> None:
    for seed in range(8):
        image, labels = simulate_frame(shape, rng=rng(seed))
        assert image.shape == labels.shape == shape
        assert areas_of(labels).min(initial=MIN_AREA) >= MIN_AREA


def test_instances_are_numbered_without_gaps_connected_and_not_tiny(
    frames: Frames,
) -> None:
    for _, labels in frames:
        assert labels.min() >= 0
        assert areas_of(labels).min(initial=MIN_AREA) >= MIN_AREA  # a gap would have an area of 0
        for number, box in enumerate(ndimage.find_objects(labels), start=1):
            assert ndimage.label(labels[box] == number)[1] == 1


def test_areas_follow_the_style() -> None:
    _, labels = simulate_frame((600, 600), rng=rng(), style=plain_style(median_area=150.0))
    whole = np.setdiff1d(labels, np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    areas = areas_of(labels)[whole[whole > 0] - 1]
    assert len(areas) > 100
    assert 135 < np.median(areas) < 165
    assert 0.22 < np.log(areas).std() < 0.38


def test_areas_over_many_frames(frames: Frames) -> None:
    largest = np.array([areas_of(labels).max() for _, labels in frames if labels.any()])
    every_area = np.concatenate([areas_of(labels) for _, labels in frames])
    assert every_area.max() <= 4100  # the outline encloses at most 4000; pixels round that
    assert (every_area <= 620).mean() > 0.9
    assert 0.05 < (largest > 700).mean() < 0.4, "about a fifth of the frames hold larger bodies"
    medians = np.array([np.median(areas_of(labels)) for _, labels in frames if labels.any()])
    assert medians.min() < 50
    assert medians.max() > 400


def test_coverage_and_crowding() -> None:
    _, empty = simulate_frame(rng=rng(), style=plain_style(coverage=0.0))
    assert not empty.any()
    _, sparse = simulate_frame((512, 512), rng=rng(), style=plain_style(coverage=0.05))
    assert 0.03 < (sparse > 0).mean() < 0.07

    def share_touching(clustering: float) -> float:
        _, labels = simulate_frame((512, 512), rng=rng(1), style=plain_style(coverage=0.1, clustering=clustering))
        grown = ndimage.grey_dilation(labels, size=3)
        return len(np.unique(labels[(labels > 0) & (grown > labels)])) / labels.max()

    assert share_touching(0.8) > 2 * share_touching(0.0)


def test_bodies_are_brighter_than_what_surrounds_them(frames: Frames) -> None:
    brighter = []
    for image, labels in frames:
        for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
            around = slice(max(rows.start - 6, 0), rows.stop + 6), slice(max(columns.start - 6, 0), columns.stop + 6)
            own = labels[around] == number
            ring = ndimage.binary_dilation(own, iterations=5) & (ndimage.grey_dilation(labels[around], size=3) == 0)
            if ring.sum() >= 20:
                brighter.append(image[around][own].mean() > np.median(image[around][ring]))
    assert len(brighter) > 500
    assert np.mean(brighter) > 0.98


def test_label_is_where_the_light_is() -> None:
    image, labels = simulate_frame(rng=rng(2), style=plain_style(median_area=300.0, rim=0.8))
    level = (np.median(image[labels > 0]) + np.median(image[labels == 0])) / 2
    bright, true = image > level, labels > 0
    assert (bright & true).sum() / (bright | true).sum() > 0.85


def test_cells_are_bright_but_not_instances_and_hold_the_bodies() -> None:
    style = plain_style(
        cell_coverage=0.3, cell_radius=30.0, cell_level=0.3, cell_edge=0.03, cell_void=0.0, coverage=0.02
    )
    image, labels = simulate_frame((400, 400), rng=rng(), style=style)
    bright = ndimage.uniform_filter(image / (style.exposure * 65535) - style.offset, 5) > 0.15
    assert 0.1 < (bright & (labels == 0)).mean() < 0.4
    around = ndimage.grey_dilation(labels, size=9) * (ndimage.grey_dilation(labels, size=5) == 0)
    in_cell = ndimage.mean(bright, around, np.arange(1, labels.max() + 1))
    assert np.mean(in_cell > 0.5) > 0.9
    regions, count = ndimage.label(bright)
    whole = np.setdiff1d(regions, np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]]))
    assert 5 < len(whole) <= count
    assert (ndimage.maximum(labels, regions, whole) > 0).all(), "no cell is empty"


def test_noise_falls_with_photons() -> None:
    def noise(photons: float) -> float:
        style = plain_style(coverage=0.0, background=0.3, photons=photons, read_noise=0.0)
        image, _ = simulate_frame((128, 128), rng=rng(), style=style)
        return float((image / (style.exposure * 65535)).std())

    assert noise(20.0) == pytest.approx(np.sqrt(0.3 / 20), rel=0.1)
    assert noise(2000.0) == pytest.approx(np.sqrt(0.3 / 2000), rel=0.1)


def test_large_frame_holds_many_instances() -> None:
    _, labels = simulate_frame((1024, 2048), rng=rng(), style=plain_style(median_area=60.0, coverage=0.15))
    assert labels.max() > 3500


@pytest.mark.parametrize("shape", [(0, 10), (10, -1), (3, 4, 5)])
def test_impossible_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidOptionError, match="height and a width"):
        simulate_frame(shape, rng=rng())  # type: ignore[arg-type]


def test_unknown_bit_depth_and_negative_counts_are_refused() -> None:
    with pytest.raises(InvalidOptionError, match="choose 8, 12 or 16"):
        simulate_frame((32, 32), rng=rng(), bit_depth=10)
    with pytest.raises(InvalidOptionError, match="0 or more"):
        simulate_dataset(-1)
    with pytest.raises(InvalidOptionError, match="0 or more"):
        simulate_dataset(1, seed=-1)
