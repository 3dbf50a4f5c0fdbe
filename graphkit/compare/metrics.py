"""How far two tensors are from each other: pure numpy, with tolerances by dtype."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphkit.report.records import TensorDifference

Array = NDArray[Any]


@dataclass(frozen=True)
class Tolerance:
    """What rounding may do to a tensor of one dtype.

    ``error``: largest error over the tensor's range. ``gain``: how far the best-fitting scale may be from
    1, for a tensor of many values; it sees a 1% change where one value may well be 4% off. ``floor``: a
    channel's own range counts from this share of the whole range. ``step``: rms of one rounding.
    """

    error: float
    gain: float
    floor: float = 1.0
    step: float = 0.0


EXACT = Tolerance(0.0, 0.0)
TOLERANCES: Mapping[str, Tolerance] = {
    "float64": Tolerance(1e-9, 1e-9, 0.003),
    "complex128": Tolerance(1e-9, 1e-9, 0.003),
    "float32": Tolerance(1e-4, 1e-4, 0.005),
    "complex64": Tolerance(1e-4, 1e-4, 0.005),
    "float16": Tolerance(5e-3, 2e-3, 0.5, 2e-4),
    "bfloat16": Tolerance(4e-2, 6e-3, 1.0, 1.2e-3),
    "float8_e4m3fn": Tolerance(0.15, 8e-3, 1.0, 3.6e-2),
    "float8_e4m3fnuz": Tolerance(0.15, 8e-3, 1.0, 3.6e-2),
    "float8_e5m2": Tolerance(0.3, 8e-3, 1.0, 7.2e-2),
    "float8_e5m2fnuz": Tolerance(0.3, 8e-3, 1.0, 7.2e-2),
    "float8_e8m0fnu": Tolerance(0.5, 8e-3, 1.0, 0.3),
    "float4_e2m1fn": Tolerance(0.4, 8e-3, 1.0, 0.15),
}
MOST_NOISE = 50  # how many tolerances a model's own reaction to rounding may excuse
MOST_EXCUSED = 5e-3  # of the range, whatever the dtype: a 1% gain must still show
UNIT_ROUNDINGS = 4  # ONNX Runtime's Sigmoid is off by up to two
STEP_SHARE = 1e-3  # how many quantised values may fall to the neighbouring step


def tolerance(dtype: np.dtype[Any]) -> Tolerance:
    """The tolerance of a dtype; integers, booleans and strings are exact."""
    return TOLERANCES.get(dtype.name, EXACT)


def compare(
    original: Any,
    rewritten: Any,
    *,
    tensor: str,
    original_name: str = "",
    quantised: bool = False,
    noise: float = 0.0,
    unit: bool = False,
    bound: Tolerance | None = None,
) -> TensorDifference:
    """Compare one tensor of the rewritten model with the original's.

    ``quantised``: an 8-bit tensor that a rounding of floats feeds; 0.1% of it may be one step off.
    ``noise``: the original's own relative reaction to an input change of one rounding; widens the error
    bound (never the gain bound) to four times that. ``unit``: the tensor comes from a kernel that rounds
    on the scale of 1 (Sigmoid, Softmax, …), so a few roundings of 1 are no error however small its values.
    ``bound``: what is allowed instead of the tolerance of the dtype, for floats. NaN and infinities
    must sit in the same places.
    """
    a, b = np.asarray(original), np.asarray(rewritten)
    result = TensorDifference(tensor, original_name or tensor, a.dtype.name, 0.0, 0.0, 0.0, ok=True)
    if a.dtype != b.dtype:
        return _no(result, f"dtype is {b.dtype.name}, was {a.dtype.name}")
    if a.shape != b.shape:
        return _no(result, f"shape is {list(b.shape)}, was {list(a.shape)}")
    own = tolerance(a.dtype)
    if own is EXACT:
        return _exact(result, a, b, quantised)
    return _close(result, a, b, bound or own, noise, unit)


def _no(result: TensorDifference, reason: str) -> TensorDifference:
    return replace(result, ok=False, reason=reason, max_abs=np.inf, relative=np.inf)


def _exact(result: TensorDifference, a: Array, b: Array, quantised: bool) -> TensorDifference:
    different = a != b
    count = int(np.count_nonzero(different))
    if count == 0:
        return result
    reason = f"{count} of {a.size} values differ"
    if a.dtype.kind not in "iu" and not a.dtype.name.startswith(("int", "uint")):
        return replace(result, ok=False, max_abs=1.0, relative=count / a.size, reason=reason)
    wide = np.abs(a.astype(np.float64) - b.astype(np.float64))
    worst, span = float(wide.max()), float(np.abs(a.astype(np.float64)).max()) or 1.0
    ok = quantised and a.dtype.itemsize == 1 and worst <= 1 and count <= STEP_SHARE * a.size
    return replace(result, ok=ok, max_abs=worst, relative=worst / span, reason=reason)


def _close(
    result: TensorDifference, a: Array, b: Array, bound: Tolerance, noise: float, unit: bool
) -> TensorDifference:
    wide = np.complex128 if a.dtype.kind == "c" else np.float64
    x, y = a.astype(wide), b.astype(wide)
    finite = np.isfinite(x)
    odd = _odd(x, y, finite)
    if odd:
        return replace(_no(result, odd), tolerance=bound.error)
    if not finite.all():
        x, y = np.where(finite, x, 0), np.where(finite, y, 0)
    error, size = np.abs(x - y), np.abs(x)
    max_abs = float(error.max(initial=0.0))
    if unit and a.dtype.kind == "f" and max_abs <= UNIT_ROUNDINGS * float(np.finfo(a.dtype).eps):
        return replace(result, max_abs=max_abs, tolerance=bound.error)
    limit = max(bound.error, min(4 * noise, MOST_NOISE * bound.error, MOST_EXCUSED))
    relative = max((_ratio(e, s) for e, s in _slices(error, size, bound.floor)), default=0.0)
    result = replace(result, max_abs=max_abs, relative=relative, tolerance=limit)
    if relative > limit:
        return replace(result, ok=False, reason=f"error {relative:.2g} of the range, allowed {limit:.2g}")
    return _gain(result, x, y, bound)


def _odd(x: Array, y: Array, finite: Array) -> str:
    """What is wrong with where NaN and infinities sit; empty when they agree."""
    if np.array_equal(np.isnan(x), np.isnan(y)) and np.array_equal(x[~finite], y[~finite], equal_nan=True):
        return "" if np.array_equal(finite, np.isfinite(y)) else "infinities where there were none"
    return "NaN or infinity in other places than before"


def _ratio(error: float, size: float) -> float:
    return 0.0 if error == 0 else error / size if size else np.inf


def _slices(error: Array, size: Array, floor: float) -> Iterator[tuple[float, float]]:
    """(largest error, range) of the whole tensor and of each channel (axis 1 and last axis).

    A detector's scores lie beside box coordinates a thousand times their size: over the whole range an
    error of 6% in them would not show.
    """
    whole = float(size.max(initial=0.0))
    yield float(error.max(initial=0.0)), whole
    if floor >= 1 or error.ndim < 2 or error.size == 0:
        return
    for axis in {1, error.ndim - 1}:
        others = tuple(n for n in range(error.ndim) if n != axis)
        if error.size // error.shape[axis] >= 4:
            spans = np.maximum(size.max(axis=others), floor * whole)
            errors = error.max(axis=others)
            worst = int(np.argmax(errors / np.where(spans > 0, spans, 1)))
            yield float(errors[worst]), float(spans[worst])


def _gain(result: TensorDifference, x: Array, y: Array, bound: Tolerance) -> TensorDifference:
    """Refuse a scale that is off by more than roundings can add up to over so many values."""
    span = float(np.abs(x).max(initial=0.0))
    if span == 0:
        return result
    u, v = (x / span).ravel(), (y / span).ravel()
    power = np.abs(u) ** 2
    total = float(power.sum())
    gain = abs(float(np.real(np.vdot(u, v))) / total - 1)
    effective = total**2 / float((power**2).sum())  # values that count
    limit = max(bound.gain, 8 * bound.step / np.sqrt(effective), result.tolerance if bound.step == 0 else 0.0)
    if gain > limit:
        return replace(
            result, ok=False, reason=f"scaled by {1 + gain:.4f} or its inverse, allowed {limit:.2g}"
        )
    return result


def parts(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The arrays in a value: itself, a sequence's elements, a dictionary's values, nothing for None."""
    if value is None:
        return
    if isinstance(value, (list, tuple)):
        for n, element in enumerate(value):
            yield from parts(element, f"{name}[{n}]")
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield from parts(value[key], f"{name}[{key!r}]")
    else:
        yield name, np.asarray(value)


def compare_values(
    original: Any,
    rewritten: Any,
    *,
    tensor: str,
    original_name: str = "",
    quantised: bool = False,
    noise: float = 0.0,
    unit: bool = False,
    bound: Tolerance | None = None,
) -> list[TensorDifference]:
    """`compare` for tensors, sequences, dictionaries and empty optionals: one record an array.

    Values of different structure (another length, other keys, None for a tensor) give one failed record.
    """
    left = list(parts(original, original_name or tensor))
    right = list(parts(rewritten, tensor))
    if len(left) != len(right) or (original is None) != (rewritten is None):
        record = TensorDifference(tensor, original_name or tensor, "", np.inf, np.inf, 0.0, ok=False)
        return [replace(record, reason=f"{len(right)} values where there were {len(left)}")]
    return [
        compare(
            a,
            b,
            tensor=new,
            original_name=old,
            quantised=quantised,
            noise=noise,
            unit=unit,
            bound=bound,
        )
        for (old, a), (new, b) in zip(left, right, strict=True)
    ]


def worse(a: TensorDifference | None, b: TensorDifference) -> TensorDifference:
    """The one that failed, else the one nearer to (or further over) its tolerance."""
    if a is None:
        return b
    key = [(not d.ok, d.relative / d.tolerance if d.tolerance else d.relative) for d in (a, b)]
    return a if key[0] >= key[1] else b


def self_noise(original: Any, again: Any) -> float:
    """How far a model is from itself: relative error for floats, share of changed values for the rest."""
    worst = 0.0
    for difference in compare_values(original, again, tensor=""):
        worst = max(worst, difference.relative)
    return worst
