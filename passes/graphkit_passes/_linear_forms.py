"""The operators with weights: how a scale and a shift by channel change those of each, in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphkit import Graph, NotApplicable
from graphkit.model.graph import Node
from graphkit.model.operators import attribute
from graphkit_passes._affine import NORM, fits, infers, norm_parts
from graphkit_passes._fusing import Array, Fusing, static_shape
from graphkit_passes._linear import Change, Linear


def linear(fusing: Fusing, graph: Graph, node: Node) -> Linear | None:
    """``node`` as what takes in scales and shifts; None when it is nothing of the kind."""
    if any(t.name for t in node.outputs[1:]) or len(node.inputs) < 2:
        return None
    if node.op not in ("Conv", "ConvTranspose") and not graph.is_constant(node.inputs[1]):
        return None
    shape = static_shape(fusing, graph, node.inputs[1])
    if shape is None:
        return None
    if node.op == NORM:
        return Norm(fusing, graph, node, shape[0]) if infers(graph, node) and len(shape) == 1 else None
    if node.op in ("Conv", "ConvTranspose"):
        group = attribute(graph, node, "group")
        whole = len(shape) > 2 and isinstance(group, int) and group > 0 and shape[0] % group == 0
        return Convolution(fusing, graph, node, shape, group) if whole else None
    if len(shape) != 2:
        return None
    if node.op == "MatMul":
        return Weighted(fusing, graph, node, shape, (0, 0))
    told = [attribute(graph, node, n) for n in ("transA", "transB", "alpha", "beta")]
    plain = all(isinstance(v, int | float) for v in told)
    return Product(fusing, graph, node, shape, told) if plain else None


class Convolution(Linear):
    """Conv and ConvTranspose: weights [out, in/group, …] and [in, out/group, …]."""

    sliced = (0, 1)

    def __init__(self, fusing: Fusing, graph: Graph, node: Node, shape: Sequence[int], group: int) -> None:
        super().__init__(fusing, graph, node)
        self.transposed = node.op == "ConvTranspose"
        self.rank, self.group = len(shape), group
        first, second = shape[0], shape[1] * group
        self.outs, self.ins = (second, first) if self.transposed else (first, second)

    def why_no_shift_in_front(self) -> str | None:
        """Zeros beyond the border are not shifted; each output of a ConvTranspose sees other weights."""
        if self.transposed:
            return "what is added before a ConvTranspose is not the same at its border"
        pads = attribute(self.graph, self.node, "pads")
        auto = attribute(self.graph, self.node, "auto_pad")
        plain = auto in (None, "NOTSET", "VALID") and (not pads or (isinstance(pads, list) and not any(pads)))
        return None if plain else "what is added before it does not reach the padding"

    def behind(self, scale: Array | None, shift: Array | None) -> Change:
        change, bias = Change(), self.values(2)
        if scale is not None:
            change.values[1] = self._by_out(self.values(1), scale)
        if self.has(2) or shift is not None:
            change.values[2] = np.broadcast_to(_linear(bias, scale, shift), (self.outs,))
        return change

    def in_front(self, scale: Array | None, shift: Array | None) -> Change:
        change, weights = Change(), self.values(1)
        if scale is not None:
            change.values[1] = self._by_in(weights, scale)
        if shift is not None:
            sums = self._by_in(weights, shift).reshape(self.outs, -1).sum(axis=1)
            change.values[2] = self.values(2) + sums
        return change

    def _by_out(self, weights: Array, factor: Array) -> Array:
        return self._by_second(weights, factor) if self.transposed else _by_first(weights, factor)

    def _by_in(self, weights: Array, factor: Array) -> Array:
        return _by_first(weights, factor) if self.transposed else self._by_second(weights, factor)

    def _by_second(self, weights: Array, factor: Array) -> Array:
        """The second axis of the weights counts the channels within a group."""
        split = weights.reshape(self.group, -1, *weights.shape[1:])
        by = factor.reshape(self.group, 1, -1, *[1] * (weights.ndim - 2))
        return (split * by).reshape(weights.shape)


class Product(Linear):
    """Gemm, and MatMul by a matrix of weights [in, out], which has no bias."""

    def __init__(
        self, fusing: Fusing, graph: Graph, node: Node, shape: Sequence[int], flips: Sequence[int]
    ) -> None:
        super().__init__(fusing, graph, node)
        self.rank = None if node.op == "MatMul" else 2
        self.ins, self.outs = shape[::-1] if flips[1] else shape
        self.out_at = 0 if flips[1] else 1
        self.in_axis = -1 if self.rank is None else 0 if flips[0] else 1

    def behind(self, scale: Array | None, shift: Array | None) -> Change:
        change = Change()
        if scale is not None:
            change.values[1] = self._along(self.values(1), scale, self.out_at)
            self.sliced = (self.out_at,)
        if self.has(2) or shift is not None:
            self._bias(change, _linear(self._beta() * self.values(2), scale, shift))
        return change

    def in_front(self, scale: Array | None, shift: Array | None) -> Change:
        change, weights = Change(), self.values(1)
        if scale is not None:
            change.values[1] = self._along(weights, scale, 1 - self.out_at)
            self.sliced = (1 - self.out_at,)
        if shift is not None:
            alpha = float(attribute(self.graph, self.node, "alpha"))
            through = self._along(weights, shift, 1 - self.out_at).sum(axis=1 - self.out_at)
            self._bias(change, self._beta() * self.values(2) + alpha * through)
        return change

    def _beta(self) -> float:
        return float(attribute(self.graph, self.node, "beta"))

    def _bias(self, change: Change, bias: Array) -> None:
        if bias.size > max(self.outs, self.values(2).size):
            raise NotApplicable(f"its bias '{self.node.inputs[2].name}' would grow")
        change.values[2] = bias
        change.attrs["beta"] = None

    def _along(self, weights: Array, factor: Array, axis: int) -> Array:
        return weights * (factor[:, None] if axis == 0 else factor)


class Weighted(Product):
    """MatMul: the last axis is that of the channels, of tensors of any rank."""

    out_axis = -1
    can_shift_behind = False

    def why_no_shift_in_front(self) -> str | None:
        """It has no bias."""
        return ""

    def takes(self, shape: Sequence[int]) -> bool:
        if not self._fits(shape, self.outs):
            return False
        rank = None if len(shape) < 2 else self.fusing.known.rank(self.graph, self.node.outputs[0])
        return len(shape) < 2 or (rank is not None and rank >= len(shape))

    def takes_in_front(self, shape: Sequence[int]) -> bool:
        return self._fits(shape, self.ins)

    def _fits(self, shape: Sequence[int], channels: int) -> bool:
        return not shape or fits(shape, len(shape), len(shape) - 1, channels)


class Norm(Linear):
    """BatchNormalization for inference, whose scale and bias change."""

    roles = ("input", "scale", "shift", "mean", "variance")
    sliced = (0,)

    def __init__(self, fusing: Fusing, graph: Graph, node: Node, channels: int) -> None:
        super().__init__(fusing, graph, node)
        self.outs = self.ins = channels
        self.rank = fusing.known.rank(graph, node.outputs[0])

    def behind(self, scale: Array | None, shift: Array | None) -> Change:
        change = Change({2: _linear(self.values(2), scale, shift)})
        if scale is not None:
            change.values[1] = self.values(1) * scale
        return change

    def in_front(self, scale: Array | None, shift: Array | None) -> Change:
        mean, (gain, _) = self.values(3), norm_parts(self.fusing, self.graph, self.node)
        factor = np.ones(()) if scale is None else scale
        change = Change({2: self.values(2) + gain * ((0 if shift is None else shift) - mean + mean * factor)})
        if scale is not None:
            change.values[1] = self.values(1) * scale
        return change


def _linear(x: Array, scale: Array | None, shift: Array | None) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = x if scale is None else x * scale
        return scaled if shift is None else scaled + shift


def _by_first(weights: Array, factor: Array) -> Array:
    return weights * factor.reshape(-1, *[1] * (weights.ndim - 1))
