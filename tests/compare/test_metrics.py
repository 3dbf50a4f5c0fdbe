"""Tolerances: rounding passes, a 1% gain does not, in every dtype that can show it."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphkit.compare.metrics import compare, compare_values, self_noise, worse

RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(8, 64))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16, np.complex64])
def test_rounding_passes_and_one_percent_does_not(dtype: type) -> None:
    a = VALUES.astype(dtype)
    step = {8: 1e-15, 4: 1e-7, 2: 1e-3 if dtype is np.float16 else 4e-3}.get(a.dtype.itemsize, 1e-7)
    wide = np.complex128 if a.dtype.kind == "c" else np.float64
    if dtype is np.complex64:
        step = 1e-7
    nudged = (a.astype(wide) * (1 + step * RNG.choice([-1, 1], a.shape))).astype(dtype)
    assert compare(a, nudged, tensor="t").ok
    for gain in (1.01, 0.99):
        assert not compare(a, (a.astype(wide) * gain).astype(dtype), tensor="t").ok


def test_a_small_channel_beside_a_large_one_counts() -> None:
    a = np.concatenate([RNG.uniform(0, 640, (1, 500, 4)), RNG.uniform(0, 1, (1, 500, 81))], -1).astype(
        np.float32
    )
    b = a.copy()
    b[..., 10] *= 1.01
    assert not compare(a, b, tensor="t").ok
    assert compare(a, a * np.float32(1 + 1e-6), tensor="t").ok


def test_nan_and_infinities_must_sit_in_the_same_places() -> None:
    a = np.array([np.nan, np.inf, -np.inf, 1, 2], np.float32)
    assert compare(a, a.copy(), tensor="t").ok
    for place, value in ((0, 0.0), (1, -np.inf), (2, 1.0), (3, np.nan), (4, np.inf)):
        b = a.copy()
        b[place] = value
        assert not compare(a, b, tensor="t").ok


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.bool_, object])
def test_whole_numbers_and_strings_are_exact(dtype: type) -> None:
    a = np.array([0, 1, 1, 0]).astype(dtype)
    b = a.copy()
    b[0] = 1
    assert compare(a, a.copy(), tensor="t").ok
    assert not compare(a, b, tensor="t").ok


def test_quantised_values_may_be_one_step_off_rarely() -> None:
    a = RNG.integers(0, 255, 10_000).astype(np.uint8)
    b = a.copy()
    b[:5] += 1
    assert compare(a, b, tensor="t", quantised=True).ok
    assert not compare(a, b, tensor="t").ok
    b[:50] = a[:50] + 1
    assert not compare(a, b, tensor="t", quantised=True).ok


def test_dtype_and_shape_are_compared() -> None:
    a = np.zeros((2, 3), np.float32)
    assert "dtype" in compare(a, a.astype(np.float64), tensor="t").reason
    assert "shape" in compare(a, a.T, tensor="t").reason
    assert compare(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), tensor="t").ok


def test_nested_values() -> None:
    a = [np.zeros(2, np.float32), np.ones(3, np.float32)]
    assert all(d.ok for d in compare_values(a, list(a), tensor="s"))
    assert [d.tensor for d in compare_values(a, [a[0], a[1] * 2], tensor="s") if not d.ok] == ["s[1]"]
    for other in (a[:1], None):
        assert not compare_values(a, other, tensor="s")[0].ok
    assert compare_values(None, None, tensor="s") == []
    assert not compare_values({"k": 1.0}, {"k": 2.0}, tensor="m")[0].ok


def test_noise_widens_the_error_bound_only_so_far() -> None:
    a = VALUES.astype(np.float32)
    b = a + np.float32(1e-3) * RNG.choice([-1, 1], a.shape).astype(np.float32)
    assert not compare(a, b, tensor="t").ok
    assert compare(a, b, tensor="t", noise=1e-3).ok
    assert not compare(a, a * np.float32(1.01), tensor="t", noise=1.0).ok


def test_a_rounding_of_one_is_no_error_where_the_kernel_works_on_that_scale() -> None:
    a = np.array([1e-6, 2e-7, 1e-9], np.float32)
    b = a + np.float32(1.2e-7)
    assert compare(a, b, tensor="t", unit=True).ok and not compare(a, b, tensor="t").ok
    assert not compare(a * 1000, a * 1010, tensor="t", unit=True).ok


def test_worse_prefers_failures() -> None:
    a = np.ones(4, np.float32)
    fine, off = compare(a, a, tensor="a"), compare(a, a * 2, tensor="b")
    assert worse(None, fine) is fine and worse(fine, off) is off and worse(off, fine) is off
    assert self_noise(a, a) == 0 and self_noise(a, a * 2) == 1


@given(st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=20), st.floats(1.01, 3))
def test_any_tensor_equals_itself_and_no_scaled_one(values: list[float], gain: float) -> None:
    a = np.array(values, np.float32)
    assert compare(a, a.copy(), tensor="t").ok
    if np.abs(a).max() > 1e-30:  # below, float32 itself runs out of digits
        assert not compare(a, (a.astype(np.float64) * gain).astype(np.float32), tensor="t").ok
