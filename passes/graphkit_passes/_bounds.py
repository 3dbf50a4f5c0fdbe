"""Between which numbers the elements of a tensor lie, as far as that follows from the nodes that make it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphkit import Graph
from graphkit.model.graph import Node, Tensor
from graphkit.model.operators import attribute, domain_of
from graphkit.model.surgeon import numpy_dtype
from graphkit_passes._movers import chosen, fills_zeros, moved

Range = tuple[float, float]
"""The least and the greatest value that there may be, both included."""

_DEPTH = 64
_LARGEST = 1 << 20  # bytes of a constant that are looked at
_TRUTHS = frozenset(
    ["And", "Or", "Not", "Xor", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "IsInf", "IsNaN"]
)
_SHARES = frozenset(["Sigmoid", "HardSigmoid", "Softmax"])
_ROUNDING: dict[str, Callable[[float], float]] = {"Floor": math.floor, "Ceil": math.ceil, "Round": round}


class Bounds:
    """Ranges of tensors; ``dtype_of`` is asked where no node tells, and None there says nothing.

    NaN is left out of account: no integer dtype has one, and what a Cast makes of it is not defined.
    """

    def __init__(self, dtype_of: Callable[[Graph, Tensor], np.dtype[Any] | None]) -> None:
        self._dtype_of = dtype_of
        self._found: dict[int, tuple[Tensor, Range | None]] = {}

    def of(self, graph: Graph, tensor: Tensor, depth: int = _DEPTH) -> Range | None:
        """The range of a tensor's elements; None when it is not known."""
        if id(tensor) not in self._found:
            self._found[id(tensor)] = tensor, None  # until it is known
            self._found[id(tensor)] = tensor, self._range(graph, tensor, depth)
        return self._found[id(tensor)][1]

    def _range(self, graph: Graph, tensor: Tensor, depth: int) -> Range | None:
        if graph.is_constant(tensor):
            return self._of_constant(graph, tensor)
        maker = graph.producer(tensor)
        found = self.made_by(graph, maker, depth - 1) if maker is not None and depth else None
        if maker is not None and maker.op in _TRUTHS and not domain_of(maker):
            return found
        limits = _limits(self._dtype_of(graph, tensor))
        if found is None or (limits and not within(found, limits)):
            return limits  # a result beyond its dtype wraps
        return found

    def _of_constant(self, graph: Graph, tensor: Tensor) -> Range | None:
        dtype = graph.dtype(tensor)
        if dtype is None or dtype.kind not in "biuf":
            return None
        if graph.nbytes(tensor) > _LARGEST:
            return _limits(dtype)
        values = graph.value(tensor)
        if values is None or not values.size or not np.isfinite(values).all():
            return _limits(dtype)
        return float(values.min()), float(values.max())

    def made_by(self, graph: Graph, node: Node, depth: int = _DEPTH) -> Range | None:
        """Between what the node's first output would lie if its dtype had no limits."""
        if domain_of(node):
            return None
        if node.op in _TRUTHS or node.op in _SHARES:
            return 0.0, 1.0
        if node.op == "Cast":
            return self._cast(graph, node, depth)
        if node.op == "Clip":
            return self._clip(graph, node, depth)
        places = moved(graph, node) or chosen(node)
        if places is not None:
            ranges = [self.of(graph, node.inputs[p], depth) for p in places[0]]
            return _union([*ranges, (0.0, 0.0)] if fills_zeros(graph, node) else ranges)
        if node.op in _ROUNDING:
            given = self.of(graph, node.inputs[0], depth)
            step = _ROUNDING[node.op]
            return None if given is None else (float(step(given[0])), float(step(given[1])))
        if node.op in _ARITHMETIC and self._is_whole(graph, node):
            known = [r for t in node.inputs if (r := self.of(graph, t, depth)) is not None]
            return _ARITHMETIC[node.op](known) if len(known) == 2 else None
        return None

    def _is_whole(self, graph: Graph, node: Node) -> bool:
        """Whether it computes with integers: floats round, beyond what is worked out here."""
        dtypes = [self._dtype_of(graph, t) for t in node.inputs]
        return any(d is not None and d.kind in "iu" for d in dtypes)

    def _cast(self, graph: Graph, node: Node, depth: int) -> Range | None:
        code = node.attrs.get("to")
        dtype = numpy_dtype(code) if isinstance(code, int) else None
        if dtype is None:
            return None
        if dtype.kind == "b":
            return 0.0, 1.0
        found = self.of(graph, node.inputs[0], depth)
        if found is None or dtype.kind not in "iu":
            return found
        return float(math.trunc(found[0])), float(math.trunc(found[1]))

    def _clip(self, graph: Graph, node: Node, depth: int) -> Range | None:
        given = self.of(graph, node.inputs[0], depth)
        low, high = (self._bound(graph, node, place) for place in (1, 2))
        low = given[0] if low is None and given else low
        high = given[1] if high is None and given else high
        if low is None or high is None:
            return None
        return min(low, high), high

    def _bound(self, graph: Graph, node: Node, place: int) -> float | None:
        """A bound of a Clip: an attribute before opset 11, an input since."""
        if graph.opset < 11:
            number = attribute(graph, node, ("", "min", "max")[place])
            return float(number) if isinstance(number, int | float) and math.isfinite(number) else None
        if len(node.inputs) <= place or not node.inputs[place].name:
            return None
        found = self.of(graph, node.inputs[place]) if graph.is_constant(node.inputs[place]) else None
        return found[0] if found is not None and found[0] == found[1] else None


def within(inner: Range, outer: Range) -> bool:
    """Whether one range lies in another."""
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def _limits(dtype: np.dtype[Any] | None) -> Range | None:
    """What a dtype can hold; None for floats."""
    if dtype is None or dtype.kind not in "biu":
        return None
    if dtype.kind == "b":
        return 0.0, 1.0
    return float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)


def _union(ranges: list[Range | None]) -> Range | None:
    known = [r for r in ranges if r is not None]
    if len(known) < len(ranges) or not known:
        return None
    return min(r[0] for r in known), max(r[1] for r in known)


def _product(ranges: list[Range]) -> Range:
    (a, b), (c, d) = ranges
    corners = [a * c, a * d, b * c, b * d]
    return min(corners), max(corners)


def _quotient(ranges: list[Range]) -> Range | None:
    (low, high), (least, most) = ranges
    return (0.0, float(high // least)) if low >= 0 and least > 0 and most > 0 else None


def _remainder(ranges: list[Range]) -> Range | None:
    (low, high), (least, most) = ranges
    return (0.0, min(high, most - 1)) if low >= 0 and least > 0 else None


def _masked(ranges: list[Range]) -> Range | None:
    """No bit is set that a number has not which is not negative."""
    least = [high for low, high in ranges if low >= 0]
    return (0.0, min(least)) if least else None


def _bits(ranges: list[Range]) -> Range | None:
    """Bits of numbers that are not negative stay below the next power of two."""
    if any(low < 0 for low, _ in ranges):
        return None
    return 0.0, float((1 << int(max(high for _, high in ranges)).bit_length()) - 1)


_ARITHMETIC: dict[str, Callable[[list[Range]], Range | None]] = {
    "Add": lambda r: (r[0][0] + r[1][0], r[0][1] + r[1][1]),
    "Sub": lambda r: (r[0][0] - r[1][1], r[0][1] - r[1][0]),
    "Mul": _product,
    "Div": _quotient,
    "Mod": _remainder,
    "BitwiseAnd": _masked,
    "BitwiseOr": _bits,
    "BitwiseXor": _bits,
}
