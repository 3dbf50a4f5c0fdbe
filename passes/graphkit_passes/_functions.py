"""Local functions: which one a node calls, who calls whom, and which are left without a caller."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx

from graphkit.model import records, wire
from graphkit.model.graph import Graph, Node
from graphkit.model.model import Model
from graphkit.model.operators import domain_of

Key = tuple[str, str]


class Functions:
    """The local functions of a model, as they are when this is made."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._by_key: dict[Key, list[Graph]] = {}
        for function in model.functions:
            self._by_key.setdefault((_domain(function.gs.domain), function.gs.name), []).append(function)

    def called_by(self, node: Node) -> Graph | None:
        """The function that ``node`` calls; None when it is an operator."""
        found = self._by_key.get((domain_of(node), node.op))
        if not found:
            return None
        wanted = self._overload(node)
        return next((f for f in found if self._overload_of(f) == wanted), None)

    def _overload(self, node: Node) -> str:
        record = self._model.records.nodes.get(id(node))
        if record is None or (record.op, record.domain) != (node.op, node.domain or ""):
            return ""  # a node that a pass made, or gave another type, has none
        return onnx.NodeProto.FromString(bytes(record.view)).overload

    def _overload_of(self, function: Graph) -> str:
        record = self._model.records.scopes.get(id(function.gs))
        return "" if record is None else record.overload

    def called(self) -> set[int]:
        """The ids (of ``gs``) of the functions that some node of the model calls now."""
        calls = (self.called_by(n) for scope in self._model.scopes() for n in scope.nodes)
        return {id(f.gs) for f in calls if f is not None} | self._hidden()

    def _hidden(self) -> set[int]:
        """Functions called where no pass can see: in GRAPHS attributes, or perhaps by a training graph."""
        if wire.payloads(self._model.file.data, wire.scan(self._model.file.data), records.MODEL_TRAINING):
            return {id(f.gs) for f in self._model.functions}
        hidden: set[Key] = set()
        for scope in self._model.scopes():
            for value in (v for n in scope.nodes for v in n.attrs.values() if isinstance(v, list)):
                hidden.update(_operators(v for v in value if isinstance(v, onnx.GraphProto)))
        return {id(f.gs) for key in hidden for f in self._by_key.get(key, [])}

    def callers_first(self) -> list[Graph]:
        """The functions, each after those that call it."""
        order: list[Graph] = []
        done: set[int] = set()
        for root in self._model.functions:
            stack: list[tuple[Graph, Iterator[Graph]]] = []
            if id(root.gs) not in done:
                done.add(id(root.gs))
                stack.append((root, iter(self._callees(root))))
            while stack:
                function, rest = stack[-1]
                below = next((c for c in rest if id(c.gs) not in done), None)
                if below is None:
                    order.append(function)
                    stack.pop()
                else:
                    done.add(id(below.gs))
                    stack.append((below, iter(self._callees(below))))
        return order[::-1]

    def _callees(self, function: Graph) -> list[Graph]:
        calls = (self.called_by(n) for scope in function.scopes() for n in scope.nodes)
        return [f for f in calls if f is not None]

    def prune(self, once_called: set[int]) -> None:
        """Remove the functions that were called (see :meth:`called`) and are not any more."""
        while True:
            called = self.called()
            gone = [f for f in self._model.functions if id(f.gs) in once_called and id(f.gs) not in called]
            if not gone:
                return
            self._model.remove_functions(gone)


def _operators(graphs: Iterable[onnx.GraphProto]) -> Iterator[Key]:
    """Domain and type of every node in these graphs, and below."""
    waiting = list(graphs)
    while waiting:
        for node in waiting.pop().node:
            yield _domain(node.domain), node.op_type
            for attribute in node.attribute:
                waiting.extend(attribute.graphs)
                if attribute.HasField("g"):
                    waiting.append(attribute.g)


def _domain(name: str | None) -> str:
    return "" if name in (None, "", "ai.onnx") else str(name)
