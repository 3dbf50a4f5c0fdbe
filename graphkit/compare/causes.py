"""Why a kernel is off: likely causes, each with the evidence in the numbers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphkit.compare.bounds import Noise
from graphkit.report.diffs import Metrics

__all__ = ["Evidence", "cause", "evidence"]

Array = NDArray[Any]
Evidence = tuple[str, str]

_LARGEST = {"float16": 65504.0, "float8_e4m3fn": 448.0, "float8_e5m2": 57344.0, "bfloat16": 3.3e38}
_SMALLEST = {"float16": 6.1e-5, "float8_e4m3fn": 1.6e-2, "float8_e5m2": 6.1e-5}
_MOST = 1 << 22  # values looked at


def evidence(expected: Array, actual: Array) -> Evidence | None:
    """What kind of difference this is, from the values alone; None when it looks like none of these.

    Looks at a tensor of the replay and the engine's: an order of channels or axes, a factor, an offset,
    values cut to whole numbers.
    """
    x, y = expected.astype(np.float64, copy=False), actual.astype(np.float64, copy=False)
    if x.size < 2 or x.size > _MOST or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return None
    scale = float(np.sqrt(np.mean(x**2)))
    if scale == 0:
        return None
    return (
        _channels(x, y, scale)
        or _whole(x, y, scale)
        or _factor(x, y, scale)
        or _offset(x, y, scale)
        or _order(x, y, scale)
    )


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else 0.0


def _channels(x: Array, y: Array, scale: float) -> Evidence | None:
    """Whether some channels hold what others should."""
    for axis in dict.fromkeys((1, x.ndim - 1)) if x.ndim > 1 else (0,):
        count = x.shape[axis] if x.ndim > axis else 0
        if not 1 < count <= 4096 or x.size == count and x.ndim > 1 and axis == 0:
            continue
        u = np.moveaxis(x, axis, 0).reshape(count, -1)
        v = np.moveaxis(y, axis, 0).reshape(count, -1)
        wrong = [c for c in range(count) if _rms(u[c] - v[c]) > 0.02 * scale]
        if not 2 <= len(wrong) <= 256 or u.shape[1] < 2 and len(wrong) == count:
            continue
        places = {}
        for c in wrong:
            apart = [(_rms(u[o] - v[c]), o) for o in wrong]
            near, source = min(apart)
            if near <= 0.02 * scale and source != c:
                places[c] = source
        if len(places) == len(wrong) and len(set(places.values())) == len(wrong):
            a, b = next(iter(places.items()))
            more = f" and {len(wrong) - 2} more" if len(wrong) > 2 else ""
            return "layout", f"channels in another order: {a} holds {b}{more} (axis {axis})"
    return None


def _factor(x: Array, y: Array, scale: float) -> Evidence | None:
    gain = float(x.ravel() @ y.ravel()) / float(x.ravel() @ x.ravel())
    error = _rms(y - x)
    if error > 0 and _rms(y - gain * x) < 0.3 * error and gain != 0:
        return "scale", f"all values are {gain:.5g} times what they should be"
    return None


def _offset(x: Array, y: Array, scale: float) -> Evidence | None:
    error = y - x
    if _rms(error) == 0:
        return None
    if _rms(error - error.mean()) < 0.2 * _rms(error):
        return "offset", f"all values are off by {float(error.mean()):.4g}"
    if x.ndim > 2:
        others = tuple(a for a in range(x.ndim) if a != 1)
        if x.size > 2 * x.shape[1] and _rms(error - error.mean(axis=others, keepdims=True)) < 0.1 * _rms(
            error
        ):
            return "offset", "each channel is off by a constant: a bias is missing, or another"
    return None


def _whole(x: Array, y: Array, scale: float) -> Evidence | None:
    if np.array_equal(y, np.trunc(y)) and not np.array_equal(x, np.trunc(x)) and np.abs(x - y).max() <= 1:
        return "integer truncation", "the engine's values are whole numbers, the reference's are not"
    return None


def _order(x: Array, y: Array, scale: float) -> Evidence | None:
    if _rms(np.sort(x.ravel()) - np.sort(y.ravel())) < 0.01 * scale and _rms(x - y) > 0.1 * scale:
        return "layout", "the same values in another order"
    return None


def cause(
    metrics: Metrics, found: Noise, dtype: str, *, tf32: bool, ops: Collection[str], seen: Evidence | None
) -> Evidence:
    """The likely cause of an introduced error, and what in the numbers says so."""
    largest = _LARGEST.get(dtype)
    reach = max(abs(metrics.range_ref[0]), abs(metrics.range_ref[1]))
    new_nan, new_inf = metrics.nan[1] - metrics.nan[0], metrics.inf[1] - metrics.inf[0]
    if largest is not None and reach > largest and (new_nan > 0 or new_inf > 0 or metrics.to_range > 0.01):
        return f"{dtype} overflow", f"should reach {reach:.4g}, {dtype} ends at {largest:.5g}"
    if new_inf > 0 and new_nan <= 0:
        return "overflow", f"{new_inf} infinities from finite inputs; should reach {reach:.4g}"
    if new_nan > 0:
        return "NaN origin", f"{new_nan} NaN from inputs that have none"
    smallest = _SMALLEST.get(dtype)
    if smallest is not None and 0 < reach < smallest:
        return f"{dtype} underflow", f"all values are below {smallest:.2g}, where {dtype} loses digits"
    if seen is not None:
        return seen
    if found.rms > 0 and metrics.rms_rel < 8 * found.rms:
        name = "TF32" if tf32 and dtype == "float32" else f"{dtype} rounding"
        if found.rms > 0.01:
            return "cancellation", f"{name} alone moves this tensor by {found.rms:.2g} of its rms"
        return name, f"{metrics.rms_rel / found.rms:.1f} times what {name} does here"
    if "Cast" in ops and metrics.ulp and float(metrics.max_abs).is_integer():
        return "integer truncation", "off by whole numbers after a Cast"
    if metrics.cosine < 0.5:
        return "unrelated values", f"cosine {metrics.cosine:.2g} with what it should be"
    return "unknown", f"cosine {metrics.cosine:.6g}, largest error {metrics.to_range:.2g} of the range"
