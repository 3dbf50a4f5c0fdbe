"""Metrics of a pair of tensors: exact where they can be, the same in pieces as whole, in every dtype."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphkit.compare import measures
from graphkit.compare.measures import load_metric, load_metrics, measure
from graphkit.errors import BadInput

FLOATS = ("float16", "float32", "float64", "bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2",
          "float8_e5m2fnuz", "float4_e2m1fn", "float8_e8m0fnu")  # fmt: skip
WHOLE = ("int8", "uint8", "int16", "int32", "uint32", "int64", "uint64", "bool", "int4", "uint4")
SMALL = {
    "float8_e8m0fnu": [0.5, 1, 2, 4],
    "int4": [-8, -1, 0, 7],
    "uint4": [0, 1, 8, 15],
    "bool": [0, 1, 1, 0],
}
finite = hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(-1e6, 1e6, width=32))


def dtype_of(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name, name))


@pytest.mark.parametrize("name", [*FLOATS, *WHOLE])
def test_every_dtype_equals_itself_and_not_another(name: str) -> None:
    a = np.array(SMALL.get(name, [0.0, 1.0, 2.0, 4.0])).astype(dtype_of(name))
    same = measure(a, a.copy())
    assert (same.different, same.max_abs, same.ulp, same.cosine, same.gain) == (0, 0.0, 0.0, 1.0, 1.0)
    assert same.snr_db == math.inf and same.size == 4
    wide = a.astype(np.float64)
    assert same.range_ref == same.range_actual == (wide.min(), wide.max())
    b = a.copy()
    b[1] = b[3] if wide[1] != wide[3] else b[2]
    off = measure(a, b)
    assert off.different == 1
    assert off.max_abs == abs(float(b[1]) - float(a[1])) and off.mean_abs == off.max_abs / 4
    assert off.ulp >= 1


@pytest.mark.parametrize("name", [n for n in FLOATS if n != "float8_e8m0fnu"])
def test_neighbours_are_one_ulp_apart_across_zero_too(name: str) -> None:
    dtype = dtype_of(name)
    bits = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}[dtype.itemsize]
    tiny = np.array([1], bits).view(dtype)  # the least number above zero
    one = np.array([1], dtype)
    above = (one.view(bits) + bits(1)).view(dtype)
    assert measure(one, above).ulp == 1
    assert measure(above, one).ulp == 1
    assert measure(-tiny, tiny).ulp == 2
    assert measure(np.zeros(1, dtype), tiny).ulp == 1


def test_ulp_counts_in_the_dtype_that_is_said() -> None:
    a, b = np.array([1.0], np.float32), np.array([1 + 2**-10], np.float32)
    assert measure(a, b).ulp == 2**13
    assert measure(a, b, dtype="float16").ulp == 1
    assert measure(a, b, dtype="bfloat16").ulp == 0


@pytest.mark.parametrize("name", ["int64", "uint64"])
def test_wide_integers_are_exact(name: str) -> None:
    big = np.iinfo(name).max
    a, b = np.array([big, 5], name), np.array([big - 1, 5], name)  # the same number as a double
    found = measure(a, b)
    assert (found.different, found.max_abs, found.ulp) == (1, 1.0, 1.0)
    least = np.array([np.iinfo(np.int64).min])
    assert measure(least, np.array([np.iinfo(np.int64).max])).max_abs == pytest.approx(2.0**64)
    assert measure(np.array([-1]), np.array([2**64 - 1], np.uint64)).max_abs == pytest.approx(2.0**64)


@given(finite, st.data())
def test_it_says_what_numpy_says(x: np.ndarray, data: st.DataObject) -> None:
    y = data.draw(hnp.arrays(np.float32, x.shape, elements=st.floats(-1e6, 1e6, width=32)))
    found = measure(x, y)
    a, b = x.astype(np.float64), y.astype(np.float64)
    error = np.abs(a - b)
    assert found.max_abs == error.max() and found.different == np.count_nonzero(a != b)
    assert found.mean_abs == pytest.approx(error.mean())
    assert found.range_ref == (a.min(), a.max()) and found.range_actual == (b.min(), b.max())
    if np.abs(a).max() > 0:
        assert found.to_range == pytest.approx(error.max() / np.abs(a).max())
        assert found.rms_rel == pytest.approx(np.sqrt((error**2).sum() / (a**2).sum()))
        assert found.gain == pytest.approx((a * b).sum() / (a * a).sum())
        if error.max():
            assert found.snr_db == pytest.approx(-20 * math.log10(found.rms_rel))


@given(finite, st.data())
def test_what_is_symmetric_is(x: np.ndarray, data: st.DataObject) -> None:
    y = data.draw(hnp.arrays(np.float32, x.shape, elements=st.floats(-1e6, 1e6, width=32)))
    ab, ba = measure(x, y), measure(y, x)
    assert (ab.max_abs, ab.ulp, ab.different) == (ba.max_abs, ba.ulp, ba.different)
    assert ab.mean_abs == pytest.approx(ba.mean_abs) and ab.cosine == pytest.approx(ba.cosine)
    assert ab.range_ref == ba.range_actual and ab.range_actual == ba.range_ref


@given(
    hnp.arrays(np.float32, st.integers(0, 80), elements=st.floats(width=32)),
    st.integers(1, 9),
    st.data(),
)
def test_in_pieces_as_in_one(x: np.ndarray, piece: int, data: st.DataObject) -> None:
    y = data.draw(hnp.arrays(np.float32, x.shape, elements=st.floats(width=32)))
    whole = measure(x, y)
    with patch.object(measures, "PIECE", piece):
        parts = measure(x, y)
    for name, value in vars(whole).items():
        expected = value if isinstance(value, tuple | dict) else pytest.approx(value, nan_ok=True, rel=1e-9)
        assert getattr(parts, name) == expected, name


@given(
    hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(width=32)),
    hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(width=32)),
)
def test_nan_and_infinities_are_counted_and_left_out(x: np.ndarray, y: np.ndarray) -> None:
    n = min(x.size, y.size)
    x, y = x[:n], y[:n]
    found = measure(x, y)
    assert found.nan == (np.isnan(x).sum(), np.isnan(y).sum())
    assert found.inf == (np.isinf(x).sum(), np.isinf(y).sum())
    both = np.isfinite(x) & np.isfinite(y)
    apart = ~both & ~((x == y) | (np.isnan(x) & np.isnan(y)))
    assert found.misplaced == apart.sum()
    assert math.isfinite(found.max_abs)
    if both.any():
        assert found.max_abs == np.abs(x[both].astype(np.float64) - y[both]).max()


def test_views_of_any_layout() -> None:
    a = np.random.default_rng(0).normal(size=(300, 8, 40)).astype(np.float32)
    b = a + np.float32(0.5)
    straight = measure(a, b)
    assert measure(a.T, b.T).mean_abs == pytest.approx(straight.mean_abs)
    assert measure(a[:, ::2], b[:, ::2]).size == a.size // 2
    wide = np.broadcast_to(np.float32(1), (1, 3, 100_000))
    assert measure(wide, wide[:, ::-1]).size == 300_000
    one_row = np.asfortranarray(np.ones((1, 200, 200)))[:, ::-1]
    assert measure(one_row, one_row).different == 0


@pytest.mark.parametrize("name", ["float32", "bfloat16", "int64", "bool", "complex64"])
def test_empty_and_scalar(name: str) -> None:
    empty = measure(np.zeros((0, 4), dtype_of(name)), np.zeros((0, 4), dtype_of(name)))
    assert (empty.size, empty.max_abs, empty.cosine, empty.range_ref) == (0, 0.0, 1.0, (0.0, 0.0))
    scalar = measure(np.array(1, dtype_of(name)), np.array(0, dtype_of(name)))
    assert (scalar.size, scalar.max_abs, scalar.different) == (1, 1.0, 1)


def test_magnitudes_whose_squares_a_double_cannot_hold() -> None:
    for size in (1e300, 1e-300):
        a = np.array([size, -size, size / 2])
        found = measure(a, a * 1.01)
        assert found.rms_rel == pytest.approx(0.01) and found.gain == pytest.approx(1.01)
        assert found.max_abs == pytest.approx(size * 0.01) and found.range_ref == (-size, size)


def test_complex_numbers_and_text() -> None:
    a = np.array([1 + 1j, 2 - 1j], np.complex64)
    assert measure(a, a + np.complex64(0.5j)).max_abs == 0.5
    words = np.array(["a", "b", "c", "d"], object)
    assert measure(words, words).different == 0
    assert measure(words, np.array(["a", "b", "c", "x"], object)).different == 1


def test_other_dtypes_and_shapes() -> None:
    a = np.array([1.0, 2.0, 3.0], np.float32)
    assert measure(a, a.astype(np.float16)).different == 0
    assert measure(a.astype(np.int64), a).different == 0
    with pytest.raises(ValueError, match="shapes differ"):
        measure(a, a[:2])


def test_metrics_of_the_user(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np\n"
        "def worst(reference, actual):\n    return np.abs(reference - actual).max()\n"
        "def writes(reference, actual):\n    reference[0] = 1\n    return 0\n"
    )
    a = np.array([1.0, 2.0])
    assert measure(a, a + 1, custom=load_metrics([f"{file}:worst"])).custom == {"worst": 1.0}
    with pytest.raises(BadInput, match="metric 'writes' failed .*read-only"):
        measure(a, a, custom=load_metrics([f"{file}:writes"]))
    assert a[0] == 1.0
    assert [p.name for p in tmp_path.iterdir()] == ["mine.py"]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("mine.py", "names no function"),
        ("{}/none.py:f", "there is no such file"),
        ("{}/bad.py:f", "does not import: ZeroDivisionError"),
        ("{}/good.py:g", "has no function 'g'"),
    ],
)
def test_a_metric_that_is_none(tmp_path: Path, spec: str, said: str) -> None:
    (tmp_path / "bad.py").write_text("1 / 0\n")
    (tmp_path / "good.py").write_text("def f(a, b):\n    return 0\n")
    with pytest.raises(BadInput, match=said):
        load_metric(spec.format(tmp_path))


def test_two_metrics_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("def f(a, b):\n    return 0\n")
    with pytest.raises(BadInput, match="a metric 'f' already"):
        load_metrics([f"{tmp_path}/m.py:f"] * 2)
