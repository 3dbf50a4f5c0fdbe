"""Copies of nodes and of the graphs in them, for another place and with other attributes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from graphkit import Graph
from graphkit.model.surgeon import AttributeRef, Constant, GsGraph, GsNode, Node, Surgeon, Tensor, Variable


class Copier:
    """Copies nodes into ``home``: ``tensors`` stand for those that they read or write, by identity.

    An attribute that refers to one of the function around the original gets its value from ``attributes``,
    and is left out where that has none. All other tensors get names that are new to the model, made of
    theirs and ``prefix``; what the file says of a node besides (metadata, doc string) comes along.
    """

    def __init__(
        self, home: Graph, tensors: Mapping[int, Tensor], attributes: Mapping[str, Any], prefix: str
    ) -> None:
        self._home = home
        self._model = home.model
        self._tensors = dict(tensors)
        self._attributes = attributes
        self._prefix = prefix
        self._around = home
        while self._around.parent is not None:
            self._around = self._around.parent

    def nodes(self, nodes: Iterable[Node]) -> list[Node]:
        """Copies of all ``nodes`` of one scope, in their order."""
        originals = list(nodes)
        for node in originals:
            for tensor in node.outputs:
                self._define(tensor)
        return [self._node(node) for node in originals]

    def tensor(self, tensor: Tensor) -> Tensor:
        """What stands for a tensor in the copies; one that lies around the original stands for itself."""
        if not tensor.name:
            return Variable.empty()
        if isinstance(tensor, Constant) and id(tensor) not in self._tensors:
            self._tensors[id(tensor)] = self._constant(tensor)
        return self._tensors.get(id(tensor), tensor)

    def _constant(self, tensor: Tensor) -> Tensor:
        return Constant(self._name(tensor.name), tensor._values, tensor.data_location)

    def _define(self, tensor: Tensor, *, typed: bool = False) -> None:
        if not tensor.name or id(tensor) in self._tensors:
            return
        made = Variable(self._name(tensor.name))
        if typed:
            made.dtype, made.shape, made.type = tensor.dtype, tensor.shape, tensor.type
        self._tensors[id(tensor)] = made

    def _name(self, name: str) -> str:
        return self._model.fresh_name(f"{self._prefix}{name}")

    def _node(self, node: Node) -> Node:
        inputs = [self.tensor(t) for t in node.inputs]
        while inputs and not inputs[-1].name and node.inputs[len(inputs) - 1].name:
            inputs.pop()  # the caller left it out
        outputs = [self.tensor(t) for t in node.outputs]
        attributes = {k: v for k, v in ((k, self.value(v)) for k, v in node.attrs.items()) if v is not _GONE}
        name = self._name(node.name) if node.name else ""
        made = GsNode(node.op, name, attributes, inputs, outputs, node.domain)
        record = self._model.records.nodes.get(id(node))
        if record is not None and (record.op, record.domain) == (node.op, node.domain or ""):
            self._model.records.nodes[id(made)] = replace(record, node=made, ordinal=-1)
        return made

    def value(self, value: Any) -> Any:
        """A copy of an attribute's value; what refers to an attribute of the function is resolved."""
        if isinstance(value, AttributeRef):
            given = self._attributes.get(value.name)
            return _GONE if given is None else _Outside(self._home, self._prefix).value(given)
        if isinstance(value, Constant):
            return Constant(value.name, value._values, value.data_location)
        if isinstance(value, GsGraph):
            return self._graph(value)
        return list(value) if isinstance(value, list) else value

    def _graph(self, graph: Surgeon) -> Surgeon:
        record = self._model.records.scopes.get(id(graph))
        for initializer in record.initializers.values() if record is not None else ():
            self._tensors[id(initializer.tensor)] = Copier._constant(self, initializer.tensor)
        for tensor in (*graph.inputs, *(t for n in graph.nodes for t in n.outputs)):
            self._define(tensor, typed=True)
        nodes = self.nodes(graph.nodes)
        inputs, outputs = ([self.tensor(t) for t in ends] for ends in (graph.inputs, graph.outputs))
        around = self._around.gs
        return GsGraph(
            nodes, inputs, outputs, graph.name, graph.doc_string, around.opset, around.import_domains
        )


class _Outside(Copier):
    """Copies what a call gives, which is none of the function's own."""

    def __init__(self, home: Graph, prefix: str) -> None:
        super().__init__(home, {}, {}, prefix)

    def value(self, value: Any) -> Any:
        """A copy of a value that a call gives; references to attributes stay."""
        return (
            AttributeRef(value.name, value.type) if isinstance(value, AttributeRef) else super().value(value)
        )

    def _constant(self, tensor: Tensor) -> Tensor:
        return tensor


_GONE = object()
