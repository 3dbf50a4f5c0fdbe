"""What is fine and what is not: by dtype, by what the values went through, by the user's own bounds."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from graphkit.compare.judge import Bounds, Judgement, judge
from graphkit.compare.measures import measure

VALUES = np.random.default_rng(0).normal(size=(4, 8, 64)).astype(np.float32)


def judged(a: np.ndarray, b: np.ndarray, **options: object) -> Judgement:
    return judge(a, b, measure(a, b), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_one_percent_is_seen_in_every_dtype_and_in_large_tensors(dtype: type) -> None:
    for reference in (VALUES, np.broadcast_to(VALUES, (2100, *VALUES.shape))):
        a = reference.astype(dtype)
        assert judged(a, a.copy()).ok
        off = judged(a, (reference * np.float32(1.01)).astype(dtype))
        assert not off.ok and off.share > 1 and off.reason


def test_the_coarser_dtype_decides_and_so_does_what_came_before() -> None:
    rounded = VALUES.astype(np.float16)
    assert judged(VALUES, rounded).ok and judged(rounded, VALUES).ok
    again = rounded.astype(np.float32)
    assert not judged(VALUES, again).ok
    assert judged(VALUES, again, grain=np.dtype(np.float16)).ok
    assert not judged(VALUES, again * np.float32(1.01), grain=np.dtype(np.float16)).ok


def test_one_nan_is_enough() -> None:
    bad = VALUES.copy()
    bad[0, 0, 0] = np.nan
    found = judged(VALUES, bad, bounds=(1e9, 1e9))
    assert not found.ok and found.share == math.inf and "1 of 2048 values" in found.reason


def test_integers_are_exact_in_any_width() -> None:
    a = np.arange(5)
    assert judged(a, a.astype(np.int32)).ok
    assert not judged(a, a.astype(np.int32) + 1).ok
    assert not judged(a, a + 1).ok and judged(a, a + 1, bounds=(1.0, 0.0)).ok


def test_own_bounds() -> None:
    a, b = np.array([1.0, 100.0]), np.array([1.0, 101.0])
    assert judged(a, b, bounds=(1.0, 0.0)).share == pytest.approx(1.0)
    assert judged(a, b, bounds=(0.0, 0.02)).share == pytest.approx(0.5)
    off = judged(a, b, bounds=(0.1, 0.001))
    assert off.share == pytest.approx(5.0) and "5 times the bound" in off.reason
    assert judged(a, a, bounds=(0.0, 0.0)).ok
    assert judged(a, b, bounds=(0.0, 0.0)).share == math.inf


def test_bounds_by_tensor() -> None:
    bounds = Bounds({"x": 1.0, "": 2.0}, None)
    assert bounds.of("x") == (1.0, 0.0) and bounds.of("y", "x") == (1.0, 0.0) and bounds.of("z") == (2.0, 0.0)
    assert Bounds(None, {"x": 1.0}).of("z") is None
    assert Bounds(0.5, 0.1).of("z") == (0.5, 0.1)
