"""Whether an error is fine: by the user's own bounds where there are any, else by dtype."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphkit.compare import metrics
from graphkit.compare.measures import pieces
from graphkit.report.diffs import Metrics

__all__ = ["Bounds", "Judgement", "judge"]

Array = NDArray[Any]
_WHOLE = 1 << 22  # values; a larger tensor is judged by its metrics, without copies of it in double


@dataclass(frozen=True)
class Judgement:
    """``share`` is the error over ``tolerance``; ``reason`` says what is wrong, empty when ``ok``."""

    ok: bool
    tolerance: float
    share: float
    reason: str = ""


@dataclass(frozen=True)
class Bounds:
    """The user's own: absolute and relative ones, one for all or by tensor, "" standing for the others."""

    atol: Mapping[str, float] | float | None = None
    rtol: Mapping[str, float] | float | None = None

    def of(self, *names: str) -> tuple[float, float] | None:
        """(atol, rtol) of a tensor that goes by these names; None when dtypes decide."""
        found = _of(self.atol, names), _of(self.rtol, names)
        return None if found == (None, None) else (found[0] or 0.0, found[1] or 0.0)


def _of(given: Mapping[str, float] | float | None, names: tuple[str, ...]) -> float | None:
    if given is None or isinstance(given, int | float):
        return given
    return next((given[n] for n in (*names, "") if n in given), None)


def judge(
    reference: Array,
    actual: Array,
    found: Metrics,
    bounds: tuple[float, float] | None = None,
    *,
    quantised: bool = False,
    unit: bool = False,
    noise: float = 0.0,
    grain: np.dtype[Any] | None = None,
) -> Judgement:
    """Whether ``actual`` is as good as ``reference``; ``found`` is what `measure` says of the two.

    With ``bounds`` (atol, rtol) every value has to lie within atol + rtol·|reference|; without, the coarser
    of the two dtypes decides, as `metrics.compare` does. ``quantised``, ``unit``, ``noise``: see there.
    ``grain`` is a coarser dtype that the values have been through.
    """
    dtype = coarser(reference.dtype, actual.dtype)
    auto = metrics.tolerance(dtype)
    coarse = grain is not None and auto is not metrics.EXACT and metrics.tolerance(grain).error > auto.error
    auto = metrics.tolerance(grain) if grain is not None and coarse else auto
    if found.misplaced:
        odd = f"{found.misplaced} of {found.size} values are NaN or infinite on one side only"
        return Judgement(False, auto.error if bounds is None else bounds[0], math.inf, odd)
    if bounds is not None:
        return _bounded(reference, actual, found, *bounds)
    if found.different == 0:
        return Judgement(True, auto.error, 0.0)
    if found.size > _WHOLE or coarse or (auto is metrics.EXACT and reference.dtype != actual.dtype):
        return _by_metrics(found, auto, noise)
    flat = (reference.astype(dtype, copy=False), actual.astype(dtype, copy=False))
    told = metrics.compare(*flat, tensor="", quantised=quantised, unit=unit, noise=noise)
    share = told.relative / told.tolerance if told.tolerance else (0.0 if told.ok else math.inf)
    if not told.ok and share <= 1:  # it was the gain
        share = max(1.01, abs(found.gain - 1) / auto.gain if auto.gain else math.inf)
    return Judgement(told.ok, told.tolerance, min(share, 1.0) if told.ok else share, told.reason)


def coarser(a: np.dtype[Any], b: np.dtype[Any]) -> np.dtype[Any]:
    """Of two dtypes, the one that rounds more."""
    return a if metrics.tolerance(a).error > metrics.tolerance(b).error else b


def _bounded(reference: Array, actual: Array, found: Metrics, atol: float, rtol: float) -> Judgement:
    span = max(map(abs, found.range_ref))
    limit, share = atol + rtol * span, 0.0
    if found.different:
        with np.errstate(all="ignore"):
            for a, b in pieces(reference, actual):
                share = max(share, _worst(a, b, atol, rtol))
    why = f"error {share:.2g} times the bound of atol {atol:g} + rtol {rtol:g}" if share > 1 else ""
    return Judgement(share <= 1, limit, share, why)


def _worst(a: Array, b: Array, atol: float, rtol: float) -> float:
    if a.dtype.kind in "OUS" or b.dtype.kind in "OUS":
        return math.inf if bool(np.any(a != b)) else 0.0
    wide = np.complex128 if "c" in (a.dtype.kind, b.dtype.kind) else np.float64
    x, y = a.astype(wide), b.astype(wide)
    error = np.abs(y - x)
    ratio = np.where(error > 0, error / (atol + rtol * np.abs(x)), 0.0)
    return float(np.nan_to_num(ratio, nan=0.0, posinf=math.inf).max(initial=0.0))


def _by_metrics(found: Metrics, auto: metrics.Tolerance, noise: float) -> Judgement:
    """By the numbers of the whole tensor: no channel has a say of its own."""
    if auto is metrics.EXACT:
        ok = found.different == 0
        return Judgement(ok, 0.0, 0.0 if ok else math.inf, "" if ok else f"{found.different} values differ")
    limit = max(auto.error, min(4 * noise, metrics.MOST_NOISE * auto.error, metrics.MOST_EXCUSED))
    gain = abs(found.gain - 1)
    allowed = max(auto.gain, limit if auto.step == 0 else 0.0)
    share = max(found.to_range / limit, gain / allowed)
    if found.to_range > limit:
        return Judgement(False, limit, share, f"error {found.to_range:.2g} of the range, allowed {limit:.2g}")
    why = f"scaled by {found.gain:.4f}, allowed {allowed:.2g}" if gain > allowed else ""
    return Judgement(not why, limit, share, why)
