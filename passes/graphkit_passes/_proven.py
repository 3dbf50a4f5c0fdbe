"""What tensors must hold: computed from constants, and from the dims that inference proves, alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from graphkit import Graph
from graphkit.model.infer import Types
from graphkit.model.operators import domain_of
from graphkit.model.scopes import ordered
from graphkit.model.surgeon import Constant, GsGraph, Node, Tensor, onnx_dtype
from graphkit_passes._batch import Batch, Result
from graphkit_passes._eligible import Rules, unbounded
from graphkit_passes._functions import without_overloads
from graphkit_passes._shape_notes import ShapeNotes
from graphkit_passes._shared import root_of

Array = np.ndarray[Any, Any]
LARGEST = 1 << 20
"""Bytes: a parameter is small, and nothing larger than this is computed to find one."""


class Proven:
    """The values of the tensors that are asked for, and why the others have none. Nothing is changed."""

    def __init__(self, main: Graph) -> None:
        self._main = main
        self._rules = Rules(main, qdq=True)
        self._scopes = main.scopes()
        self._home = {id(n): scope for scope in self._scopes for n in scope.nodes}
        self._inputs = {id(t): scope for scope in self._scopes for t in scope.inputs}
        self._values: dict[int, tuple[Tensor, Array]] = {}
        self._reasons: dict[int, str] = {}
        self._shapes: ShapeNotes | None = None

    @property
    def types(self) -> Types:
        """What inference finds in the model as it was when this was made."""
        if self._shapes is None:
            self._shapes = ShapeNotes(self._main)
        return self._shapes.types

    def home(self, node: Node) -> Graph:
        """The scope that a node lies in."""
        return self._home[id(node)]

    def value(self, graph: Graph, tensor: Tensor) -> Array | None:
        """What ``tensor`` holds whenever the model runs; None when that is not proven."""
        if graph.is_constant(tensor):
            return graph.value(tensor)
        entry = self._values.get(id(tensor))
        return None if entry is None else entry[1]

    def why(self, tensor: Tensor) -> str:
        """Why the value of a tensor that was asked for is not known."""
        waiting, seen = [tensor], {id(tensor)}
        while waiting:
            here = waiting.pop()
            if id(here) in self._reasons:
                return self._reasons[id(here)]
            above = [t for n in here.inputs for t in n.inputs if id(t) not in seen]
            seen.update(id(t) for t in above)
            waiting += [t for t in above if id(t) not in self._values]
        return f"nothing is known of '{tensor.name}'"

    def learn(self, wanted: Iterable[tuple[Graph, Tensor]]) -> None:
        """Find the values of these tensors: one inference at most, and one run for each function."""
        asked = [(g, t) for g, t in wanted if not g.is_constant(t)]
        cone = self._cone(asked)
        if any(_is_shape(n) for n in cone.values()):
            if self._shapes is None:
                self._shapes = ShapeNotes(self._main)
            self._values.update(self._shapes.values)
        batches: dict[int, Batch] = {}
        for scope in self._scopes if cone else ():
            inside = [n for n in scope.nodes if id(n) in cone]
            for node in ordered(inside):
                root = root_of(scope)
                self._visit(scope, node, batches.setdefault(id(root.gs), Batch(root)))
        for graph, tensor in asked:
            self._blame_leaf(graph, tensor)
        for batch in batches.values():
            self._compute(batch)

    def _cone(self, wanted: Iterable[tuple[Graph, Tensor]]) -> dict[int, Node]:
        """The nodes that these tensors follow from; a Shape follows from no value."""
        cone: dict[int, Node] = {}
        waiting = [t for _, t in wanted]
        while waiting:
            maker = self._main.producer(waiting.pop())
            if maker is None or id(maker) in cone or id(maker) not in self._home:
                continue
            cone[id(maker)] = maker
            if not _is_shape(maker) and not _has_graph(maker):
                waiting += [t for t in maker.inputs if t.name and id(t) not in self._values]
        return cone

    # -- one node

    def _visit(self, graph: Graph, node: Node, batch: Batch) -> None:
        """Put a node into the batch when all it reads is known; else note what is not."""
        named = [t for t in node.outputs if t.name]
        if node.op == "Constant" or all(id(t) in self._values for t in named):
            return
        given = [t for t in node.inputs if t.name]
        leaves = [t for t in given if graph.is_constant(t)]
        reason = None if _has_graph(node) else self._missing(graph, node)
        if reason is None:
            own = self._reason(graph, node, leaves) or batch.add(graph, node, leaves)
            reason = None if own is None else _told(node, own)
        if reason is not None:
            self._reasons.update((id(t), reason) for t in named)
            return
        for tensor in given:
            if id(tensor) in self._values:
                values = self._values[id(tensor)][1]
                batch.leaves[batch.name(tensor)] = (graph, Constant(tensor.name, values))

    def _reason(self, graph: Graph, node: Node, leaves: list[Tensor]) -> str | None:
        """Why this node is not computed, whatever it reads."""
        if _has_graph(node):
            mend = "; fold-if may decide it" if node.op == "If" else ""
            return f"what it gives is not known before it runs{mend}"
        large = next((t for t in leaves if graph.nbytes(t) > LARGEST), None)
        if large is not None:
            return f"it reads '{large.name}' of {graph.nbytes(large):,} bytes, and parameters are small"
        return self._rules.reason(graph, node)

    def _missing(self, graph: Graph, node: Node) -> str | None:
        """What the node follows from that is not known; None when all is."""
        if _is_shape(node):
            return self._dims(graph, node, None)
        for tensor in node.inputs[::-1]:  # what is picked says which dims of a shape matter
            if not tensor.name or id(tensor) in self._values or graph.is_constant(tensor):
                continue
            self._blame_leaf(graph, tensor)
            maker = self._main.producer(tensor)
            if maker is not None and _is_shape(maker) and node.op == "Gather" and tensor is node.inputs[0]:
                return self._dims(self._home[id(maker)], maker, self._picked(graph, node))
            if id(tensor) in self._reasons:
                return self._reasons[id(tensor)]
        return None

    def _picked(self, graph: Graph, node: Node) -> list[int] | None:
        index = self.value(graph, node.inputs[1])
        return None if index is None else [int(i) for i in index.reshape(-1)]

    def _dims(self, graph: Graph, node: Node, picked: list[int] | None) -> str:
        """Which dims of its input a Shape or Size needs that are not known, and what makes them so."""
        tensor = node.inputs[0]
        maker = graph.producer(tensor)
        if maker is not None and maker.op == "Shape" and not domain_of(maker):
            tensor = maker.inputs[0]  # the size of a shape is a rank
        if root_of(graph).is_function:
            return f"a function knows no shape of '{tensor.name}'; inline-functions comes first"
        shape = self.types.shape(tensor)
        if shape is None:
            return f"not even the rank of '{tensor.name}' is known{_because(self.types)}"
        places = sorted({i % len(shape) for i in picked}) if picked and shape else range(len(shape))
        free = [(i, shape[i]) for i in places if not isinstance(shape[i], int)]
        told = " and ".join(f"dim {i} of '{tensor.name}'" + (f" ({d})" if d else "") for i, d in free)
        symbol = next((d for _, d in free if isinstance(d, str)), None)
        mend = f"fix-shapes:{symbol}=… makes it known" if symbol else "fix-shapes may make it known"
        return f"it follows from {told}; {mend}" if free else f"it follows from the shape of '{tensor.name}'"

    def _blame_leaf(self, graph: Graph, tensor: Tensor) -> None:
        """Note why a tensor that no node makes has no value."""
        if tensor.inputs or id(tensor) in self._values or graph.is_constant(tensor):
            return
        scope = self._inputs.get(id(tensor))
        if isinstance(tensor, Constant):
            reason = f"'{tensor.name}' is the default of an input, which a caller can override"
        elif scope is None:
            reason = f"nothing makes '{tensor.name}'"
        elif scope.is_function:
            reason = f"it follows from '{tensor.name}', which the caller of the function gives"
        elif scope.parent is not None:
            reason = f"it follows from '{tensor.name}', which each iteration of a loop is given anew"
        else:
            reason = f"it follows from input '{tensor.name}'"
        self._reasons[id(tensor)] = reason

    # -- computing

    def _compute(self, batch: Batch) -> None:
        if not batch.nodes:
            return
        if any(self._rules.calls(node) for _, node in batch.nodes):
            batch.functions = without_overloads(self._main.model.skeleton().functions)
        results = batch.infer()
        batch.drop(self._too_large(batch, results))
        evaluation = batch.evaluate()
        for index, reason in evaluation.failures.items():
            node = batch.nodes[index][1]
            said = _told(node, f"it cannot be computed: {reason}")
            self._reasons.update((id(t), said) for t in node.outputs)
        for _, node in batch.nodes:
            for tensor in node.outputs:
                values = evaluation.values.get(batch.name(tensor)) if tensor.name else None
                if values is not None and _fits(values, results.get(id(tensor), Result())):
                    self._values[id(tensor)] = (tensor, values)

    def _too_large(self, batch: Batch, results: dict[int, Result]) -> set[int]:
        gone: set[int] = set()
        for index, (graph, node) in enumerate(batch.nodes):
            named = [t for t in node.outputs if t.name]
            sizes = [results.get(id(t), Result()).nbytes for t in named]
            reason = unbounded(node, sizes, sum(graph.nbytes(t) for t in node.inputs if t.name))
            if reason is None and sum(s or 0 for s in sizes) > LARGEST:
                reason = f"its result takes {sum(s or 0 for s in sizes):,} bytes"
            if reason is not None:
                gone.add(index)
                self._reasons.update((id(t), _told(node, reason)) for t in named)
        return gone


def _is_shape(node: Node) -> bool:
    return node.op in ("Shape", "Size") and not domain_of(node)


def _has_graph(node: Node) -> bool:
    return any(isinstance(v, GsGraph) for v in node.attrs.values())


def _because(types: Types) -> str:
    return f" ({types.reason})" if types.reason else ""


def _fits(values: Array, told: Result) -> bool:
    """Whether a value has the type and shape that inference gave it."""
    if told.dtype is not None and onnx_dtype(values.dtype) != told.dtype:
        return False
    return told.shape is None or values.shape == told.shape


def _told(node: Node, reason: str) -> str:
    label = node.name or next((t.name for t in node.outputs if t.name), "")
    return f"{node.op} '{label}': {reason}"
