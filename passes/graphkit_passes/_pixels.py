"""Normalizing pixels: as nodes in front of an input, or in the weights of the convolutions that read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from graphkit import Graph
from graphkit.model.graph import Node, Tensor
from graphkit.model.operators import attribute, domain_of
from graphkit.model.surgeon import numpy_dtype, onnx_dtype, surgeon_dtype
from graphkit_passes._edit import is_default, is_tensor, point, successor

Floats = npt.NDArray[np.float64]

_WIDE = ("float32", "float64")
_FLOATS = (*_WIDE, "float16", "bfloat16")


@dataclass(frozen=True)
class Steps:
    """``(pixels - mean) * factor``, each by channel [C] (or [1]) in the model's order."""

    mean: Floats
    factor: Floats
    nhwc: bool
    reverse: bool

    @property
    def computes(self) -> bool:
        """Whether there is arithmetic to be done, not only another layout."""
        return bool(self.mean.any() or (self.factor != 1).any())


def problem(graph: Graph, tensor: Tensor) -> str:
    """Why an input cannot take pixels; empty when it can."""
    if is_default(graph, tensor):
        return "it has a default in the file"
    dtype = numpy_dtype(tensor.dtype) if is_tensor(tensor) else None
    if dtype is None or dtype.name not in _FLOATS:
        return f"it is of {dtype.name if dtype is not None else 'no known dtype'}: nothing normalized is"
    if tensor.shape is None or len(tensor.shape) != 4:
        return "it is not of rank 4"
    if any(t is tensor for t in graph.outputs):
        return "it is an output too"
    if any(_is(n, "Transpose") and attribute(graph, n, "perm") == _TO_NCHW for n in graph.consumers(tensor)):
        return "it is transposed to NCHW at once: its channels are last"
    least = 13 if dtype.name == "bfloat16" else 7
    return f"opset {graph.opset} is below {least}; convert it first" if graph.opset < least else ""


_TO_NCHW = [0, 3, 1, 2]


def _is(node: Node, *ops: str) -> bool:
    return node.op in ops and not domain_of(node)


def already(graph: Graph, tensor: Tensor, spec: str) -> bool:
    """Whether the pass ``spec`` made what reads an input, or the weights that are applied to it."""
    made_by = graph.model.made_by
    return any(
        made_by(node) == spec or (_is(node, "Conv") and made_by(node.inputs[1]) == spec)
        for node in graph.consumers(tensor)
    )


def channels_of(graph: Graph, tensor: Tensor) -> int | None:
    """The number of channels: as declared, else as a convolution that reads the input has it."""
    if tensor.shape is not None and isinstance(tensor.shape[1], int) and tensor.shape[1] > 0:
        return int(tensor.shape[1])
    for node in graph.consumers(tensor):
        if _is(node, "Conv") and node.inputs[0] is tensor and graph.is_constant(node.inputs[1]):
            shape, group = graph.shape(node.inputs[1]), attribute(graph, node, "group")
            if shape is not None and len(shape) == 4 and isinstance(shape[1], int):
                return shape[1] * int(group)
    return None


class Pixels:
    """One input that becomes pixels of ``dtype``."""

    def __init__(self, graph: Graph, tensor: Tensor, steps: Steps, dtype: np.dtype[Any]) -> None:
        self._graph, self._tensor, self._steps, self._dtype = graph, tensor, steps, dtype
        self._name, self._own = tensor.name, numpy_dtype(tensor.dtype) or np.dtype(np.float32)
        self._first = graph.nodes[0] if graph.nodes else None
        self._done: list[str] = []

    def run(self) -> list[str]:
        """Do it; returns what was done, in words."""
        steps, inner = self._steps, self._tensor
        if self._dtype == self._own and not (steps.nhwc or steps.reverse or steps.computes):
            return []
        given = successor(self._graph, inner, f"{self._name}_normalized")
        shape = inner.shape
        given.dtype = surgeon_dtype(onnx_dtype(self._dtype))
        given.shape = [shape[0], shape[2], shape[3], shape[1]] if steps.nhwc else shape
        self._graph.inputs[:] = [given if t is inner else t for t in self._graph.inputs]
        convs = self._convolutions() if steps.computes or steps.reverse else []
        narrow = self._own.name not in _WIDE and steps.computes
        now = self._cast(given, self._dtype, np.dtype(np.float32) if narrow else self._own)
        if steps.nhwc:
            now = self._add("Transpose", [now], "nchw", {"perm": _TO_NCHW})
        if convs:
            self._fold(now, convs)
        else:
            self._graph.replace(inner, self._by_nodes(now, narrow))
        return self._done

    # -- as nodes

    def _add(
        self, op: str, inputs: Sequence[Tensor], name: str, attrs: dict[str, Any] | None = None
    ) -> Tensor:
        (made,) = self._graph.add(
            op, inputs, attrs, outputs=[f"{self._name}_{name}"], name=f"{self._name}/{op}", before=self._first
        )
        self._graph.model.note_origin(made.inputs[0], [self._name])
        self._done.append(f"a {op}")
        return made

    def _cast(self, tensor: Tensor, was: np.dtype[Any], dtype: np.dtype[Any]) -> Tensor:
        if was == dtype:
            return tensor
        return self._add("Cast", [tensor], dtype.name, {"to": onnx_dtype(dtype)})

    def _by_nodes(self, now: Tensor, narrow: bool) -> Tensor:
        dtype = np.dtype(np.float32) if narrow else self._own
        if self._steps.reverse:
            order = self._graph.constant(np.arange(len(self._steps.mean))[::-1].copy(), f"{self._name}_order")
            now = self._add("Gather", [now, order], "reversed", {"axis": 1})
        now = self._centered(now, self._steps.mean, dtype)
        if (self._steps.factor != 1).any():
            now = self._add("Mul", [now, self._by_channel(self._steps.factor, "factor", dtype)], "scaled")
        return self._cast(now, dtype, self._own)

    def _centered(self, now: Tensor, mean: Floats, dtype: np.dtype[Any]) -> Tensor:
        if not mean.any():
            return now
        return self._add("Sub", [now, self._by_channel(mean, "mean", dtype)], "centered")

    def _by_channel(self, values: Floats, name: str, dtype: np.dtype[Any]) -> Tensor:
        shaped = values.reshape(1, -1, 1, 1).astype(dtype)
        return self._graph.constant(shaped, f"{self._name}_{name}")

    # -- in weights

    def _convolutions(self) -> list[Node]:
        """The convolutions that read the input, if all of it can go into their weights; else none."""
        own, readers = {id(n) for n in self._graph.nodes}, self._graph.consumers(self._tensor)
        convs = [n for n in readers if _is(n, "Conv")]
        others = [n for n in readers if not _is(n, "Conv", "Shape", "Size")]
        if others or self._own.name not in _WIDE or not all(id(n) in own for n in readers):
            return []
        return convs if all(self._takes(n) for n in convs) else []

    def _takes(self, conv: Node) -> bool:
        weights, group = conv.inputs[1], attribute(self._graph, conv, "group")
        shape = self._graph.shape(weights)
        if not self._graph.is_constant(weights) or shape is None or len(shape) != 4:
            return False
        fits = shape[1] * group == len(self._steps.mean) and shape[0] % group == 0
        once = sum(1 for t in conv.inputs if t is self._tensor) == 1
        return fits and once and (group == 1 or not self._steps.reverse)

    def _fold(self, now: Tensor, convs: Sequence[Node]) -> None:
        """Let the convolutions, and what asks for the shape, read the pixels; their weights do the rest."""
        into_bias = all(self._pads_nothing(n) and self._bias(n) is not None for n in convs)
        if not into_bias:
            mean = self._steps.mean[::-1] if self._steps.reverse else self._steps.mean
            now = self._centered(now, mean, self._own)
        for conv in convs:
            weights, shift = self._folded(conv)
            old = conv.inputs[1]
            point(conv, 1, self._graph.constant(weights, f"{old.name}_pixels", of=[old]))
            if into_bias and self._steps.mean.any():
                bias = (self._bias(conv) + shift).astype(self._own)
                made = self._graph.constant(bias, f"{old.name}_pixels_bias", of=[old])
                if len(conv.inputs) > 2:
                    point(conv, 2, made)
                else:
                    conv.inputs.append(made)
        for node in {id(n): n for n in self._graph.consumers(self._tensor)}.values():
            self._graph.rewire(node, self._tensor, now)
        self._done.append(f"folded into the weights of {len(convs)} Conv")

    def _pads_nothing(self, conv: Node) -> bool:
        mode, pads = attribute(self._graph, conv, "auto_pad"), attribute(self._graph, conv, "pads")
        return mode == "VALID" or (mode == "NOTSET" and not any(pads or ()))

    def _bias(self, conv: Node) -> Any:
        """The bias [out] in float64, zeros where there is none; None when it is not constant."""
        if len(conv.inputs) < 3 or not conv.inputs[2].name:
            return np.zeros(self._graph.shape(conv.inputs[1])[0])  # type: ignore[index]
        found = self._graph.value(conv.inputs[2])
        return None if found is None else found.astype(np.float64)

    def _folded(self, conv: Node) -> tuple[Any, Floats]:
        """Weights [out, in/group, h, w] for pixels, and what centering adds to the bias [out]."""
        values, group = self._graph.value(conv.inputs[1]), int(attribute(self._graph, conv, "group"))
        assert values is not None
        per_out = values.shape[0] // group

        def by_weight(v: Floats) -> Floats:
            return np.repeat(v.reshape(group, -1), per_out, 0)[:, :, None, None]

        scaled = values.astype(np.float64) * by_weight(self._steps.factor)
        shift = -(scaled * by_weight(self._steps.mean)).sum((1, 2, 3))
        return (scaled[:, ::-1] if self._steps.reverse else scaled).astype(values.dtype), shift
