"""Which images are accepted, and what intensities they are given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from condensatenet.errors import CondensateNetError, InvalidImageError, InvalidOptionError
from condensatenet.inference.normalize import check_image, intensity_range, normalize_image

percentiles = st.tuples(st.floats(0, 100), st.floats(0, 100)).filter(lambda pair: pair[0] != pair[1]).map(sorted)
frames = st.one_of(
    arrays.arrays(dtype, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12)) for dtype in (np.uint8, np.uint16)
)


def ramp(dtype: Any, shape: tuple[int, int] = (50, 40)) -> NDArray[Any]:
    """An image whose intensities run from 0 to 250, in random order."""
    values = np.linspace(0, 250, shape[0] * shape[1]).astype(int)
    return np.random.default_rng(0).permutation(values).reshape(shape).astype(dtype)


@settings(deadline=None, max_examples=100, derandomize=True, database=None)
@given(frames, percentiles)
def test_percentiles_from_a_histogram_are_numpys(image: NDArray[Any], limits: list[float]) -> None:
    expected = np.percentile(image, limits)
    np.testing.assert_allclose(intensity_range(image, *limits), expected, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_percentiles_of_a_large_frame_are_numpys(dtype: type) -> None:
    # More pixels than the histogram takes at once.
    image = np.random.default_rng(1).gamma(2, 20, (2100, 2050)).clip(0, 255).astype(dtype)
    assert intensity_range(image) == pytest.approx(np.percentile(image, [0.5, 99.5]), rel=1e-12)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i2", "i4", "u4", "i8", "u8", ">u2", ">f4", ">i4"])
def test_percentiles_of_every_other_type_are_numpys(dtype: str) -> None:
    image = (ramp(np.int64) // 2).astype(dtype)  # fits into i1
    assert intensity_range(image, 3, 90) == pytest.approx(np.percentile(image.astype(float), [3, 90]), rel=1e-3)


@pytest.mark.parametrize(
    "dtype", ["u1", "u2", ">u2", "i2", "i4", ">i4", "u4", "i8", "u8", "f2", "f4", ">f4", "f8", "f16"]
)
def test_every_type_is_scaled_the_same(dtype: str) -> None:
    image = ramp(dtype)
    low, high = np.percentile(ramp(float), [0.5, 99.5])
    expected = np.clip((ramp(float) - low) / (high - low), 0, 1)
    scaled = normalize_image(image)
    assert scaled.dtype == np.dtype("=f4")
    assert scaled.flags.c_contiguous and scaled.flags.writeable
    np.testing.assert_allclose(scaled, expected, atol=2e-3 if dtype == "f2" else 1e-6)
    np.testing.assert_array_equal(image, ramp(dtype))  # the caller's image is left as it was


@pytest.mark.parametrize(
    ("dtype", "offset"), [("i4", 2_000_000_000), ("u4", 4_000_000_000), ("i8", -(10**12)), ("f8", 1e9)]
)
def test_small_differences_on_a_high_offset_are_kept(dtype: str, offset: float) -> None:
    image = ramp(dtype) + np.asarray(offset, dtype)
    np.testing.assert_allclose(normalize_image(image), normalize_image(ramp(np.uint8)), atol=1e-6)


def test_any_memory_layout_is_accepted() -> None:
    image = ramp(np.uint16)
    expected = normalize_image(image)
    padded = np.zeros((100, 120), np.uint16)
    padded[::2, ::3] = image
    read_only = image.copy()
    read_only.flags.writeable = False
    for same in (
        padded[::2, ::3],
        np.asfortranarray(image),
        image[::-1][::-1],
        read_only,
        image[:, :, None],
        image.tolist(),
    ):
        np.testing.assert_allclose(normalize_image(same), expected, atol=1e-6)


def test_percentiles_0_and_100_are_the_extremes() -> None:
    image = ramp(np.uint16) + 7
    assert intensity_range(image, 0, 100) == (7, 257)
    scaled = normalize_image(image, 0, 100)
    assert scaled.min() == 0
    assert scaled.max() == pytest.approx(1)
    assert np.sum(scaled == 0) == np.sum(image == 7)
    assert np.sum(normalize_image(image, 0, 50) >= 1 - 1e-6) == np.sum(image >= np.median(image))


@pytest.mark.parametrize("value", [0, 7, 65535])
@pytest.mark.parametrize("dtype", ["u2", ">u2", "i4", "f4", "f8"])
def test_constant_image_becomes_zero(dtype: str, value: int) -> None:
    assert not normalize_image(np.full((9, 4), value, dtype)).any()
    assert not normalize_image(np.full((1, 1), value / 3, dtype)).any()


def test_crop_is_scaled_by_the_range_of_its_frame() -> None:
    frame = ramp(np.uint16)
    whole = normalize_image(frame)
    crop = normalize_image(frame[10:20, 5:9], intensity_range=intensity_range(frame))
    np.testing.assert_array_equal(crop, whole[10:20, 5:9])
    assert normalize_image(frame, intensity_range=(0, 500)).max() == pytest.approx(0.5)


@pytest.mark.parametrize("limits", [(5, 1), (float("nan"), 1), (0, float("inf"))])
def test_bad_range_is_refused(limits: tuple[float, float]) -> None:
    with pytest.raises(InvalidOptionError, match="range must be finite and in ascending order"):
        normalize_image(ramp(np.uint8), intensity_range=limits)


@pytest.mark.parametrize("limits", [(-0.1, 50), (50, 100.1), (50, 50), (60, 40), (float("nan"), 50), (5, float("nan"))])
def test_bad_percentiles_are_refused(limits: tuple[float, float]) -> None:
    for function in (normalize_image, intensity_range):
        with pytest.raises(InvalidOptionError, match="0 <= low < high <= 100"):
            function(ramp(np.uint8), *limits)


BAD_IMAGES = [
    (np.full((4, 4), np.nan), "NaN or infinite values; replace them"),
    (np.array([[1.0, np.inf]]), "NaN or infinite values; replace them"),
    (np.array([[1.0, -np.inf]], np.float16), "NaN or infinite values; replace them"),
    (np.zeros((8, 9, 3), np.uint8), r"3 channels .* pass one channel"),
    (np.zeros((8, 9, 4), np.uint8), r"4 channels .* pass one channel"),
    (np.zeros((8, 9, 2), np.uint8), r"2 channels .* pass one channel"),
    (np.zeros((5, 8, 9), np.uint8), r"shape \(5, 8, 9\); pass one 2-D plane"),
    (np.zeros((1, 8, 9, 1), np.uint8), "pass one 2-D plane"),
    (np.zeros(9, np.uint8), "pass one 2-D plane"),
    (np.uint8(3), "pass one 2-D plane"),
    (np.zeros((0, 9), np.uint8), "empty"),
    (np.zeros((9, 0)), "empty"),
    (np.zeros((9, 0, 1)), "empty"),
    (np.zeros((4, 4), bool), "bool values; pass integers or floating-point numbers"),
    (np.zeros((4, 4), complex), "complex128 values"),
    (np.zeros((4, 4), object), "object values"),
    (np.zeros((4, 4), "U3"), "<U3 values"),
    (np.zeros((4, 4), "M8[s]"), "datetime64"),
    (None, "pass one 2-D plane"),
]


@pytest.mark.parametrize(("image", "reason"), BAD_IMAGES, ids=lambda value: value if isinstance(value, str) else "")
def test_image_that_cannot_be_segmented_gets_a_reason(image: Any, reason: str) -> None:
    for function in (check_image, normalize_image, intensity_range):
        with pytest.raises(InvalidImageError, match=reason) as caught:
            function(image)
        assert isinstance(caught.value, CondensateNetError) and isinstance(caught.value, ValueError)


def test_checked_image_keeps_its_type() -> None:
    for dtype in ("u1", ">u2", "f8"):
        image = ramp(dtype)
        assert check_image(image) is image
        assert check_image(image[:, :, None]).dtype == image.dtype
        assert check_image(image[:, :, None]).shape == image.shape
