"""The default tolerance: wider for coarser dtypes and longer sums, and below any error worth a name."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphkit.compare.bounds import Bound, Noise, judge, noise
from graphkit.compare.measures import measure
from graphkit.report.diffs import Metrics
from graphkit.run.rounding import tf32

DTYPES = ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float4_e2m1fn"]
NOISES = st.builds(Noise, *[st.floats(0, 0.1)] * 3)
LENGTHS = st.integers(1, 1 << 20)
NONE = Noise()
PARTS = ("rms", "peak", "gain")


def bound(dtype: str = "float32", found: Noise = NONE, **changed: Any) -> Bound:
    known: dict[str, Any] = {"length": 64, "tf32": False, "quantised": False, "size": 1000}
    return judge(dtype, found, **(known | changed))


def no_less(wide: Bound, narrow: Bound) -> bool:
    return all(getattr(wide, p) >= getattr(narrow, p) for p in PARTS)


@given(NOISES, LENGTHS, st.booleans(), st.booleans(), st.integers(1, 1 << 24))
def test_a_coarser_dtype_is_allowed_no_less(
    found: Noise, length: int, tensor_cores: bool, quantised: bool, size: int
) -> None:
    # float16 may add up in half precision, so it is not in this order
    order = [d for d in DTYPES if d != "float16"]
    bounds = [
        bound(d, found, length=length, tf32=tensor_cores, quantised=quantised, size=size) for d in order
    ]
    assert all(no_less(wide, narrow) for narrow, wide in zip(bounds, bounds[1:], strict=False))
    half = bound("float16", found, length=length, tf32=tensor_cores, quantised=quantised, size=size)
    assert no_less(half, bounds[1])


@given(st.sampled_from(DTYPES), NOISES, LENGTHS, LENGTHS, st.booleans(), st.booleans())
def test_longer_sums_and_coarser_operands_are_allowed_no_less(
    dtype: str, found: Noise, short: int, more: int, tensor_cores: bool, quantised: bool
) -> None:
    known = {"tf32": tensor_cores, "quantised": quantised}
    narrow = bound(dtype, found, length=short, **known)
    assert no_less(bound(dtype, found, length=short + more, **known), narrow)
    assert no_less(bound(dtype, found, length=short, tf32=True, quantised=quantised), narrow)
    assert no_less(bound(dtype, found, length=short, tf32=tensor_cores, quantised=True), narrow)
    assert no_less(narrow, bound(dtype, length=short, **known))


@given(NOISES, NOISES, st.integers(1, 1 << 24))
def test_more_noise_is_allowed_more(one: Noise, other: Noise, size: int) -> None:
    both = Noise(one.rms + other.rms, one.peak + other.peak, one.gain + other.gain)
    assert no_less(bound(found=both, size=size), bound(found=one, size=size))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("length", [1, 576, 4608])
def test_one_percent_is_never_rounding(dtype: str, length: int) -> None:
    """Neither fp32 nor TF32 nor fp16 explains a gain of 1%."""
    exact = np.random.default_rng(length).standard_normal(10_000).astype(np.float32)
    wrong = measure(exact, exact * np.float32(1.01), dtype=dtype)
    assert bound(dtype, length=length, tf32=True).share(wrong) > 1.5


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_rounding_does_is_within(dtype: str) -> None:
    exact = np.random.default_rng(0).standard_normal(10_000).astype(np.float32)
    rounded = tf32(exact) if dtype == "float32" else exact.astype(np.float16).astype(np.float32)
    assert bound(dtype, tf32=True).share(measure(exact, rounded, dtype=dtype)) < 0.7


def test_the_share_is_that_of_the_part_nearest_to_its_bound() -> None:
    allowed = Bound(0.01, 0.1, 0.001)
    assert allowed.share(Metrics(rms_rel=0.005, to_range=0.02, gain=1.0001)) == pytest.approx(0.5)
    assert allowed.share(Metrics(rms_rel=0.005, to_range=0.2, gain=1)) == pytest.approx(2)
    assert allowed.share(Metrics(rms_rel=0.005, to_range=0.02, gain=0.997)) == pytest.approx(3)
    assert allowed.share(Metrics()) == 0
    assert allowed.share(Metrics(rms_rel=math.nan)) == allowed.share(Metrics(gain=math.inf)) == math.inf
    assert Bound(0, 0, 0).share(Metrics()) == 0 and Bound(0, 0, 0).share(Metrics(rms_rel=1e-9)) == math.inf


def test_noise_is_measured_where_both_are_finite() -> None:
    exact = np.array([1, 2, np.nan, 4, 1], np.float32)
    rounded = np.array([1, 2, 3, 4.4, np.inf], np.float32)
    found = noise(exact, rounded)
    assert found.rms == pytest.approx(0.4 / math.sqrt(21)) and found.peak == pytest.approx(0.1)
    assert found.gain == pytest.approx(1.6 / 21)
    assert noise(exact, exact) == Noise()
    assert noise(np.zeros(3), np.ones(3)) == noise(np.full(3, np.nan), np.ones(3)) == Noise()
