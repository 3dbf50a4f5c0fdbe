"""Operators that ONNX Runtime's CPU build lacks, and one that onnx's ReferenceEvaluator has wrong.

Those of com.microsoft follow ONNX Runtime's docs/ContribOperators.md, compute in the input's width, at
least float32, and return the input's dtype.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun

Array = NDArray[Any]


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow at either end."""
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1 / (1 + e), e / (1 + e)))


def wide_dtype(x: Array) -> np.dtype[Any]:
    """What to compute in: the input's own dtype, float32 for anything narrower."""
    return np.dtype(np.float64 if x.dtype == np.float64 else np.float32)


def group_norm(
    x: Array, gamma: Array, beta: Array, *, groups: int, epsilon: float, activation: int, channels_last: int
) -> Array:
    """Normalise (N, …, C) or (N, C, …) over groups of channels; ``activation`` 1 applies SiLU."""
    width = wide_dtype(x)
    wide = x.astype(width)
    nchw = np.moveaxis(wide, -1, 1) if channels_last else wide
    n, c = nchw.shape[:2]
    rows = nchw.reshape(n, groups, -1)
    mean = rows.mean(axis=-1, keepdims=True)
    rows = (rows - mean) / np.sqrt(rows.var(axis=-1, keepdims=True) + width.type(np.float32(epsilon)))
    per_channel = (1, c) + (1,) * (nchw.ndim - 2)
    y = rows.reshape(nchw.shape) * gamma.astype(width).reshape(per_channel)
    y = y + beta.astype(width).reshape(per_channel)
    y = y * sigmoid(y) if activation else y
    return np.asarray(np.moveaxis(y, 1, -1) if channels_last else y).astype(x.dtype)


def _settings(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The attributes of both norms; absent ones arrive as None."""
    defaults = {"groups": 32, "epsilon": 1e-5, "activation": 0, "channels_last": 1}
    return {k: d if kwargs.get(k) is None else kwargs[k] for k, d in defaults.items()}


class GroupNorm(OpRun):
    """GroupNorm(X, gamma, beta), SiLU folded in when activation = 1."""

    op_domain = "com.microsoft"

    def _run(self, x: Array, gamma: Array, beta: Array, **kwargs: Any) -> tuple[Array]:
        return (group_norm(x, gamma, beta, **_settings(kwargs)),)


class SkipGroupNorm(OpRun):
    """GroupNorm(X + skip + bias); the optional second output is that sum."""

    op_domain = "com.microsoft"

    def _run(
        self, x: Array, gamma: Array, beta: Array, skip: Array, bias: Array | None = None, **kwargs: Any
    ) -> tuple[Array, ...]:
        settings = _settings(kwargs)
        if skip.ndim == 2:  # (N, C): one value a channel
            n, c = skip.shape
            spatial = (1,) * (x.ndim - 2)
            skip = skip.reshape((n, *spatial, c) if settings["channels_last"] else (n, c, *spatial))
        width = wide_dtype(x)
        total = x.astype(width) + skip.astype(width)
        if bias is not None:
            shape = (-1,) if settings["channels_last"] else (-1,) + (1,) * (x.ndim - 2)
            total = total + bias.astype(width).reshape(shape)
        y = group_norm(total, gamma, beta, **settings).astype(x.dtype)
        return (y, total.astype(x.dtype))[: max(len(self.onnx_node.output), 1)]


class QuickGelu(OpRun):
    """x * sigmoid(alpha * x), alpha 1.702 unless the node says otherwise."""

    op_domain = "com.microsoft"

    def _run(self, x: Array, **kwargs: Any) -> tuple[Array]:
        alpha = kwargs.get("alpha")
        width = wide_dtype(x)
        wide = x.astype(width)
        factor = width.type(np.float32(1.702 if alpha is None else alpha))
        return ((wide * sigmoid(wide * factor)).astype(x.dtype),)


class BatchNormalization(OpRun):
    """The inference form before opset 14, which onnx's evaluator takes for training.

    Y = (X - mean) / sqrt(var + epsilon) * scale + B, channels second; as the operator page of opset 9 has it.
    """

    op_domain = ""

    def _run(
        self, x: Array, scale: Array, bias: Array, mean: Array, var: Array, **kwargs: Any
    ) -> tuple[Array]:
        if len([name for name in self.onnx_node.output if name]) > 1:
            raise NotImplementedError("BatchNormalization in training, before opset 14")
        epsilon = kwargs.get("epsilon")
        shape = (1, -1) + (1,) * (x.ndim - 2)
        factor = scale / np.sqrt(var + np.asarray(1e-5 if epsilon is None else epsilon, var.dtype))
        return (((x - mean.reshape(shape)) * factor.reshape(shape) + bias.reshape(shape)).astype(x.dtype),)


OPS = (GroupNorm, SkipGroupNorm, QuickGelu)
OLD_OPS = (BatchNormalization,)
"""For models of opset 7 to 13 only: the evaluator picks operators by name, not by version."""
