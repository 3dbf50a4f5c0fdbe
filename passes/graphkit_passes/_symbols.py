"""Shape code followed with names for what is not known: vectors of sizes, as numbers and products of dims."""

from __future__ import annotations

from typing import Any

from graphkit import Graph
from graphkit.model.operators import attribute, domain_of
from graphkit.model.scopes import ordered
from graphkit.model.surgeon import Node, Tensor
from graphkit_passes._following import Following
from graphkit_passes._placing import Placing
from graphkit_passes._products import Sizes, agree, better, product, quotient, result
from graphkit_passes._shapes import RULES, Known, ShapeFolder, stretched
from graphkit_passes._shared import Known as Inferred
from graphkit_passes._shared import root_of

_MOST = 64


class Symbols(ShapeFolder):
    """What is known of each integer vector: nothing is folded. Elements are int, :class:`Sizes` or None.

    The walk carries names on that inference loses: where a Reshape says the dims of its result in the names
    of its input, what follows is inferred again, node by node.
    """

    def __init__(self, main: Graph, inferred: Inferred, *, carry: bool) -> None:
        super().__init__(main, Placing(main))
        self._types = inferred.types
        self._known: dict[int, tuple[Tensor, Known]] = {}
        self._named: dict[int, tuple[Tensor, tuple[Any, ...]]] = {}
        self.truths: dict[int, tuple[Tensor, tuple[bool | None, ...]]] = {}
        self.found: list[tuple[Graph, Node, Tensor]] = []
        for graph in main.scopes():
            follow = Following(graph, self, inferred)
            for node in ordered(graph.nodes):
                if not domain_of(node) and len(node.outputs) == 1 and node.outputs[0].name:
                    self._note(graph, node)
                if carry:
                    self._carry(graph, node, follow)

    def _note(self, graph: Graph, node: Node) -> None:
        tensor = node.outputs[0]
        if node.op == "Equal":
            truth = self._equal(graph, node)
            if truth is not None:
                self.truths[id(tensor)] = (tensor, truth)
            return
        rule = _ALL.get(node.op)
        found = None if rule is None else rule(self, graph, node)
        if found is not None and len(found.values) <= _MOST:
            self._known[id(tensor)] = (tensor, found)
            self.found.append((graph, node, tensor))

    def _carry(self, graph: Graph, node: Node, follow: Following) -> None:
        """Note the dims of what a node makes where they are known better than inference knows them."""
        if root_of(graph).is_function:
            return
        if node.op == "Reshape" and not domain_of(node) and len(node.inputs) == 2:
            made = self._reshaped(graph, node)
            if made is not None and better(made, self.dims(graph, node.outputs[0])):
                self._named[id(node.outputs[0])] = (node.outputs[0], made)
        elif node.op == "Range" and not domain_of(node):
            count = self._count(graph, node)
            if isinstance(count, Sizes):
                self._named[id(node.outputs[0])] = (node.outputs[0], (count,))
        elif any(id(t) in self._named for t in node.inputs):
            for tensor, made in follow.inferred(node):
                if better(made, self.dims(graph, tensor)):
                    self._named[id(tensor)] = (tensor, made)

    def _count(self, graph: Graph, node: Node) -> Any:
        """How many numbers a Range from 0 in steps of 1 gives: that many as its end says."""
        start, end, step = node.inputs
        for tensor, wanted in ((start, 0), (step, 1)):
            values = graph.value(tensor) if graph.is_constant(tensor) else None
            if values is None or values.size != 1 or values.reshape(-1)[0] != wanted:
                return None
        cast = graph.producer(end)
        if cast is not None and cast.op == "Cast" and not domain_of(cast):
            end = cast.inputs[0]  # a size is a whole number in any type
        known = self.known(graph, end)
        return known.values[0] if known is not None and len(known.values) == 1 else None

    def _reshaped(self, graph: Graph, node: Node) -> tuple[Any, ...] | None:
        """The dims that a Reshape makes, as far as they are known; None when their number is not."""
        dims, wanted = self.dims(graph, node.inputs[0]), self.known(graph, node.inputs[1])
        if wanted is None or wanted.scalar:
            return None
        copies = attribute(graph, node, "allowzero") in (None, 0)
        sizes = [
            (dims[i] if dims is not None and i < len(dims) else None) if size == 0 and copies else size
            for i, size in enumerate(wanted.values)
        ]
        if -1 in sizes:
            place = sizes.index(-1)
            sizes[place] = quotient(dims, [s for i, s in enumerate(sizes) if i != place])
        return tuple(sizes)

    def dims(self, graph: Graph, tensor: Tensor) -> tuple[Any, ...] | None:
        """Numbers, names, and None for what nothing has a name for."""
        if id(tensor) in self._named:
            return self._named[id(tensor)][1]
        shape = graph.shape(tensor) if graph.is_constant(tensor) else self._types.named(tensor)
        if shape is None:
            return None
        return tuple(Sizes((d,)) if isinstance(d, str) else d if d is None or d >= 0 else None for d in shape)

    # -- rules that differ from those for numbers

    def _size(self, graph: Graph, node: Node) -> Known | None:
        dims = self.dims(graph, node.inputs[0])
        if dims is None:
            return None
        total: Any = 1
        for dim in dims:
            total = product(total, dim)
        return Known((total,), scalar=True)

    def _gather(self, graph: Graph, node: Node) -> Known | None:
        index = self.known(graph, node.inputs[1])
        plain = index is not None and all(isinstance(i, int) for i in index.values)
        return super()._gather(graph, node) if plain else None

    def _list(self, graph: Graph, node: Node, place: int) -> list[Any] | None:
        found = super()._list(graph, node, place)
        return found if found is None else [v if isinstance(v, int) else None for v in found]

    def _cast(self, graph: Graph, node: Node) -> Known | None:
        """A size is taken to fit into whatever integer its author chose."""
        found, to = self.known(graph, node.inputs[0]), node.attrs.get("to")
        if found is None or to not in (6, 7):
            return None
        return Known(found.values, found.scalar, _dtype(to))

    def _arithmetic(self, graph: Graph, node: Node) -> Known | None:
        a, b = (self.known(graph, t) for t in node.inputs)
        if a is None or b is None or a.dtype != b.dtype:
            return None
        count = max(len(a.values), len(b.values)) if 0 not in (len(a.values), len(b.values)) else 0
        if any(len(k.values) not in (1, count) for k in (a, b)):
            return None
        pairs = zip(stretched(a, count), stretched(b, count), strict=True)
        return Known(tuple(result(node.op, x, y) for x, y in pairs), a.scalar and b.scalar, a.dtype)

    def _reshape(self, graph: Graph, node: Node) -> Known | None:
        """A vector made a vector."""
        data, shape = self.known(graph, node.inputs[0]), self.known(graph, node.inputs[1])
        if data is None or shape is None or shape.values not in ((-1,), (len(data.values),)):
            return None
        return Known(data.values, False, data.dtype)

    def _same(self, graph: Graph, node: Node) -> Known | None:
        return self.known(graph, node.inputs[0])

    def _equal(self, graph: Graph, node: Node) -> tuple[bool | None, ...] | None:
        a, b = (self.known(graph, t) for t in node.inputs)
        if a is None or b is None or not a.values or not b.values:
            return None
        count = max(len(a.values), len(b.values))
        if any(len(k.values) not in (1, count) for k in (a, b)) or (a.scalar and b.scalar):
            return None
        return tuple(map(agree, stretched(a, count), stretched(b, count)))

    def _where(self, graph: Graph, node: Node) -> Known | None:
        truth = self.truths.get(id(node.inputs[0]))
        a, b = (self.known(graph, t) for t in node.inputs[1:])
        if truth is None or a is None or b is None or a.dtype != b.dtype:
            return None
        count = len(truth[1])
        if any(len(k.values) not in (1, count) for k in (a, b)):
            return None
        choices = zip(truth[1], stretched(a, count), stretched(b, count), strict=True)
        return Known(tuple(None if c is None else x if c else y for c, x, y in choices), False, a.dtype)


def _dtype(code: int) -> Any:
    from graphkit.model.surgeon import numpy_dtype

    return numpy_dtype(code)


_ALL: dict[str, Any] = {
    **{op: getattr(Symbols, rule.__name__) for op, rule in RULES.items()},
    "Reshape": Symbols._reshape,
    "Identity": Symbols._same,
    "Where": Symbols._where,
}
