"""Gives every node of a model a name of its own, so that TensorRT's Metadata tells exactly which it means.

TensorRT's ONNX parser writes the node's name into each layer's Metadata. Two nodes of one name cannot be
told apart there, and a node without a name appears as ``node_of_<first output>``. So the parser is handed a
model in which every node, in every scope, has one name that no other has; nothing else of it changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

import onnx

from graphkit.model import records as r
from graphkit.model import wire

__all__ = ["label", "named", "named_parts"]

Step: TypeAlias = tuple[str, str, str, str]
"""A subgraph around a node: its graph's name, attribute name, owning node's name, owning node's op."""

_PREFIX = "node_of_"
# What Metadata and the log use as separators: a name that holds one could not be found again.
_RESERVED = ("[ONNX Layer: ", " | ", ", LayerType: ", ", Metadata:")


def label(node: str, scopes: Iterable[Step | str] = ()) -> str:
    """TensorRT's Metadata spelling of a node, from its own scope outwards.

    ``scopes`` are what is around it, innermost first. A subgraph, ``("t", "then_branch", "ifn", "If")``,
    gives ``inn | t (then_branch) | ifn (If)``; a call, spelled ``"call (fn)"``, gives ``innr | call (fn)``.
    """
    parts = [node]
    for scope in scopes:
        if isinstance(scope, str):
            parts.append(scope)
        else:
            graph, attribute, owner, op = scope
            parts += [f"{graph} ({attribute})", f"{owner} ({op})"]
    return " | ".join(parts)


def named(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, str]]:
    """A copy of ``model`` in which no two nodes share a name, and what became of each that was changed.

    A name that is unique is kept; the first of several keeps its own, the others get ``_1``, ``_2``, …; a
    node without a name gets the one that TensorRT's parser gives it. The dict maps each new name to a
    description of the node's old name. A model that needs nothing comes back itself, not a copy.
    """
    plan = _Plan(_all_nodes(model))
    if not plan.changes:
        return model, {}
    edited = onnx.ModelProto()
    edited.CopyFrom(model)
    for node in _all_nodes(edited):
        plan.apply(node)
    return edited, plan.told


def named_parts(data: wire.Buffer) -> tuple[wire.Parts | None, dict[str, str]]:
    """What ``named`` does, on the wire bytes of a model: weights are neither parsed nor copied.

    Returns the new bytes in pieces, which joined are the model, or None when nothing needs a name. ``data``
    is that of a valid model (`graphkit.Model` has read it); WireError or DecodeError otherwise.
    """
    fields = wire.scan(data)
    graph = wire.merged(data, fields, r.MODEL_GRAPH)
    if graph is None:
        return None, {}
    inner = wire.scan(graph)
    nodes = [onnx.NodeProto.FromString(bytes(p)) for p in wire.payloads(graph, inner, r.GRAPH_NODE)]
    functions = [
        onnx.FunctionProto.FromString(bytes(p)) for p in wire.payloads(data, fields, r.MODEL_FUNCTIONS)
    ]
    plan = _Plan([*_below(nodes), *(n for f in functions for n in _below(f.node))])
    if not plan.changes:
        return None, {}
    items: list[wire.Item] = [
        wire.bytes_field(r.GRAPH_NODE, n.SerializeToString()) if plan.edit(n) else i
        for i, n in enumerate(nodes)
    ]
    edits: dict[int, Sequence[wire.Item]] = {
        r.MODEL_GRAPH: [wire.bytes_field(r.MODEL_GRAPH, wire.splice(graph, inner, {r.GRAPH_NODE: items}))]
    }
    if functions:
        edits[r.MODEL_FUNCTIONS] = [
            wire.bytes_field(r.MODEL_FUNCTIONS, f.SerializeToString())
            if sum(plan.edit(n) for n in f.node)
            else i
            for i, f in enumerate(functions)
        ]
    return wire.splice(data, fields, edits), plan.told


class _Plan:
    """Which nodes, counted in the order of the walk, get which name."""

    def __init__(self, nodes: Iterable[onnx.NodeProto]) -> None:
        seen = [(node.name, _given(node)) for node in nodes]
        self._names: list[str] = []
        self.told: dict[str, str] = {}
        self.changes = 0
        self._next = 0
        # Names that the model has are given first: a made one must not take a name that somebody has.
        taken = {name for name, wanted in seen if name and name == wanted}
        used: set[str] = set()
        counts: dict[str, int] = {}
        for old, wanted in seen:
            name = wanted
            while name in used or (name != old and name in taken):
                counts[wanted] = counts.get(wanted, 0) + 1
                name = f"{wanted}_{counts[wanted]}"
            used.add(name)
            self._names.append(name)
            if name != old:
                self.changes += 1
                self.told[name] = f"one of several named '{old}'" if old == wanted else _was(old)

    def apply(self, node: onnx.NodeProto) -> bool:
        """Name the next node of the walk, which is ``node``; whether that changed it."""
        name = self._names[self._next]
        self._next += 1
        changed = node.name != name
        if changed:
            node.name = name
        return changed

    def edit(self, node: onnx.NodeProto) -> bool:
        """Name a node and all that are below it; whether any changed."""
        return sum(self.apply(n) for n in _below([node])) > 0  # all of them, so not any()


def _text(name: str | bytes) -> str:
    """A name that is no UTF-8 comes as bytes."""
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name


def _was(old: str) -> str:
    return f"'{old}', which Metadata could not hold" if old else "had no name"


def _given(node: onnx.NodeProto) -> str:
    """The name that a node would have if it were alone."""
    name = _text(node.name) or _PREFIX + _text(next((o for o in node.output if o), node.op_type))
    for text in _RESERVED:
        name = name.replace(text, "_")
    return "".join(c if c.isprintable() else "_" for c in name)


def _all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    yield from _below(model.graph.node)
    for function in model.functions:
        yield from _below(function.node)


def _below(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes, each followed by those of its subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs) if attribute.type in _GRAPHS else ():
                yield from _below(graph.node)


_GRAPHS: Mapping[int, None] = dict.fromkeys((onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS))
