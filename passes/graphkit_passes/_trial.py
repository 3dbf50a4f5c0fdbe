"""The engine of ``settle-branches``: what follows from taking one branch, until something cannot run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx.shape_inference import InferenceError

from graphkit import Graph, Tally
from graphkit.model.operators import attribute, domain_of
from graphkit.model.scopes import ordered
from graphkit.model.surgeon import Node, Tensor, onnx_dtype
from graphkit_passes._batch import Batch
from graphkit_passes._branches import branch_of, inline_branch
from graphkit_passes._following import outputs_of
from graphkit_passes._placing import Placing
from graphkit_passes._shared import Known, root_of

_MOST = 1000  # nodes that are followed
_SMALL = 1024  # bytes of a constant that inference may want to see

Vector = list[Any]  # of numbers and None; what is known of a small integer or boolean tensor


def settle(main: Graph, tally: Tally) -> None:
    """Inline the only branch that can run, wherever there is one."""
    found = [(s, n) for s in main.scopes() for n in s.nodes if n.op == "If" and not domain_of(n)]
    placing: Placing | None = None
    for graph, node in found:
        if root_of(graph).is_function or not node.inputs or graph.is_constant(node.inputs[0]):
            continue
        branches = {truth: branch_of(graph, node, truth) for truth in (True, False)}
        known = Known.of(main.model)
        ranks = {truth: _ranks(known, b) for truth, b in branches.items() if b is not None}
        if len(ranks) < 2 or ranks[True] == ranks[False] or None in (ranks[True], ranks[False]):
            continue
        fails = {truth: Trial(graph, known).fails(node, truth) for truth in (True, False)}
        if (fails[True] is None) == (fails[False] is None):
            which = "both its branches" if fails[True] is None else "neither of its branches"
            tally.refuse(graph, node, f"its branches give tensors of different ranks, and {which} can run")
            continue
        placing = placing or Placing(main)
        tally.rewrite(inline_branch(graph, node, fails[True] is None, placing))
    if placing is not None:
        placing.sweep()


def _ranks(known: Known, branch: Graph) -> tuple[int, ...] | None:
    """The ranks of what a branch gives; None when one is not known."""
    ranks = [known.rank(branch, t) for t in branch.outputs]
    return None if None in ranks else tuple(r for r in ranks if r is not None)


class Trial:
    """The types and small values that follow from one assumption, in one scope."""

    def __init__(self, graph: Graph, known: Known) -> None:
        self._graph = graph
        self._known = known
        self._batch = Batch(root_of(graph))
        self._types: dict[int, onnx.TypeProto] = {}
        self._values: dict[int, Vector] = {}
        self._left = _MOST

    def fails(self, node: Node, truth: bool) -> str | None:
        """Why the model cannot run when ``node`` takes that branch; None when nothing stands against it."""
        try:
            self._take(self._graph, node, truth)
            after = ordered(self._graph.nodes)
            place = next(i for i, n in enumerate(after) if n is node)
            self._follow(self._graph, after[place + 1 :])
        except InferenceError as error:
            return str(error)
        return None

    def _take(self, graph: Graph, node: Node, truth: bool) -> None:
        """Let the outputs of an If be those of its branch, all of whose nodes run."""
        body = node.attrs.get("then_branch" if truth else "else_branch")
        branch = next((s for s in graph.scopes() if s.gs is body), None)
        if branch is None:
            return
        self._follow(branch, ordered(branch.nodes))
        for target, result in zip(node.outputs, branch.outputs, strict=False):
            kind = self._type(branch, result)
            if kind is not None:
                self._types[id(target)] = kind
            if id(result) in self._values:
                self._values[id(target)] = self._values[id(result)]

    def _follow(self, graph: Graph, nodes: Iterable[Node]) -> None:
        """Infer every node that reads something assumed."""
        for node in nodes:
            if self._left and any(id(t) in self._types for t in node.inputs):
                self._left -= 1
                self._infer(graph, node)

    def _infer(self, graph: Graph, node: Node) -> None:
        if node.op == "If" and not domain_of(node):
            truth = self._value(graph, node.inputs[0])
            if truth is not None and len(truth) == 1 and truth[0] is not None:
                self._take(graph, node, bool(truth[0]))
            return
        rule = _RULES.get(node.op) if not domain_of(node) else None
        value = rule(self, graph, node) if rule is not None else None
        if value is not None:
            self._values[id(node.outputs[0])] = value
        for tensor, kind in outputs_of(graph, node, self._batch, self._type):
            if kind.tensor_type.elem_type:
                self._types[id(tensor)] = kind

    def _type(self, graph: Graph, tensor: Tensor) -> onnx.TypeProto | None:
        if id(tensor) in self._types:
            return self._types[id(tensor)]
        dtype = self._known.dtype(graph, tensor)
        if dtype is None:
            return None
        shape = graph.shape(tensor) if graph.is_constant(tensor) else self._known.types.shape(tensor)
        return onnx.helper.make_tensor_type_proto(onnx_dtype(dtype), shape)

    # -- small values

    def _value(self, graph: Graph, tensor: Tensor) -> Vector | None:
        if id(tensor) in self._values:
            return self._values[id(tensor)]
        if not graph.is_constant(tensor) or graph.nbytes(tensor) > _SMALL:
            return None
        values = graph.value(tensor)
        return None if values is None else list(values.reshape(-1).tolist())

    def _shape(self, graph: Graph, node: Node) -> Vector | None:
        kind = self._type(graph, node.inputs[0])
        if kind is None or not kind.tensor_type.HasField("shape") or node.attrs:
            return None
        dims = kind.tensor_type.shape.dim
        return [d.dim_value if d.HasField("dim_value") else None for d in dims]

    def _size(self, graph: Graph, node: Node) -> Vector | None:
        dims = self._shape(graph, node)
        return None if dims is None or None in dims else [int(np.prod(dims, dtype=object))]

    def _gather(self, graph: Graph, node: Node) -> Vector | None:
        data, index = self._value(graph, node.inputs[0]), self._value(graph, node.inputs[1])
        kind = self._type(graph, node.inputs[0])
        flat = kind is not None and len(kind.tensor_type.shape.dim) == 1
        if data is None or index is None or not flat or attribute(graph, node, "axis") not in (0, -1):
            return None
        if any(i is None or not -len(data) <= i < len(data) for i in index):
            return None
        return [data[i] for i in index]

    def _equal(self, graph: Graph, node: Node) -> Vector | None:
        a, b = (self._value(graph, t) for t in node.inputs)
        if a is None or b is None or len(a) != len(b):
            return None
        return [None if x is None or y is None else x == y for x, y in zip(a, b, strict=True)]

    def _not(self, graph: Graph, node: Node) -> Vector | None:
        found = self._value(graph, node.inputs[0])
        return None if found is None else [None if v is None else not v for v in found]

    def _cast(self, graph: Graph, node: Node) -> Vector | None:
        """To integers and truth values, which keep what they are where they fit."""
        found, to = self._value(graph, node.inputs[0]), node.attrs.get("to")
        if found is None or to not in (6, 7, 9):
            return None
        return [None if v is None else bool(v) if to == 9 else int(v) for v in found]

    def _same(self, graph: Graph, node: Node) -> Vector | None:
        return self._value(graph, node.inputs[0])


_RULES: dict[str, Any] = {
    "Shape": Trial._shape,
    "Size": Trial._size,
    "Gather": Trial._gather,
    "Equal": Trial._equal,
    "Not": Trial._not,
    "Cast": Trial._cast,
    "Identity": Trial._same,
    "Unsqueeze": Trial._same,
    "Squeeze": Trial._same,
}
