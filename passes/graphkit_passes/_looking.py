"""Reading one scope up and down from a node: makers, only readers, scalars, and through Casts of floats."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import onnx.helper

from graphkit import Graph, NotApplicable
from graphkit.model.graph import Node, Tensor
from graphkit.model.matching import Scope
from graphkit.model.operators import attribute, domain_of
from graphkit_passes._shared import FLOATS, Known

Dtype = np.dtype[Any]


class Look:
    """One scope of a model, as a recogniser of several nodes sees it.

    ``outputs`` are the ids of the outputs of all scopes. Edits of the scope go through :meth:`replace`.
    """

    def __init__(self, graph: Graph, known: Known, outputs: set[int]) -> None:
        self.graph = graph
        self.known = known
        self._scope = Scope(graph, outputs)

    def nodes(self, *ops: str, domain: str = "") -> list[Node]:
        """Nodes of these operators, those of one operator after those of the other."""
        return [n for op in ops for n in self._scope.nodes_of(domain, op) if self._scope.holds(n)]

    def holds(self, node: Node) -> bool:
        """Whether ``node`` is in this scope."""
        return self._scope.holds(node)

    def maker(self, tensor: Tensor, *ops: str) -> Node | None:
        """The node of this scope that makes ``tensor`` as its first output, if it is one of ``ops``."""
        node = self.graph.producer(tensor)
        if node is None or domain_of(node) or (ops and node.op not in ops) or not self._scope.holds(node):
            return None
        return node if node.outputs[0] is tensor else None

    def reader(self, tensor: Tensor) -> Node | None:
        """The only node that reads ``tensor``, when it is of this scope; it may read it twice."""
        readers = self.readers(tensor)
        return readers[0] if len(readers) == 1 and self._scope.holds(readers[0]) else None

    def readers(self, tensor: Tensor) -> list[Node]:
        """The nodes that read ``tensor``; none for what a scope returns: nobody knows who reads that."""
        if self._scope.is_output(tensor):
            return []
        return list({id(n): n for n in self.graph.consumers(tensor)}.values())

    def is_output(self, tensor: Tensor) -> bool:
        """Whether a scope returns ``tensor``."""
        return self._scope.is_output(tensor)

    def scalar(self, tensor: Tensor) -> float | None:
        """The value of a constant of one element."""
        shape = self.graph.shape(tensor) if self.graph.is_constant(tensor) else None
        if shape is None or any(d != 1 for d in shape):
            return None
        values = self.graph.value(tensor)
        number = values is not None and values.dtype.name in FLOATS | {"int32", "int64"}
        return float(values.reshape(())) if number and values is not None else None

    def is_scalar(self, tensor: Tensor, value: float) -> bool:
        """Whether ``tensor`` is the constant ``value``, which every float dtype can hold."""
        return self.scalar(tensor) == value

    def dtype(self, tensor: Tensor) -> Dtype | None:
        """The dtype of a tensor: that of a constant, what a Cast says, what inference knows."""
        cast = self.maker(tensor, "Cast")
        return cast_to(self.graph, cast) if cast is not None else self.known.dtype(self.graph, tensor)

    def cast_from(self, tensor: Tensor) -> Tensor | None:
        """What a Cast from float to float makes ``tensor`` of."""
        cast = self.maker(tensor, "Cast")
        if cast is None:
            return None
        to = cast_to(self.graph, cast)
        source = self.dtype(cast.inputs[0])
        floats = to is not None and to.name in FLOATS and source is not None and source.name in FLOATS
        return cast.inputs[0] if floats else None

    def strip(self, tensor: Tensor) -> Tensor:
        """``tensor`` before any Casts between floats."""
        while (before := self.cast_from(tensor)) is not None:
            tensor = before
        return tensor

    def origin(self, tensor: Tensor) -> Tensor:
        """``tensor`` before Casts that lose nothing."""
        while (before := self.cast_from(tensor)) is not None:
            narrow, wide = self.dtype(before), self.dtype(tensor)
            if narrow is None or wide is None or not widens(narrow, wide):
                break
            tensor = before
        return tensor

    def region(self, end: Tensor, stops: Collection[int]) -> list[Node]:
        """The nodes of this scope that compute ``end`` from constants and the tensors with ids ``stops``.

        Only the data of a Reshape or Unsqueeze is followed: what computes a shape is no part of it.
        """
        found: dict[int, Node] = {}
        waiting = [end]
        while waiting:
            tensor = waiting.pop()
            node = self.maker(tensor)
            if node is None or id(tensor) in stops or node.op == "Constant" or id(node) in found:
                continue
            found[id(node)] = node
            waiting += node.inputs[:1] if node.op in ("Reshape", "Unsqueeze") else node.inputs
        return sorted(found.values(), key=self._scope.place)

    def require_closed(self, nodes: Sequence[Node], end: Tensor) -> None:
        """NotApplicable when something outside of ``nodes`` reads what they make, other than ``end``."""
        inside = {id(n) for n in nodes}
        for tensor in (t for n in nodes for t in n.outputs if t.name and t is not end):
            if self._scope.is_read(tensor, inside):
                how = "is a graph output" if self._scope.is_output(tensor) else "is read elsewhere too"
                raise NotApplicable(f"'{tensor.name}' inside the pattern {how}")

    def replace(self, old: Tensor, new: Tensor, made: Sequence[Node], nodes: Sequence[Node]) -> None:
        """Let ``new``, by the nodes ``made``, stand for ``old``; take out what of ``nodes`` nobody needs.

        Constants, and code that computed a shape for them, go too when they have no reader left.
        """
        place = self._scope.place(nodes[-1])
        maker = self.graph.producer(old)
        self.graph.replace(old, new)
        self._scope.adopt(made, place)
        self.drop([*([maker] if maker is not None else []), *reversed(nodes)])

    def drop(self, nodes: Iterable[Node]) -> None:
        """Remove nodes that have no reader, and what loses its last reader by that."""
        waiting = list(nodes)
        while waiting:
            node = waiting.pop(0)
            if not self._scope.holds(node) or any(self._is_needed(t) for t in node.outputs):
                continue
            read = [t for t in node.inputs if t.name]
            self._scope.forget([node])
            self.graph.remove([node])
            for tensor in {id(t): t for t in read}.values():
                waiting += self._orphan(tensor)

    def _is_needed(self, tensor: Tensor) -> bool:
        return bool(tensor.outputs) or self._scope.is_output(tensor)

    def _orphan(self, tensor: Tensor) -> list[Node]:
        """The maker of a tensor that has no reader any more; an initializer is removed here."""
        if self._is_needed(tensor):
            return []
        if tensor.inputs:
            return list(tensor.inputs)
        if self.graph.is_constant(tensor):
            self.graph.remove_initializer(tensor)
        return []


def cast_to(graph: Graph, cast: Node) -> Dtype | None:
    """The dtype that a Cast makes; None for one that a function's caller chooses."""
    to = attribute(graph, cast, "to")
    return onnx.helper.tensor_dtype_to_np_dtype(to) if isinstance(to, int) else None


def widens(narrow: Dtype, wide: Dtype) -> bool:
    """Whether a Cast from one float dtype to the other keeps every value."""
    return narrow == wide or (narrow.itemsize < wide.itemsize and wide.itemsize > 2)
