"""How far a tensor is from its reference: every number of `Metrics`, in double precision, piece by piece."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from graphkit.compare.custom import Metric, apply_metrics, load_metric, load_metrics
from graphkit.report.diffs import Metrics

__all__ = ["Metric", "load_metric", "load_metrics", "measure", "pieces"]

Array = NDArray[Any]
PIECE = 1 << 13  # values at a time: they stay in the cache, and BLAS sums so few with one thread
_ONES = np.ones(PIECE)  # a dot product sums faster than `sum`
_MOST_SQUARED = 1e150  # greater magnitudes overflow a double when squared; so do these inverted, underflowing


def measure(
    reference: Array,
    actual: Array,
    *,
    dtype: str = "",
    custom: Mapping[str, Callable[..., Any]] | None = None,
) -> Metrics:
    """How far ``actual`` is from ``reference``: two arrays of one shape, of any dtype of numpy or ml_dtypes.

    ``dtype`` is the one whose representable values ``ulp`` counts: by default that of ``actual``. ``custom``
    maps names to functions of (reference, actual) that return a number. Integers and booleans are compared
    exactly, 64 bits wide too; complex numbers as twice as many reals; anything else counts what is unequal.
    A tensor of any size takes a few MB beside itself. Raises ValueError for arrays of unlike shape and
    BadInput for a metric that fails.
    """
    reference, actual = np.asarray(reference), np.asarray(actual)
    if reference.shape != actual.shape:
        raise ValueError(f"shapes differ: {list(reference.shape)} and {list(actual.shape)}")
    found = _measured(reference, actual, dtype or actual.dtype.name)
    return replace(found, size=reference.size, custom=apply_metrics(custom or {}, reference, actual))


def _measured(reference: Array, actual: Array, dtype: str) -> Metrics:
    kinds = [_kind(a.dtype) for a in (reference, actual)]
    if "other" in kinds:
        return _unequal(reference, actual)
    if "complex" in kinds:
        reference, actual = _reals(reference), _reals(actual)
        dtype = actual.dtype.name
    whole = kinds == ["whole", "whole"]
    total = _Total(1.0 if whole else _scale(reference, actual), None if whole else _number(dtype))
    with np.errstate(all="ignore"):  # NaN and infinities are counted, not warned of
        for a, b in pieces(reference, actual):
            if whole:
                total.add_whole(a, b)
            else:
                total.add(a, b)
        return total.metrics()


def _kind(dtype: np.dtype[Any]) -> str:
    if dtype.kind in "iub" or dtype.name in _SMALL_INTS:
        return "whole"
    if dtype.kind == "c":
        return "complex"
    return "float" if dtype.kind == "f" or dtype.name in _EXTENSIONS else "other"


_SMALL_INTS = frozenset({"int4", "uint4", "int2", "uint2", "int1", "uint1"})
_EXTENSIONS = frozenset(
    name
    for name in dir(ml_dtypes)
    if name.startswith(("bfloat", "float")) and isinstance(getattr(ml_dtypes, name), type)
)


def _number(name: str) -> np.dtype[Any] | None:
    """The dtype of that name, when it is one whose values have a next one; else None."""
    try:
        dtype = np.dtype(getattr(ml_dtypes, name, name))
    except TypeError:
        return None
    return dtype if _kind(dtype) == "float" and dtype.itemsize <= 8 else None


def _reals(array: Array) -> Array:
    """Complex numbers as pairs of real ones, one more axis; real ones get imaginary zeros."""
    wide = array if array.dtype.kind == "c" else array.astype(np.complex128)
    return np.stack([wide.real, wide.imag], -1)


def _unequal(reference: Array, actual: Array) -> Metrics:
    """Strings and objects are equal or not."""
    count = int(np.count_nonzero(reference != actual)) if reference.size else 0
    worst = 1.0 if count else 0.0
    share = count / reference.size if reference.size else 0.0
    snr = math.inf if not count else -10 * math.log10(share)
    return Metrics(worst, share, math.sqrt(share), worst, worst, worst, snr_db=snr, different=count)


def _scale(reference: Array, actual: Array) -> float:
    """A power of two that brings the largest magnitude near 1, where squares would leave double's range."""
    if max(reference.dtype.itemsize, actual.dtype.itemsize) < 8:
        return 1.0
    most = 0.0
    for pair in pieces(reference, actual):
        for piece in pair:
            size = np.abs(piece.astype(np.float64))
            worst = float(size.max())
            if not math.isfinite(worst):
                worst = float(size.max(initial=0.0, where=np.isfinite(size)))
            most = max(most, worst)
    if most == 0 or 1 / _MOST_SQUARED < most < _MOST_SQUARED:
        return 1.0
    return math.ldexp(1.0, max(-1022, min(1022, -math.frexp(most)[1] - 1)))


def pieces(a: Array, b: Array) -> Iterator[tuple[Array, Array]]:
    """Both arrays as flat pieces of at most PIECE values, in the same order, with no copy of the whole."""
    if a.flags.c_contiguous and b.flags.c_contiguous:
        a, b = a.reshape(-1), b.reshape(-1)
        for start in range(0, a.size, PIECE):
            yield a[start : start + PIECE], b[start : start + PIECE]
    elif a.size <= PIECE:
        yield a.reshape(-1), b.reshape(-1)
    else:
        rows = max(1, PIECE * a.shape[0] // a.size)
        for start in range(0, a.shape[0], rows):
            one = slice(start, start + rows) if rows > 1 else start
            yield from pieces(a[one], b[one])


class _Total:
    """Sums over pieces of a pair of tensors; ``dtype`` is the one whose steps are counted."""

    def __init__(self, scale: float, dtype: np.dtype[Any] | None) -> None:
        self._scale, self._dtype = scale, dtype
        self._nan, self._inf = np.zeros(2, int), np.zeros(2, int)
        self._misplaced = self._different = self._size = 0
        self._least, self._most = np.full(2, np.inf), np.full(2, -np.inf)
        self._error = self._error2 = self._xx = self._yy = self._xy = 0.0
        self._max = self._max_rel = self._ulp = 0.0

    def add_whole(self, a: Array, b: Array) -> None:
        """Integers and booleans: their distance is exact however wide they are."""
        a, b = (p.astype(np.int8) if p.dtype.name in _SMALL_INTS else p for p in (a, b))
        distance = _distance(a, b)
        if distance.size:
            self._ulp = max(self._ulp, float(distance.max()))
        self._sum(a.astype(np.float64), b.astype(np.float64), distance.astype(np.float64))

    def add(self, a: Array, b: Array) -> None:
        """Floats, where both are finite, are compared as doubles; elsewhere they are counted."""
        x, y = a.astype(np.float64), b.astype(np.float64)
        if not math.isfinite(float(x @ _ONES[: x.size]) + float(y @ _ONES[: x.size])):
            x, y = a, b = self._finite(x, y)
        if self._dtype is not None and x.size:
            self._ulp = max(self._ulp, float(_steps(a, b, self._dtype).max()))
        if self._scale != 1:
            x, y = x * self._scale, y * self._scale
        error = y - x
        self._sum(x, y, np.abs(error, out=error))

    def _finite(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Count NaN and infinities; what is finite on both sides."""
        fine = np.isfinite(x) & np.isfinite(y)
        if fine.all():  # only their sum was not
            return x, y
        for side, values in enumerate((x, y)):
            self._nan[side] += np.count_nonzero(np.isnan(values))
            self._inf[side] += np.count_nonzero(np.isinf(values))
            self._range(side, values[np.isfinite(values)] * self._scale)
        odd_x, odd_y = x[~fine], y[~fine]
        apart = ~((odd_x == odd_y) | (np.isnan(odd_x) & np.isnan(odd_y)))
        self._misplaced += int(np.count_nonzero(apart))
        return x[fine], y[fine]

    def _range(self, side: int, values: Array) -> None:
        if values.size:
            self._least[side] = min(self._least[side], values.min())
            self._most[side] = max(self._most[side], values.max())

    def _sum(self, x: Array, y: Array, error: Array) -> None:
        if not x.size:
            return
        self._size += x.size
        self._range(0, x)
        self._range(1, y)
        self._xx += float(x @ x)
        self._yy += float(y @ y)
        self._xy += float(x @ y)
        worst = float(error.max())
        if worst == 0:
            return
        self._max = max(self._max, worst)
        self._different += int(np.count_nonzero(error))
        self._error += float(error @ _ONES[: x.size])
        self._error2 += float(error @ error)
        relative = np.divide(error, np.abs(x), out=error)
        most = float(relative.max())
        if math.isnan(most):  # 0 over 0
            most = float(relative.max(initial=0.0, where=~np.isnan(relative)))
        self._max_rel = max(self._max_rel, most)

    def metrics(self) -> Metrics:
        """Everything but the size and the user's own."""
        scale = self._scale
        least, most = (np.where(np.isfinite(v), v, 0.0) / scale for v in (self._least, self._most))
        span = max(abs(float(least[0])), abs(float(most[0])))
        rms = math.sqrt(self._error2)
        return Metrics(
            max_abs=self._max / scale,
            mean_abs=self._error / self._size / scale if self._size else 0.0,
            rms_rel=_ratio(rms, math.sqrt(self._xx)),
            max_rel=self._max_rel,
            to_range=_ratio(self._max, span * scale),
            ulp=self._ulp,
            cosine=self._cosine(),
            snr_db=_decibels(math.sqrt(self._xx), rms),
            gain=self._xy / self._xx if self._xx else 1.0,
            nan=(int(self._nan[0]), int(self._nan[1])),
            inf=(int(self._inf[0]), int(self._inf[1])),
            misplaced=self._misplaced,
            range_ref=(float(least[0]), float(most[0])),
            range_actual=(float(least[1]), float(most[1])),
            different=self._different + self._misplaced,
        )

    def _cosine(self) -> float:
        if self._xx == 0 or self._yy == 0:
            return 1.0 if self._xx == self._yy else 0.0
        if self._different == 0:
            return 1.0
        return max(-1.0, min(1.0, self._xy / (math.sqrt(self._xx) * math.sqrt(self._yy))))


def _ratio(a: float, b: float) -> float:
    return 0.0 if a == 0 else a / b if b else math.inf


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 20 * math.log10(signal / noise) if signal else -math.inf


def _distance(a: Array, b: Array) -> Array:
    """|a - b| of integers or booleans, with no overflow: as uint64, which holds all but uint64 - negative."""
    if a.dtype.kind == "b" or b.dtype.kind == "b":
        a, b = (p.astype(np.int8) if p.dtype.kind == "b" else p for p in (a, b))
    if max(a.dtype.itemsize, b.dtype.itemsize) < 8:
        return np.abs(a.astype(np.int64) - b.astype(np.int64))
    if {a.dtype.kind, b.dtype.kind} == {"i", "u"}:
        signed, other = (a, b) if a.dtype.kind == "i" else (b, a)
        apart = np.abs(signed.astype(np.float64) - other.astype(np.float64))
        below = np.maximum(signed, 0).astype(np.uint64)
        return np.where(signed < 0, apart, _distance(below, other.astype(np.uint64)))
    wide = np.int64 if a.dtype.kind == "i" else np.uint64
    a, b = a.astype(wide), b.astype(wide)
    return np.where(a > b, a - b, b - a).view(np.uint64)


def _steps(x: Array, y: Array, dtype: np.dtype[Any]) -> Array:
    """How many representable values of ``dtype`` lie between x and y, both rounded to it."""
    a, b = (_ordinal(v.astype(dtype, copy=False), dtype) for v in (x, y))
    apart = np.maximum(a, b) - np.minimum(a, b)  # may wrap around; unsigned, it is right again
    return apart.view(f"u{dtype.itemsize}")


def _ordinal(values: Array, dtype: np.dtype[Any]) -> Array:
    """The place of each value among all of its dtype, 0 at zero: formats are sign and magnitude."""
    bits = values.view(_BITS[dtype.itemsize])
    if dtype.name == "float8_e8m0fnu":  # has no sign
        return bits ^ np.int8(-128)
    width = _WIDTHS.get(dtype.name, dtype.itemsize * 8)
    if width < 8:  # in the low bits of a byte
        bits = (bits << (8 - width)) >> (8 - width)
    sign = bits >> (dtype.itemsize * 8 - 1)
    place = bits & ((1 << (width - 1)) - 1)
    place ^= sign
    place -= sign
    return np.asarray(place)


_BITS = {1: np.int8, 2: np.int16, 4: np.int32, 8: np.int64}
_WIDTHS = {"float4_e2m1fn": 4, "float6_e2m3fn": 6, "float6_e3m2fn": 6}
