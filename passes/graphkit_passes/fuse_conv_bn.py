"""The ``fuse-conv-bn`` pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from graphkit import Builder, Graph, Match, NotApplicable, PatternPass, Tally
from graphkit.model.graph import Node, Tensor
from graphkit.model.operators import attribute

Array = npt.NDArray[Any]


class FuseConvBn(PatternPass):
    """Fold an inference BatchNormalization into the convolution in front of it.

    ## Why
    With its statistics fixed, a BatchNormalization scales and shifts each channel, and a convolution can do
    that with other weights. One node less to run for each layer, and no rounding of what lies between the
    two. Conv and ConvTranspose with groups, with and without a bias, are fused; the new weights are computed
    in float64 and rounded once, to the dtype of the old ones.

    ## Example
    ```
    c = Conv (x, w)
    y = BatchNormalization (c, scale, bias, mean, var)
    ```
    becomes
    ```
    y = Conv (x, w_1, w_bias)
    ```
    with `w_1 = w * f` and `w_bias = bias - mean * f` by channel, and `f = scale / sqrt(var + epsilon)`.
    Weights that other nodes read too stay as they are for those.

    ## When it refuses
    - The BatchNormalization trains: `training_mode=1`, or more than one output.
    - The convolution's output is read elsewhere too, or is an output of the graph.
    - A weight, bias or statistic is no constant, for instance because an input can override it.
    - The new weights are not finite in their dtype, or the shapes do not fit together.

    ## Source
    [BatchNormalization](https://onnx.ai/onnx/operators/onnx__BatchNormalization.html) ·
    [Jacob et al. 2018, section 3.2](https://arxiv.org/abs/1712.05877)
    """

    name = "fuse-conv-bn"
    group = "simplify"

    def pattern(self, op: Any, x: Any, w: Any, b: Any, scale: Any, bias: Any, mean: Any, var: Any) -> Any:
        """A convolution with or without a bias, and the norm behind it."""
        conv = op.any_of(op.Conv(x, w, op.maybe(b)), op.ConvTranspose(x, w, op.maybe(b)))
        (y,) = op.BatchNormalization(conv, scale, bias, mean, var, _outputs=1)
        return y

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Fuse what matches; a norm with further outputs does not, and is refused here."""
        for scope in graph.scopes():
            for node in scope.nodes:
                if node.op == "BatchNormalization" and any(t.name for t in node.outputs[1:]):
                    conv = scope.producer(node.inputs[0])
                    if conv is not None and conv.op in ("Conv", "ConvTranspose"):
                        tally.refuse(scope, node, "it has more outputs than Y, so it trains")
        super().apply(graph, tally)

    def check(self, graph: Graph, m: Match) -> None:
        """Refuse training, parameters that are not constant, and weights that do not fit."""
        _require_inference(graph, m)
        for name in ("w", "scale", "bias", "mean", "var", "b"):
            tensor = m[name]
            constant = tensor is None or graph.is_constant(tensor)
            m.require(constant, f"its {_MEANING[name]} '{tensor.name if tensor else ''}' is not constant")
            dtype = None if tensor is None else graph.dtype(tensor)
            m.require(dtype is None or dtype.kind != "O", f"its {_MEANING[name]} is made of strings")
        _fold(graph, m)

    def rewrite(self, op: Builder, m: Match) -> Tensor:
        """The convolution with the folded weights, and with its own attributes."""
        conv, graph = _conv(m), op.graph
        folded = _fold(graph, m)
        statistics = [m.scale, m.bias, m.mean, m.var]
        weights = graph.constant(folded.weights, m.w.name, of=[m.w])
        bias = graph.constant(folded.bias, f"{m.w.name}_bias", of=[m.b] if m.b is not None else statistics)
        made: Tensor = op[conv.op](m.x, weights, bias, **conv.attrs)
        return made


_MEANING = {"w": "weight", "b": "bias", "scale": "scale", "bias": "shift", "mean": "mean", "var": "variance"}


@dataclass(frozen=True)
class _Folded:
    """New weights, shaped as the old ones, and bias [channels]; both of the weights' dtype."""

    weights: Array
    bias: Array


def _conv(m: Match) -> Node:
    return next(n for n in m.nodes if n is not m.root)


def _require_inference(graph: Graph, m: Match) -> None:
    """By the attributes of each version of the operator; a further output is told before."""
    norm: Node = m.root
    if graph.opset >= 14:
        m.require(attribute(graph, norm, "training_mode") in (None, 0), "its training_mode is not 0")
    if graph.opset < 7:
        m.require(attribute(graph, norm, "is_test") == 1, "its is_test is not 1, so it trains")
    if graph.opset < 9:
        m.require(
            attribute(graph, norm, "spatial") in (None, 1), "its statistics are not by channel (spatial is 0)"
        )


def _fold(graph: Graph, m: Match) -> _Folded:
    """Scale and shift moved into weights and bias: in float64, then rounded. NotApplicable if it cannot."""
    conv = _conv(m)
    weights = m.value("w")
    scale, bias, mean, var = (m.value(n).astype(np.float64) for n in ("scale", "bias", "mean", "var"))
    group, epsilon = attribute(graph, conv, "group"), attribute(graph, m.root, "epsilon")
    if not isinstance(group, int) or not isinstance(epsilon, float) or group < 1:
        raise NotApplicable("its group or epsilon is an attribute of the function that it is in")
    transposed = conv.op == "ConvTranspose"
    channels = (
        weights.shape[1] * group
        if transposed and weights.ndim > 1
        else weights.shape[0]
        if weights.ndim
        else 0
    )
    old = m.value("b").astype(np.float64) if m.b is not None else np.zeros(channels)
    m.require(
        all(v.shape == (channels,) for v in (scale, bias, mean, var, old)) and weights.shape[0] % group == 0,
        f"its parameters do not have the {channels} channels of the convolution",
    )
    m.require(bool((var + epsilon > 0).all()), "a variance is not positive")
    factor = scale / np.sqrt(var + epsilon)
    with np.errstate(over="ignore", invalid="ignore"):
        new = _scaled(weights.astype(np.float64), factor, group, transposed).astype(weights.dtype)
        shift = ((old - mean) * factor + bias).astype(weights.dtype)
    finite = np.isfinite(new.astype(np.float64)).all() and np.isfinite(shift.astype(np.float64)).all()
    m.require(bool(finite), f"the new weights are not finite in {weights.dtype.name}")
    return _Folded(new, shift)


def _scaled(weights: Array, factor: Array, group: int, transposed: bool) -> Array:
    """Weights of Conv are [out, in/group, ...], of ConvTranspose [in, out/group, ...]; ``factor``: [out]."""
    rest = (1,) * (weights.ndim - 2)
    if not transposed:
        return weights * factor.reshape(-1, 1, *rest)
    split = weights.reshape(group, weights.shape[0] // group, *weights.shape[1:])
    return (split * factor.reshape(group, 1, -1, *rest)).reshape(weights.shape)
