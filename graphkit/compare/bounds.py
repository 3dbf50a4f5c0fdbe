"""What rounding alone may do to a kernel's output: the default answer to "is this difference acceptable?"."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphkit.report.diffs import Metrics

__all__ = ["Bound", "Noise", "judge", "noise"]

Array = NDArray[Any]

# unit roundoff of a dtype: half the distance from 1 to the next number
_UNIT = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
    "float8_e4m3fn": 2.0**-4,
    "float8_e4m3fnuz": 2.0**-4,
    "float8_e5m2": 2.0**-3,
    "float8_e5m2fnuz": 2.0**-3,
    "float4_e2m1fn": 2.0**-2,
    "float8_e8m0fnu": 2.0**-1,
}
_TF32 = 2.0**-11
_INTRINSICS = 1e-4  # exp, rcp, rsqrt as GPUs compute them, and sums in another order: rms over rms
_MARGIN = 5.0  # rms of one set of rounding errors against another's: the emulation rounds elsewhere
_PEAK = 10.0  # the same for the largest error, which varies more
_LOST = 0.02  # a step of a quantised tensor may be taken by this share of its values


@dataclass(frozen=True)
class Noise:
    """What the emulated precision did to a tensor: rms error over its rms, largest over its range, gain
    off 1."""

    rms: float = 0.0
    peak: float = 0.0
    gain: float = 0.0


@dataclass(frozen=True)
class Bound:
    """``rms``, ``peak`` and ``gain`` bound the error that a region introduces, in the units of Noise."""

    rms: float
    peak: float
    gain: float

    def share(self, metrics: Metrics) -> float:
        """The error over the bound, by whichever of the three is nearest to it: more than 1 is too much."""
        gain = abs(metrics.gain - 1)
        return max(
            _over(metrics.rms_rel, self.rms), _over(metrics.to_range, self.peak), _over(gain, self.gain)
        )


def noise(exact: Array, rounded: Array) -> Noise:
    """How far a run with the engine's rounding is from the exact one, where both are finite."""
    x, y = exact.astype(np.float64).ravel(), rounded.astype(np.float64).ravel()
    fine = np.isfinite(x) & np.isfinite(y)
    x, y = x[fine], y[fine]
    power = float(x @ x)
    if power == 0:
        return Noise()
    error = y - x
    span = float(np.abs(x).max())
    return Noise(
        math.sqrt(float(error @ error) / power),
        float(np.abs(error).max()) / span,
        abs(float(x @ y) / power - 1),
    )


def judge(dtype: str, found: Noise, *, length: int, tf32: bool, quantised: bool, size: int) -> Bound:
    """The bound for one tensor of ``dtype`` and ``size`` values, whose kernel sums up ``length`` products.

    Rounding to the dtype, once; sums of ``length`` terms in fp32 (Higham 2002, 4.2: errors grow with the
    square root); the engine's own precision as emulated (``found``), with a margin. ``quantised``: values
    that fall next to a rounding step may be off by that step.
    """
    unit = _UNIT.get(dtype, 2.0**-24)
    sums = 2.0**-24 * math.sqrt(max(length, 1)) * 4
    rms = unit + sums + _INTRINSICS
    peak = 4 * unit + 8 * sums + 8 * _INTRINSICS
    gain = unit / 4 + sums + _INTRINSICS
    if (
        dtype == "float16"
    ):  # some kernels add up in half precision too, which costs a share of √length roundings
        half = unit * math.sqrt(max(length, 1)) / 4
        rms, peak, gain = rms + half, peak + 4 * half, gain + half / 2
    if tf32:  # some kernels cut operands off where the emulation rounds them: a bias of up to 2^-10
        rms, peak, gain = rms + 1.5 * _TF32, peak + 4 * _TF32, gain + 3 * _TF32
    if quantised:
        step = max(unit, 2.0**-8)
        rms, peak, gain = rms + 2 * step * math.sqrt(_LOST), peak + 2.5 * step, gain + step * _LOST
    gain_noise = max(_MARGIN * found.gain, _MARGIN * found.rms / math.sqrt(max(size, 1)) * 2)
    return Bound(rms + _MARGIN * found.rms, peak + _PEAK * found.peak, gain + gain_noise + 2 * found.rms**2)


def _over(value: float, bound: float) -> float:
    if not math.isfinite(value):
        return math.inf
    return value / bound if bound else (0.0 if value == 0 else math.inf)
