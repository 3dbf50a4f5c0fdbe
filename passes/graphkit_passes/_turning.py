"""A part of a scope behind transposes, computed with its axes in the order from before them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphkit import Graph
from graphkit.model.graph import Node, Tensor
from graphkit.model.operators import attribute, domain_of
from graphkit_passes._given import AXES, axes_of
from graphkit_passes._standing import Standing

_ELEMENTWISE = frozenset(
    [
        "Identity",
        "Cast",
        "Abs",
        "Neg",
        "Ceil",
        "Floor",
        "Round",
        "Sign",
        "Exp",
        "Log",
        "Sqrt",
        "Erf",
        "Sin",
        "Cos",
        "Tan",
        "Tanh",
        "Reciprocal",
        "Not",
        "Relu",
        "LeakyRelu",
        "Elu",
        "Selu",
        "Celu",
        "ThresholdedRelu",
        "PRelu",
        "Sigmoid",
        "HardSigmoid",
        "HardSwish",
        "Swish",
        "Mish",
        "Gelu",
        "Softplus",
        "Softsign",
        "Clip",
        "IsNaN",
        "IsInf",
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Pow",
        "Mod",
        "And",
        "Or",
        "Xor",
        "Equal",
        "Less",
        "LessOrEqual",
        "Greater",
        "GreaterOrEqual",
        "Where",
        "Max",
        "Min",
        "Sum",
        "Mean",
        "BitShift",
        "BitwiseAnd",
        "BitwiseOr",
        "BitwiseXor",
        "QuantizeLinear",
        "DequantizeLinear",
    ]
)
_ALONG = frozenset({"Concat", "Softmax", "LogSoftmax"})
_LARGEST = 1 << 16  # bytes of a constant that is laid out anew
_MOST = 64  # nodes between transposes


def inverse(perm: Sequence[int]) -> list[int]:
    """The permutation that undoes ``perm``."""
    found = [0] * len(perm)
    for place, axis in enumerate(perm):
        found[axis] = place
    return found


def reduces(node: Node) -> bool:
    """Whether a node is a reduction over axes that it names."""
    return node.op in AXES and node.op.startswith("Reduce")


def could_take(node: Node) -> bool:
    """Whether a node may do the same with its axes in another order, by its operator."""
    return node.op in _ELEMENTWISE or node.op in _ALONG or reduces(node)


@dataclass
class Place:
    """The scope of a walk: its nodes by id, and the orders of its transposes."""

    graph: Graph
    standing: Standing
    perm: Callable[[Node], list[int] | None]
    here: set[int]
    opset: int


class Turning:
    """What lies between transposes by ``perm`` and the node ``end``; filled by :meth:`take`."""

    def __init__(self, place: Place, end: Node, perm: list[int]) -> None:
        self._graph = place.graph
        self._place = place
        self._standing = place.standing
        self._end = end
        self.perm = perm
        self._back = inverse(perm)
        self._leaves: dict[int, Node] = {}
        self._nodes: dict[int, Node] = {}
        self._made: dict[int, Tensor] = {}

    def take(self, tensor: Tensor) -> bool:
        """Whether ``tensor`` can be computed in the other order too."""
        if self._graph.is_constant(tensor):
            shape = self._graph.shape(tensor)
            if shape is None or len(shape) > len(self.perm):
                return False
            return self._graph.nbytes(tensor) <= _LARGEST or all(d == 1 for d in shape)
        node = self._graph.producer(tensor)
        if node is None or domain_of(node) or len(self._nodes) > _MOST:
            return False
        if id(node) in self._nodes or id(node) in self._leaves:
            return True
        if node.op == "Transpose":
            self._standing.require_visible(node.inputs[0])
            self._leaves[id(node)] = node
            return self._place.perm(node) == self.perm
        if id(node) not in self._place.here or not self.takes(node):
            return False
        self._nodes[id(node)] = node
        return all(self.take(t) for t in self.data(node))

    def takes(self, node: Node) -> bool:
        """Whether an operator does the same with the axes in any order, once it is told."""
        if len(node.outputs) != 1:
            return False
        if node.op in ("QuantizeLinear", "DequantizeLinear"):
            return all(_is_scalar(self._graph, t) for t in node.inputs[1:] if t.name)
        if node.op in _ELEMENTWISE:
            return True
        if node.op in _ALONG:
            old = node.op != "Concat" and self._place.opset < 13  # flattened around the axis
            return not old and isinstance(attribute(self._graph, node, "axis"), int)
        return reduces(node) and attribute(self._graph, node, "keepdims") == 1 and bool(self._axes(node))

    def data(self, node: Node) -> list[Tensor]:
        """The inputs that have the axes of the result."""
        return [t for t in (node.inputs[:1] if reduces(node) else node.inputs) if t.name]

    def _axes(self, node: Node) -> list[int] | None:
        found = axes_of(self._graph, node, self._place.opset)
        rank = len(self.perm)
        return found if found and all(-rank <= a < rank for a in found) else None

    def open_tensor(self) -> Tensor | None:
        """A tensor in between that something else reads, or a graph returns."""
        inside = {id(self._end), *self._nodes}
        for node in self._nodes.values():
            tensor = node.outputs[0]
            if self._standing.is_end(tensor) or any(id(r) not in inside for r in tensor.outputs):
                return tensor
        return None

    def dying(self) -> int:
        """How many of the transposes nobody reads any more afterwards."""
        inside = {id(self._end), *self._nodes}
        outputs = [n.outputs[0] for n in self._leaves.values()]
        return sum(not self._standing.is_end(t) and all(id(r) in inside for r in t.outputs) for t in outputs)

    # -- building

    def turned(self, tensor: Tensor) -> Tensor:
        """``tensor`` as it is in the other order, made of new nodes in front of the end."""
        if id(tensor) not in self._made:
            if self._graph.is_constant(tensor):
                self._made[id(tensor)] = self._constant(tensor)
            else:
                node = tensor.inputs[0]
                leaf = id(node) in self._leaves
                self._made[id(tensor)] = node.inputs[0] if leaf else self.rebuilt(node)
        return self._made[id(tensor)]

    def rebuilt(self, node: Node) -> Tensor:
        """A node like ``node`` in the other order."""
        attrs = dict(node.attrs)
        count = len(self.data(node))
        inputs = [self.turned(t) if t.name else None for t in node.inputs[:count]] + list(node.inputs[count:])
        if node.op not in ("Concat", *_ELEMENTWISE, *_ALONG):
            inputs = self.reduction(node, inputs[:1], attrs)
        elif node.op in _ALONG:
            attrs["axis"] = self.perm[attribute(self._graph, node, "axis")]
        return self._add(node, inputs, attrs)

    def reduction(self, node: Node, inputs: list[Any], attrs: dict[str, Any]) -> list[Any]:
        """The inputs of a reduction in the other order; ``attrs`` gets its axes where they are one."""
        axes = sorted(self.perm[a] for a in self._axes(node) or [])
        if self._place.opset < AXES[node.op]:
            attrs["axes"] = axes
            return inputs
        return [*inputs, self._graph.constant(np.array(axes, np.int64), "axes")]

    def reduced(self, node: Node) -> Tensor | None:
        """A reduction that drops its axes, in the other order, where the rest is in one order in both."""
        axes = {a % len(self.perm) for a in self._axes(node) or []}
        rest = [p for i, p in enumerate(self.perm) if i not in axes]
        if not axes or rest != sorted(rest):
            return None
        attrs = dict(node.attrs)
        inputs = self.reduction(node, [self.turned(node.inputs[0])], attrs)
        return self._add(node, inputs, attrs)

    def _add(self, node: Node, inputs: list[Any], attrs: dict[str, Any]) -> Tensor:
        name = f"{node.outputs[0].name}_turned"
        made: Tensor = self._graph.add(node.op, inputs, attrs, outputs=[name], before=self._end, of=[node])[0]
        return made

    def _constant(self, tensor: Tensor) -> Tensor:
        values = self._graph.value(tensor)
        if values is None or values.size == 1:
            return tensor
        whole = values.reshape((1,) * (len(self.perm) - values.ndim) + values.shape)
        return self._graph.constant(np.transpose(whole, self._back), tensor.name, of=[tensor])


def _is_scalar(graph: Graph, tensor: Tensor) -> bool:
    shape = graph.shape(tensor) if graph.is_constant(tensor) else None
    return shape is not None and all(d == 1 for d in shape)
