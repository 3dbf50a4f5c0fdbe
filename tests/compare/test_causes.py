"""Likely causes: each planted kind of error is called by its name, with the numbers that say so."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pytest

from graphkit.compare.bounds import Noise
from graphkit.compare.causes import cause, evidence
from graphkit.compare.measures import measure

NONE = Noise()
RNG = np.random.default_rng(5)
X = RNG.standard_normal((1, 16, 6, 6)).astype(np.float32)


def told(
    x: np.ndarray,
    y: np.ndarray,
    dtype: str = "float32",
    *,
    noise: Noise = NONE,
    tf32: bool = False,
    ops: Collection[str] = (),
) -> tuple[str, str]:
    with np.errstate(over="ignore", invalid="ignore"):
        actual = y.astype(np.float16) if dtype == "float16" else y
    wide = actual.astype(np.float32)
    metrics = measure(x, actual, dtype=dtype)
    return cause(metrics, noise, dtype, tf32=tf32, ops=ops, seen=evidence(x, wide))


def reordered(order: list[int], axis: int = 1) -> np.ndarray:
    return np.take(X, order, axis)


def test_swapped_channels() -> None:
    order = list(range(16))
    order[3], order[11] = 11, 3
    assert told(X, reordered(order)) == ("layout", "channels in another order: 3 holds 11 (axis 1)")
    name, why = told(X, reordered(list(np.roll(range(16), 1))))
    assert name == "layout" and why.endswith("and 14 more (axis 1)")


def test_swapped_columns_of_a_matrix() -> None:
    x = RNG.standard_normal((9, 12)).astype(np.float32)
    y = x.copy()
    y[:, [2, 5]] = x[:, [5, 2]]
    assert told(x, y)[0] == "layout"
    x = x.reshape(1, 9, 12)
    assert told(x, y.reshape(1, 9, 12)) == ("layout", "channels in another order: 2 holds 5 (axis 2)")


def test_the_same_values_elsewhere() -> None:
    assert told(X, np.ascontiguousarray(X.transpose(0, 1, 3, 2))) == (
        "layout",
        "the same values in another order",
    )
    nhwc = np.ascontiguousarray(X.transpose(0, 2, 3, 1)).reshape(X.shape)
    assert told(X, nhwc)[0] == "layout"


def test_a_factor() -> None:
    assert told(X, X * np.float32(1.01)) == ("scale", "all values are 1.01 times what they should be")
    assert told(X, X * np.float32(-2))[0] == "scale"


def test_an_offset() -> None:
    assert told(X, X + np.float32(0.5)) == ("offset", "all values are off by 0.5")
    bias = RNG.standard_normal((16, 1, 1)).astype(np.float32)
    assert told(X, X + bias) == ("offset", "each channel is off by a constant: a bias is missing, or another")


def test_integer_truncation() -> None:
    assert told(X * 10, np.trunc(X * 10))[0] == "integer truncation"
    assert told(X * 10, np.round(X * 10), ops={"Cast"})[0] == "integer truncation"


def test_nan_and_infinities() -> None:
    y = X.copy()
    y[0, 3, 2, 2] = np.nan
    assert told(X, y) == ("NaN origin", "1 NaN from inputs that have none")
    y[0, 3, 2, 2] = np.inf
    name, why = told(X, y)
    assert name == "overflow" and "1 infinities from finite inputs" in why


@pytest.mark.parametrize("wrong", [np.inf, np.nan, 65504])
def test_float16_overflow(wrong: float) -> None:
    x = X * np.float32(60_000)
    y = np.where(np.abs(x) > 65504, np.float32(wrong), x)
    name, why = told(x, y, "float16")
    assert name == "float16 overflow" and "float16 ends at 65504" in why


def test_float16_underflow() -> None:
    x = X * np.float32(1e-6)
    name, why = told(x, np.zeros_like(x), "float16")
    assert name == "float16 underflow" and "6.1e-05" in why


def test_rounding_of_the_engines_own_kind() -> None:
    noisy = X + RNG.standard_normal(X.shape).astype(np.float32) * np.float32(2e-3)
    name, why = told(X, noisy, noise=Noise(1e-3, 1e-3), tf32=True)
    assert name == "TF32" and why.endswith("times what TF32 does here")
    assert told(X, noisy, noise=Noise(1e-3, 1e-3))[0] == "float32 rounding"
    assert told(X, noisy, noise=Noise(1e-5, 1e-5), tf32=True)[0] == "unknown"
    far = X + RNG.standard_normal(X.shape).astype(np.float32) * np.float32(0.3)
    assert told(X, far, noise=Noise(0.05, 0.05), tf32=True)[0] == "cancellation"


def test_values_that_have_nothing_to_do_with_the_reference() -> None:
    other = RNG.standard_normal(X.shape).astype(np.float32) * 3
    assert told(X, other)[0] == "unrelated values"


@pytest.mark.parametrize(
    "x, y",
    [
        (X, X),
        (np.zeros_like(X), X),
        (np.full_like(X, np.nan), X),
        (X[:1, :1, :1, :1], X[:1, :1, :1, :1] + 1),
    ],
)
def test_there_is_no_evidence_in_nothing(x: np.ndarray, y: np.ndarray) -> None:
    assert evidence(x, y) is None
