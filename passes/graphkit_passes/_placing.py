"""Putting known values in the place of nodes, and taking out what nothing reads any more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from graphkit import Graph
from graphkit.model.operators import domain_of
from graphkit.model.scopes import reads
from graphkit.model.surgeon import Constant, GsNode, Node, Tensor, unlink

Values = Any  # an ndarray, or what the file holds of one, not read


class Placing:
    """Edits of one pass; collects what loses its readers, to remove it in :meth:`sweep`."""

    def __init__(self, main: Graph) -> None:
        self._main = main
        self._lost: dict[int, Tensor] = {}
        # before IR 4, an initializer must be an input too, and a caller could override it
        self.only_nodes = 0 < main.model.shell.ir_version < 4
        self.refresh()

    def refresh(self) -> None:
        """Look again at what the outputs of all scopes are."""
        self._scopes = self._main.scopes()
        self._ends = {id(t) for s in self._scopes for t in s.outputs}

    def is_end(self, tensor: Tensor) -> bool:
        """Whether a scope returns ``tensor``, or something names it that no pass can see."""
        return id(tensor) in self._ends or tensor.name in self._main.model.pinned

    def fold(self, graph: Graph, node: Node, values: dict[int, Values]) -> list[Tensor]:
        """Let constants stand for the outputs of ``node``; ``values`` by the identity of the output tensor.

        They become initializers of the same names; outputs of a scope, and whatever a function or a model
        before IR 4 holds, are written by Constant nodes. Returns the new tensors. The node itself is taken
        out by the caller, with many others.
        """
        made = []
        self._lost.update((id(t), t) for t in reads(node) if t.name)
        for tensor in [t for t in node.outputs if t.name]:
            if graph.is_function or self.only_nodes or self.is_end(tensor):
                made.append(self._constant_node(graph, node, tensor, values[id(tensor)]))
            else:
                made.append(self._initializer(graph, tensor, values[id(tensor)]))
        return made

    def _initializer(self, graph: Graph, tensor: Tensor, values: Values) -> Tensor:
        constant = Constant(tensor.name, values)
        for reader in graph.consumers(tensor):
            graph.rewire(reader, tensor, constant)
        return constant

    def _constant_node(self, graph: Graph, node: Node, tensor: Tensor, values: Values) -> Tensor:
        attribute = {"value": Constant("", values)}
        made = GsNode("Constant", graph.model.fresh_name(node.name or "Constant"), attribute, [], [])
        place = next(i for i, n in enumerate(graph.nodes) if n is node)
        graph.nodes.insert(place, made)
        spot = next(i for i, t in enumerate(node.outputs) if t is tensor)
        unlink(tensor.inputs, node)
        list.__delitem__(node.outputs, spot)
        list.append(made.outputs, tensor)
        list.append(tensor.inputs, made)
        if tensor.shape is not None and tensor.shape != list(values.shape):
            tensor.shape = list(values.shape)  # the annotation was wrong, or knew less
        return tensor

    def lose(self, tensor: Tensor) -> None:
        """Note a tensor that lost a reader: when it has none left, what makes it goes with :meth:`sweep`."""
        self._lost[id(tensor)] = tensor

    def remove(self, graph: Graph, nodes: Iterable[Node]) -> None:
        """Take out nodes of one scope; what only they read goes with the next :meth:`sweep`."""
        gone = list(nodes)
        for node in gone:
            self._lost.update((id(t), t) for t in reads(node) if t.name)
        graph.remove(gone)

    def sweep(self) -> int:
        """Remove nodes all of whose outputs lost their last reader, and so on upward; returns how many."""
        owner = {id(n): s for s in self._scopes for n in s.nodes} if self._lost else {}
        total = 0
        while self._lost:
            makers = {id(n): n for t in self._lost.values() for n in t.inputs}
            self._lost = {}
            waves: dict[int, tuple[Graph, list[Node]]] = {}
            for node in (n for n in makers.values() if id(n) in owner and self._is_dead(n)):
                scope = owner[id(node)]
                waves.setdefault(id(scope), (scope, []))[1].append(node)
            for scope, nodes in waves.values():
                self.remove(scope, nodes)
                total += len(nodes)
        return total

    def _is_dead(self, node: Node) -> bool:
        return not any(t.outputs or self.is_end(t) for t in node.outputs if t.name)


def held(tensor: Tensor) -> Values | None:
    """The values of a constant as they lie in the file or in memory; None for those that have to be made."""
    if isinstance(tensor, Constant):
        return tensor._values
    node = tensor.inputs[0] if tensor.inputs else None
    value = node.attrs.get("value") if node is not None else None
    return value._values if isinstance(value, Constant) else None


def is_external(tensor: Tensor) -> bool:
    """Whether the values of a constant lie in a data file."""
    header = getattr(held(tensor), "header", None)
    return header is not None and getattr(header, "data_location", 0) == 1


def move_constants(graph: Graph, placing: Placing) -> int:
    """Constant nodes of one scope become initializers; values that lie in the file are not read.

    Left alone are those that write an output, sparse ones, those of functions, and those nothing reads.
    """
    if placing.only_nodes or graph.is_function or _root(graph).is_function:
        return 0
    gone: list[Node] = []
    for node in graph.nodes:
        if node.op != "Constant" or domain_of(node) or "sparse_value" in node.attrs or len(node.outputs) != 1:
            continue
        tensor = node.outputs[0]
        if not tensor.name or not tensor.outputs or placing.is_end(tensor):
            continue
        values = held(tensor)
        values = graph.value(tensor) if values is None else values
        if values is not None:
            placing.fold(graph, node, {id(tensor): values})
            gone.append(node)
    placing.remove(graph, gone)
    return len(gone)


def _root(graph: Graph) -> Graph:
    while graph.parent is not None:
        graph = graph.parent
    return graph


def is_uniform(values: np.ndarray[Any, Any]) -> bool:
    """Whether all elements are the same, bit for bit."""
    if values.size < 2:
        return True
    if values.dtype == object:
        return len(set(values.reshape(-1).tolist())) == 1
    flat = np.ascontiguousarray(values).reshape(-1)
    rows = flat.view(np.uint8).reshape(flat.size, -1)
    return bool((rows == rows[0]).all())
