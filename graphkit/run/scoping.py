"""Scopes of a model while it is flattened, and copies of nodes under other names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from onnx import AttributeProto, GraphProto, NodeProto

from graphkit.run import outline


@dataclass(frozen=True)
class Scope:
    """Where nodes come from: the steps outwards, innermost first, and the flat names of their tensors.

    ``looped`` is whether its nodes run more than once. ``targets`` are the flat names that some results have
    to get; ``attributes`` are those of the call, in a function's body.
    """

    steps: tuple[Any, ...] = ()
    looped: bool = False
    names: dict[str, str] | None = None
    targets: Mapping[str, str] | None = None
    attributes: Mapping[str, AttributeProto] | None = None

    @property
    def is_main(self) -> bool:
        """Whether this is the graph itself, where every name stays."""
        return not self.steps

    def flat(self, name: str) -> str:
        """The flat name of one of the scope's tensors."""
        return (self.names or {}).get(name, name)

    def inner(self, step: Any, **changes: Any) -> Scope:
        """A scope inside this one."""
        return replace(self, steps=(step, *self.steps), **changes)


def name_of(node: NodeProto) -> str:
    """The node's name, or the one that TensorRT's parser gives it."""
    return node.name or "node_of_" + next((o for o in node.output if o), node.op_type)


def renamed(node: NodeProto, names: Mapping[str, str]) -> NodeProto:
    """A copy that reads tensors under other names, in its subgraphs too."""
    copy = NodeProto()
    copy.CopyFrom(node)
    _rename(copy, names)
    return copy


def _rename(node: NodeProto, names: Mapping[str, str]) -> None:
    for index, name in enumerate(node.input):
        node.input[index] = names.get(name, name)
    for graph in outline.subgraphs(node):
        _rename_graph(graph, names)


def _rename_graph(graph: GraphProto, names: Mapping[str, str]) -> None:
    own = {i.name for i in graph.input} | {t.name for t in graph.initializer}
    own |= {name for node in graph.node for name in node.output}
    outer = {name: flat for name, flat in names.items() if name not in own}
    for node in graph.node:
        _rename(node, outer)
    for output in graph.output:
        output.name = outer.get(output.name, output.name)


def bound(node: NodeProto, given: Mapping[str, AttributeProto] | None) -> NodeProto:
    """The node of a function's body with the attributes of the call; itself where nothing refers to them."""
    if given is None:
        return node
    copy = NodeProto()
    copy.CopyFrom(node)
    _bind(copy, given)
    return copy


def _bind(node: NodeProto, given: Mapping[str, AttributeProto]) -> None:
    kept = []
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            kept.append(attribute)
        elif attribute.ref_attr_name in given:
            value = AttributeProto()
            value.CopyFrom(given[attribute.ref_attr_name])
            value.name = attribute.name
            kept.append(value)
    copies = [AttributeProto.FromString(a.SerializeToString()) for a in kept]
    del node.attribute[:]
    node.attribute.extend(copies)
    for graph in outline.subgraphs(node):
        for inner in graph.node:
            _bind(inner, given)
