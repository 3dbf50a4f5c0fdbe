"""Known shapes become constants: Shape, Size, and what integer code picks out of a shape known in part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphkit import Graph
from graphkit.model.operators import attribute, domain_of
from graphkit.model.scopes import ordered
from graphkit.model.surgeon import Node, Tensor, numpy_dtype
from graphkit_passes._placing import Placing
from graphkit_passes._shared import Known as Inferred

_INTEGERS: dict[int, np.dtype[Any]] = {6: np.dtype(np.int32), 7: np.dtype(np.int64)}
_MOST = 64  # elements of a vector that is followed; shapes are short
_WHOLE = frozenset(np.dtype(t) for t in ("int32", "int64", "bool"))
_FOLLOWED = frozenset(
    ["Shape", "Size", "Gather", "Concat", "Unsqueeze", "Squeeze", "Cast", "Mul", "Add", "Sub"]
)
_FOLLOWED_FROM = 13  # the opset from which inference follows the values of these
_UNIT = {"Mul": 1, "Div": 1, "Add": 0, "Sub": 0}


@dataclass(frozen=True)
class Known:
    """An integer scalar or vector, each element known or None."""

    values: tuple[int | None, ...]
    scalar: bool = False
    dtype: np.dtype[Any] = np.dtype(np.int64)

    def array(self) -> np.ndarray[Any, Any] | None:
        """The whole value; None while an element is not known."""
        if None in self.values:
            return None
        found = np.array(self.values, self.dtype)
        return found.reshape(()) if self.scalar else found


class ShapeFolder:
    """Finds shapes that inference knows.

    A :meth:`run` infers afresh when ``stale``, and only when a Shape or Size is left.
    """

    def __init__(self, main: Graph, placing: Placing) -> None:
        self._main = main
        self._placing = placing
        self._inferred = Inferred.of(main.model)
        self.stale = False

    def run(self) -> list[Tensor]:
        """Fold what is known now; returns the tensors that became constants."""
        scopes = self._main.scopes()
        if not any(n.op in ("Shape", "Size") and not domain_of(n) for s in scopes for n in s.nodes):
            return []
        self._types = self._inferred.inferred(afresh=self.stale)
        self.stale = False
        self._known: dict[int, tuple[Tensor, Known]] = {}
        made: list[Tensor] = []
        for graph in scopes:
            gone = [n for n in ordered(graph.nodes) if not domain_of(n) and self._visit(graph, n, made)]
            self._placing.remove(graph, gone)
        return made

    def note(self, graph: Graph, node: Node) -> None:
        """Note that ``node`` is about to be folded; ``stale`` is set where inference may now find more.

        It may where it did not know the result's shape. It may where it did not follow the value, which is
        one that shapes are made of, and something that reads it has no known shape yet.
        """
        if self.stale or not self._inferred.known:
            return
        types = self._inferred.types
        for tensor in node.outputs:
            if types.static(tensor) is None:
                self.stale = True
            elif graph.opset < _FOLLOWED_FROM or node.op not in _FOLLOWED:
                whole = numpy_dtype(getattr(tensor, "dtype", None)) in _WHOLE
                open_ = any(types.static(t) is None for r in tensor.outputs for t in r.outputs)
                self.stale |= whole and open_

    def _visit(self, graph: Graph, node: Node, made: list[Tensor]) -> bool:
        """Learn what a node gives, and fold it when all is known. Returns whether it is to be removed."""
        rule = RULES.get(node.op)
        if rule is None or len(node.outputs) != 1 or not node.outputs[0].name:
            return False
        found = rule(self, graph, node)
        if found is None or len(found.values) > _MOST:
            return False
        tensor = node.outputs[0]
        self._known[id(tensor)] = (tensor, found)
        values = found.array()
        if values is not None:
            self.note(graph, node)
            made += self._placing.fold(graph, node, {id(tensor): values})
            return True
        same = self._same_as(graph, node, found)
        if same is None or graph.is_function or self._placing.is_end(tensor):
            return False
        for reader in graph.consumers(tensor):
            graph.rewire(reader, tensor, same)
        made.append(same)
        return True

    def _same_as(self, graph: Graph, node: Node, found: Known) -> Tensor | None:
        """The input that arithmetic leaves as it is: x * 1, x + 0, x / 1, x - 0, a Cast to its own type."""
        first = node.inputs[0]
        if node.op in ("Cast", "Concat") and len(node.inputs) == 1:
            was = self.known(graph, first)
            return first if was is not None and was == found else None
        if node.op not in _UNIT:
            return None
        for mine, other in ((0, 1), (1, 0)) if node.op in ("Mul", "Add") else ((0, 1),):
            unit = graph.value(node.inputs[other]) if graph.is_constant(node.inputs[other]) else None
            was = self.known(graph, node.inputs[mine])
            if unit is not None and np.all(unit == _UNIT[node.op]) and was == found:
                return node.inputs[mine]
        return None

    # -- what is known

    def known(self, graph: Graph, tensor: Tensor) -> Known | None:
        """What is known of an integer vector or scalar."""
        entry = self._known.get(id(tensor))
        if entry is not None:
            return entry[1]
        dtype = graph.dtype(tensor)
        if (
            not graph.is_constant(tensor)
            or dtype not in _INTEGERS.values()
            or graph.nbytes(tensor) > 8 * _MOST
        ):
            return None
        values = graph.value(tensor)
        if values is None or values.ndim > 1:
            return None
        return Known(tuple(int(v) for v in values.reshape(-1)), values.ndim == 0, values.dtype)

    def dims(self, graph: Graph, tensor: Tensor) -> tuple[int | None, ...] | None:
        """The dims of a tensor as far as they are certain; None when not even the rank is."""
        shape = graph.shape(tensor) if graph.is_constant(tensor) else self._types.shape(tensor)
        return None if shape is None else tuple(d if isinstance(d, int) and d >= 0 else None for d in shape)

    # -- one rule an operator

    def _shape(self, graph: Graph, node: Node) -> Known | None:
        dims = self.dims(graph, node.inputs[0])
        start, end = attribute(graph, node, "start") or 0, attribute(graph, node, "end")
        if dims is None or not isinstance(start, int) or not isinstance(end, int | None):
            return None
        low = min(max(start + len(dims) if start < 0 else start, 0), len(dims))
        last = len(dims) if end is None else end
        high = min(max(last + len(dims) if last < 0 else last, 0), len(dims))
        return Known(dims[low : max(low, high)])

    def _size(self, graph: Graph, node: Node) -> Known | None:
        dims = self.dims(graph, node.inputs[0])
        if dims is None or None in dims:
            return None
        total = 1
        for dim in dims:
            total *= dim or 0
        return Known((total,), scalar=True) if total < 1 << 63 else None

    def _gather(self, graph: Graph, node: Node) -> Known | None:
        data, index = self.known(graph, node.inputs[0]), self.known(graph, node.inputs[1])
        if data is None or index is None or data.scalar or attribute(graph, node, "axis") not in (0, -1):
            return None
        count = len(data.values)
        if any(i is None or not -count <= i < count for i in index.values):
            return None
        return Known(tuple(data.values[i] for i in index.values if i is not None), index.scalar, data.dtype)

    def _slice(self, graph: Graph, node: Node) -> Known | None:
        data = self.known(graph, node.inputs[0])
        if data is None or data.scalar:
            return None
        bounds = self._bounds(graph, node)
        if bounds is None or bounds[2] == 0:
            return None
        start, end, step = bounds
        if step > 0:
            return Known(data.values[start:end:step], False, data.dtype)
        return None

    def _bounds(self, graph: Graph, node: Node) -> tuple[int, int, int] | None:
        if graph.opset < 10:
            lists = [attribute(graph, node, n) for n in ("starts", "ends", "axes")]
        else:
            lists = [self._list(graph, node, place) for place in (1, 2, 3)]
        step = self._list(graph, node, 4) if graph.opset >= 10 else [1]
        start, end, axis = lists
        step, axis = step or [1], axis or [0]
        if (
            not start
            or not end
            or len(start) != 1
            or axis[0] not in (0, -1)
            or None in (*start, *end, *axis, *step)
        ):
            return None
        return start[0], end[0], step[0]

    def _list(self, graph: Graph, node: Node, place: int) -> list[Any] | None:
        """Input ``place`` as numbers: [] when it is left out, [None] when nothing is known of it."""
        if len(node.inputs) <= place or not node.inputs[place].name:
            return []
        found = self.known(graph, node.inputs[place])
        return [None] if found is None else list(found.values)

    def _concat(self, graph: Graph, node: Node) -> Known | None:
        parts = [self.known(graph, t) for t in node.inputs]
        values: list[int | None] = []
        for part in parts:
            if part is None or part.scalar or part.dtype != (parts[0] or part).dtype:
                return None
            values += part.values
        return Known(tuple(values), False, (parts[0] or Known(())).dtype) if parts else None

    def _unsqueeze(self, graph: Graph, node: Node) -> Known | None:
        found = self.known(graph, node.inputs[0])
        axes = attribute(graph, node, "axes") if graph.opset < 13 else self._list(graph, node, 1)
        if found is None or not found.scalar or axes not in ([0], [-1]):
            return None
        return Known(found.values, False, found.dtype)

    def _squeeze(self, graph: Graph, node: Node) -> Known | None:
        found = self.known(graph, node.inputs[0])
        axes = attribute(graph, node, "axes") if graph.opset < 13 else self._list(graph, node, 1)
        if found is None or found.scalar or len(found.values) != 1 or axes not in (None, [], [0], [-1]):
            return None
        return Known(found.values, True, found.dtype)

    def _cast(self, graph: Graph, node: Node) -> Known | None:
        found = self.known(graph, node.inputs[0])
        dtype = _INTEGERS.get(node.attrs.get("to", 0)) if isinstance(node.attrs.get("to"), int) else None
        if found is None or dtype is None:
            return None
        limits = np.iinfo(dtype)
        if any(v is not None and not limits.min <= v <= limits.max for v in found.values):
            return None
        if None in found.values and dtype != found.dtype:
            return None  # a dim that is not known may not fit
        return Known(found.values, found.scalar, dtype)

    def _arithmetic(self, graph: Graph, node: Node) -> Known | None:
        a, b = (self.known(graph, t) for t in node.inputs)
        if a is None or b is None or a.dtype != b.dtype:
            return None
        count = max(len(a.values), len(b.values)) if 0 not in (len(a.values), len(b.values)) else 0
        if any(len(k.values) not in (1, count) for k in (a, b)):
            return None
        pairs = zip(stretched(a, count), stretched(b, count), strict=True)
        values = tuple(computed(node.op, x, y) for x, y in pairs)
        limits = np.iinfo(a.dtype)
        if any(v is not None and not limits.min <= v <= limits.max for v in values):
            return None
        return Known(values, a.scalar and b.scalar, a.dtype)


def stretched(known: Known, count: int) -> tuple[int | None, ...]:
    return known.values * count if len(known.values) == 1 else known.values


def computed(op: str, x: int | None, y: int | None) -> int | None:
    """Integer arithmetic as ONNX defines it: division truncates toward zero."""
    if x is None or y is None:
        return None
    if op == "Div":
        return None if y == 0 else abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
    return {"Mul": x * y, "Add": x + y, "Sub": x - y}[op]


RULES: dict[str, Any] = {
    "Shape": ShapeFolder._shape,
    "Size": ShapeFolder._size,
    "Gather": ShapeFolder._gather,
    "Slice": ShapeFolder._slice,
    "Concat": ShapeFolder._concat,
    "Unsqueeze": ShapeFolder._unsqueeze,
    "Squeeze": ShapeFolder._squeeze,
    "Cast": ShapeFolder._cast,
    **dict.fromkeys(_UNIT, ShapeFolder._arithmetic),
}
