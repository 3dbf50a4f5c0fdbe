"""Samples: the same places every time, distances that leave out what is not finite."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphkit.compare.samples import FINE, ROUGH, Sample, distance, distances, positions, take

FLOATS = st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=40)


@given(st.integers(0, 200_000), st.sampled_from([ROUGH, FINE]))
def test_places_are_within_the_tensor_in_order_and_always_the_same(count: int, most: int) -> None:
    found = positions(count, most)
    assert np.array_equal(found, positions(count, most)) and len(found) <= most
    assert np.all(np.diff(found) > 0) and (count == 0 or 0 <= found[0] <= found[-1] < count)
    assert len(found) == count if count <= most else len(found) > 0.6 * most


@pytest.mark.parametrize(
    "dtype", ["float32", "float16", "int64", "bool", "uint8", "float8_e4m3fn", "bfloat16"]
)
def test_a_sample_is_of_the_order_of_the_values_not_of_the_dims(dtype: str) -> None:
    import ml_dtypes

    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    value = (np.arange(6000) % 7).astype(kind)
    flat, cube = Sample(value), Sample(value.reshape(20, 30, 10))
    assert flat.values.dtype == np.float32 and np.array_equal(flat.values, cube.values)
    assert (cube.dims, cube.count, len(take(value))) == ((20, 30, 10), 6000, len(flat.values))
    assert np.array_equal(flat.values, value.astype(np.float32)[positions(6000)])


def test_scalars_and_empty_tensors_have_samples() -> None:
    assert Sample(np.float32(3).reshape(())).values.tolist() == [3]
    assert Sample(np.zeros((0, 4), np.float32)).count == 0
    assert distance(np.zeros(0, np.float32), np.zeros(0, np.float32)) == math.inf


@given(FLOATS, st.floats(-0.5, 0.5))
def test_the_distance_is_the_rms_error_over_the_rms(values: list[float], gain: float) -> None:
    x = np.array(values, np.float32)
    found = distance(x * np.float32(1 + gain), x)
    assert distance(x, x) == 0
    if np.abs(x).max() > 1e-3:
        assert found == pytest.approx(abs(gain), rel=1e-3, abs=1e-5)


def test_each_row_is_measured_by_itself() -> None:
    rows = np.array([[1, 1, 1, 1], [2, 2, 2, 2], [0, 0, 0, 0]], np.float32)
    found = distances(rows[0], rows)
    assert found[0] == 0 and found[1] == 0.5 and found[2] == math.inf


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_on_either_side_is_left_out(bad: float) -> None:
    x = np.linspace(1, 2, 100, dtype=np.float32)
    spoilt = x.copy()
    spoilt[::3] = bad
    assert distance(spoilt, x) == distance(x, spoilt) == distance(spoilt, spoilt) == 0
    spoilt[:96] = bad  # four of a hundred values say nothing
    assert distance(spoilt, x) == math.inf


def test_sums_do_not_overflow() -> None:
    big = np.full(100, 3e38, np.float32)
    assert distance(big, big) == 0 and 0 < distance(big, big * np.float32(0.9)) < 0.2
