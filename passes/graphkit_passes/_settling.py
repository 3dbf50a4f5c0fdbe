"""The engine of ``settle-shapes``: constants for the shapes of Reshape, one vector for several."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphkit import Graph, NotApplicable, Tally
from graphkit.model.graph import Node, Tensor
from graphkit.model.operators import attribute, domain_of
from graphkit_passes._shapes import Known as Vector
from graphkit_passes._shared import Known, root_of
from graphkit_passes._standing import Standing
from graphkit_passes._symbols import Symbols

_ASKING = frozenset({"Reshape", "Expand", "Shape"})


def settle(main: Graph, tally: Tally) -> None:
    """Settle until inference has nothing new to say; once where another pass asks inference again."""
    while True:
        tally.refusals.clear()
        known = Known.of(main.model)
        if not Settler(main, tally, known).run() or Known.is_shared(main.model):
            return


class Settler:
    """One run over one model."""

    def __init__(self, main: Graph, tally: Tally, known: Known) -> None:
        self._main = main
        self._tally = tally
        self._standing = Standing(main)
        self._symbols = Symbols(main, known, carry=self._asks())

    def run(self) -> bool:
        """Reshapes, then vectors that are there twice, then what is dead; returns whether there was any."""
        before = self._tally.rewrites
        for graph in self._main.scopes():
            if root_of(graph).is_function:
                continue
            gone = [n for n in list(graph.nodes) if not domain_of(n) and self._visit(graph, n)]
            self._standing.remove(graph, gone)
            self._tally.rewrite(len(gone))
        self._merge()
        self._standing.sweep()
        return self._tally.rewrites > before

    def _asks(self) -> bool:
        """Whether a shape is computed for somebody, or there is more than one to compare."""
        nodes = [(s, n) for s in self._main.scopes() for n in s.nodes if n.op in _ASKING]
        asked = (n.op == "Shape" or (len(n.inputs) > 1 and not s.is_constant(n.inputs[1])) for s, n in nodes)
        return sum(map(bool, asked)) > 1

    def _visit(self, graph: Graph, node: Node) -> bool:
        """Settle a Reshape or Expand; returns whether it is to be removed."""
        if node.op not in ("Reshape", "Expand") or len(node.inputs) != 2 or len(node.outputs) != 1:
            return False
        data, shape = node.inputs
        dims, wanted = self._symbols.dims(graph, data), self._symbols.known(graph, shape)
        if dims is None or wanted is None or graph.is_constant(data):
            return False
        if node.op == "Expand":
            if _expands_to(dims, wanted.values):
                return self._stand_in(graph, node.outputs[0], data)
            self._settle(graph, node, _expanded(dims, wanted.values))
            return False
        if graph.is_constant(shape):
            return False
        if attribute(graph, node, "allowzero") not in (None, 0):
            self._tally.refuse(graph, node, "its allowzero is not 0, so no constant says that a dim is kept")
            return False
        if wanted.values == dims and None not in dims and self._stand_in(graph, node.outputs[0], data):
            return True
        self._settle(graph, node, _settled(dims, wanted, self._symbols.dims(graph, node.outputs[0])))
        return False

    def _settle(self, graph: Graph, node: Node, settled: list[int] | None) -> None:
        """Let a node read that constant for its shape, when there is one."""
        shape = node.inputs[1]
        if settled is None or graph.is_constant(shape):
            return
        constant = graph.constant(np.array(settled, np.int64), f"{shape.name}_settled", of=[shape])
        graph.rewire(node, shape, constant)
        self._standing.lose(shape)
        self._tally.rewrite()

    def _stand_in(self, graph: Graph, old: Tensor, new: Tensor) -> bool:
        try:
            self._standing.stand_in(graph, old, new)
        except NotApplicable:
            return False
        return True

    def _merge(self) -> None:
        """Let the first of several vectors with the same elements stand for the others."""
        first: dict[Any, tuple[Graph, Tensor]] = {}
        for graph, node, tensor in self._symbols.found:
            if not node.outputs or not tensor.outputs or root_of(graph).is_function:
                continue
            vector = self._symbols.known(graph, tensor)
            if vector is None or None in vector.values or all(isinstance(v, int) for v in vector.values):
                continue
            home, other = first.setdefault((vector.values, vector.scalar, str(vector.dtype)), (graph, tensor))
            if other is tensor or home is not graph or self._standing.is_end(tensor):
                continue
            if self._stand_in(graph, tensor, other):
                self._standing.lose(tensor)
                self._tally.rewrite()


def _settled(dims: tuple[Any, ...], wanted: Vector, made: tuple[Any, ...] | None) -> list[int] | None:
    """The constant that says ``wanted`` for a tensor of ``dims``; None when none does."""
    found: list[int] = []
    left = wanted.values.count(-1)
    for place, size in enumerate(wanted.values):
        known = made[place] if made is not None and len(made) == len(wanted.values) else None
        if isinstance(size, int):
            found.append(size)
        elif size is not None and place < len(dims) and dims[place] == size:
            found.append(0)
        elif isinstance(known, int):
            found.append(known)
        else:
            found.append(-1)
            left += 1
    return found if left <= 1 else None


def _expanded(dims: tuple[Any, ...], wanted: tuple[Any, ...]) -> list[int] | None:
    """The constant that says ``wanted`` for an Expand: a 1 keeps the size that the tensor has there."""
    own = (1,) * (len(wanted) - len(dims)) + dims[max(len(dims) - len(wanted), 0) :]
    kept = [1 if w is not None and w == d else w for d, w in zip(own, wanted, strict=True)]
    return [w for w in kept if isinstance(w, int)] if all(isinstance(w, int) for w in kept) else None


def _expands_to(dims: tuple[Any, ...], wanted: tuple[Any, ...]) -> bool:
    """Whether to broadcast a tensor of ``dims`` to ``wanted`` leaves it as it is."""
    if len(wanted) > len(dims):
        return False
    own = dims[len(dims) - len(wanted) :]
    return all(w == 1 or (w is not None and w == d) for d, w in zip(own, wanted, strict=True))
