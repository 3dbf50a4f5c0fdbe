"""Local functions: which one a node calls, who calls whom, and which are left without a caller."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx

from graphkit.model import records, wire
from graphkit.model.graph import Graph, Node
from graphkit.model.model import Model
from graphkit.model.operators import domain_of
from graphkit.model.surgeon import AttributeRef
from graphkit_passes._shared import root_of

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

    def giving(self, function: Graph, name: str) -> set[bool]:
        """Whether the calls of ``function`` give its attribute ``name`` a value: {True}, {False} or both.

        A default is a value. A call that hands on an attribute of the function around it does as the calls of
        that one do. Empty when nobody calls it.
        """
        found: set[bool] = set()
        waiting, seen = [(function, name)], set[tuple[int, str]]()
        calls: list[tuple[Graph, Node, Graph]] | None = None
        hidden = self._hidden()
        while waiting:
            here, wanted = waiting.pop()
            if (id(here.gs), wanted) in seen:
                continue
            seen.add((id(here.gs), wanted))
            if here.gs.attrs.get(wanted) is not None:
                found.add(True)
                continue
            if id(here.gs) in hidden:
                return {True, False}  # calls that nobody sees may do either
            calls = self._calls() if calls is None else calls
            for scope, node, callee in calls:
                if callee.gs is not here.gs:
                    continue
                value = node.attrs.get(wanted)
                if isinstance(value, AttributeRef):
                    waiting.append((root_of(scope), value.name))
                else:
                    found.add(value is not None)
        return found

    def _calls(self) -> list[tuple[Graph, Node, Graph]]:
        pairs = ((s, n, self.called_by(n)) for s in self._model.scopes() for n in s.nodes)
        return [(s, n, f) for s, n, f in pairs if f is not None]

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


def without_overloads(functions: Iterable[onnx.FunctionProto]) -> list[onnx.FunctionProto]:
    """Copies with the overload in the name: onnx's reference evaluator does not tell overloads apart."""
    copies = [onnx.FunctionProto.FromString(f.SerializeToString()) for f in functions]
    known = {(_domain(f.domain), f.name, f.overload) for f in copies if f.overload}
    for function in copies if known else []:
        for node in _nodes(function.node):
            if (_domain(node.domain), node.op_type, node.overload) in known:
                rename_overload(node)
        function.name = _overloaded(function.name, function.overload)
        function.overload = ""
    return copies


def rename_overload(node: onnx.NodeProto) -> None:
    """Let a call refer to what :func:`without_overloads` makes."""
    node.op_type = _overloaded(node.op_type, node.overload)
    node.overload = ""


def _overloaded(name: str, overload: str) -> str:
    return f"{name}__overload_{overload}" if overload else name


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """These nodes and all below."""
    waiting = [nodes]
    while waiting:
        for node in waiting.pop():
            yield node
            for attribute in node.attribute:
                waiting += [g.node for g in (attribute.g, *attribute.graphs)]


def _operators(graphs: Iterable[onnx.GraphProto]) -> Iterator[Key]:
    """Domain and type of every node in these graphs, and below."""
    for graph in graphs:
        yield from ((_domain(n.domain), n.op_type) for n in _nodes(graph.node))


def _domain(name: str | None) -> str:
    return "" if name in (None, "", "ai.onnx") else str(name)
