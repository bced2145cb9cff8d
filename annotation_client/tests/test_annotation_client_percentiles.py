"""Percentiles from counts equal those from values, to the last bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_client.percentiles import count_values, percentiles_of_counts


@settings(max_examples=300, deadline=None)
@given(
    values=st.lists(st.integers(-300, 300), min_size=1, max_size=60),
    percentages=st.lists(st.floats(0, 100), min_size=1, max_size=4),
)
def test_percentiles_equal_numpys(values: list[int], percentages: list[float]) -> None:
    array = np.array(values, np.int16)
    counts = count_values(array, -300, 601)
    expected = np.percentile(array, percentages)
    assert percentiles_of_counts(counts, -300, percentages) == tuple(expected)


def test_extremes_of_the_type() -> None:
    array = np.array([[0, 65535], [65535, 0]], np.uint16)
    counts = count_values(array, 0, 65536)
    assert counts[0] == counts[65535] == 2 and counts.sum() == 4
    assert percentiles_of_counts(counts, 0, (0, 50, 100)) == (0, 32767.5, 65535)
    signed = np.array([-32768, 32767], np.int16)
    assert percentiles_of_counts(count_values(signed, -32768, 65536), -32768, (0, 100)) == (-32768, 32767)
