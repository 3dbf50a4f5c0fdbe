"""Normalizations in terms of ReduceMean: https://onnx.ai/onnx/operators/"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphkit import NotApplicable
from graphkit.model.graph import Tensor
from graphkit_passes._lowering import F32, Lowering, writes

FLOAT = 1  # TensorProto.FLOAT, the stash_type of all norms


class _Stage:
    """The first stage of a norm, in the precision that its ``stash_type`` says."""

    def __init__(self, low: Lowering, x: Tensor) -> None:
        self.low = low
        stash = low.attr("stash_type", 0)
        if stash not in (0, FLOAT):
            raise NotApplicable(f"its stash_type is {stash}, not 1 (float)")
        own = low.known.dtype(low.graph, x)
        if own is None and stash:
            raise NotApplicable(f"the dtype of '{x.name}' is not known, so neither is how it is rounded")
        self.own = own if stash and own != F32 else None
        self.x = low.cast(x, F32) if self.own is not None else x

    def scalar(self, value: float) -> Tensor:
        """A constant of the precision of this stage."""
        return (
            self.low.const(value, np.float32, "scalar")
            if self.own is not None
            else self.low.like(value, self.low.x)
        )

    def end(self, x: Tensor) -> Tensor:
        """``x`` in the dtype of the input again."""
        return x if self.own is None else self.low.cast(x, self.own)

    def inverse_root(self, x: Tensor, epsilon: float) -> Tensor:
        """``1 / sqrt(x + epsilon)``."""
        return self.low("Reciprocal", self.low("Sqrt", self.low("Add", x, self.scalar(epsilon))))

    def standardized(self, x: Tensor, axes: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Mean 0 and variance 1 over ``axes``; with it the mean, and the factor."""
        low = self.low
        mean = low.reduce("ReduceMean", x, axes)
        apart = low("Sub", x, mean)
        variance = low.reduce("ReduceMean", low("Mul", apart, apart), axes)
        factor = self.inverse_root(variance, float(low.attr("epsilon")))
        return low("Mul", apart, factor), mean, factor


def _last_axes(low: Lowering) -> list[int]:
    """From ``axis`` to the last."""
    axis = low.attr("axis")
    return list(range(axis, 0)) if axis < 0 else list(range(axis - low.rank(low.x), 0))


@writes("LayerNormalization")
def layer_normalization(low: Lowering) -> list[Tensor | None]:
    """Mean and variance over the last axes; then scale and bias."""
    stage = _Stage(low, low.x)
    normal, mean, factor = stage.standardized(stage.x, _last_axes(low))
    y = low("Mul", stage.end(normal), low.given(1))
    bias = low.input(2)
    return [y if bias is None else low("Add", y, bias), mean, factor]


@writes("RMSNormalization")
def rms_normalization(low: Lowering) -> Tensor:
    """``x / sqrt(mean(x * x) + epsilon) * scale`` over the last axes."""
    stage = _Stage(low, low.x)
    square = low.reduce("ReduceMean", low("Mul", stage.x, stage.x), _last_axes(low))
    normal = low("Mul", stage.x, stage.inverse_root(square, float(low.attr("epsilon"))))
    return low("Mul", stage.end(normal), low.given(1))


@writes("InstanceNormalization")
def instance_normalization(low: Lowering) -> Tensor:
    """Mean and variance of each channel; scale and bias [C]."""
    rank = low.rank(low.x)
    normal, _, _ = _Stage(low, low.x).standardized(low.x, range(2, rank))
    return _by_channel(low, normal, rank)


@writes("GroupNormalization")
def group_normalization(low: Lowering) -> Tensor:
    """Mean and variance of each group of channels; scale and bias [C], before opset 21 [groups]."""
    x, groups, rank = low.x, int(low.attr("num_groups")), low.rank(low.x)
    stage = _Stage(low, x)
    normal, _, _ = stage.standardized(low.reshape(stage.x, 0, groups, -1), [-1])
    normal = stage.end(normal)
    if low.graph.opset < 21:
        normal = _by_channel(low, normal, 3)
    dims = low.shape(x) or ()
    if sum(not isinstance(d, int) for d in dims[1:]) <= 1:
        whole = low.reshape(normal, 0, *(d if isinstance(d, int) else -1 for d in dims[1:]))
    else:
        whole = low("Reshape", normal, low("Shape", x))
    return whole if low.graph.opset < 21 else _by_channel(low, whole, rank)


def _by_channel(low: Lowering, x: Tensor, rank: int) -> Tensor:
    """``x * scale + bias`` along axis 1 of ``rank``."""
    behind = range(1, rank - 1)
    scale, bias = (low.unsqueeze(low.given(n), *behind) if behind else low.given(n) for n in (1, 2))
    return low("Add", low("Mul", x, scale), bias)


@writes("MeanVarianceNormalization")
def mean_variance_normalization(low: Lowering) -> Tensor:
    """``(x - mean) / (sqrt(mean(x * x) - mean * mean) + 1e-9)``."""
    x, axes = low.x, list(low.attr("axes", [0, 2, 3]))
    mean = low.reduce("ReduceMean", x, axes)
    apart = low("Sub", x, mean)
    root = low("Sqrt", low.reduce("ReduceMean", low("Mul", apart, apart), axes))
    return low("Div", apart, low("Add", root, low.like(1e-9, x)))
