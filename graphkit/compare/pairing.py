"""Which tensors of two models stand for the same value: by name, and by what a pass recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto

from graphkit.model.text import ORIGIN_KEY
from graphkit.run import outline

RANDOM = {
    *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
    *("Multinomial", "Bernoulli", "Dropout"),
}
MAX_CHUNK = 128  # tensors exposed at once


def pairs(before: ModelProto, after: ModelProto) -> list[tuple[str, str]]:
    """(name before, name after) of main-graph tensors in both models, in the rewritten model's node order."""
    old = {name for node in before.graph.node for name in node.output if name}
    same = renamed(after)
    found = []
    for node in after.graph.node:
        for name in node.output:
            original = same.get(name, name)
            if name and original in old:
                found.append((original, name))
    return found


def renamed(after: ModelProto) -> dict[str, str]:
    """New name -> original name, from the origin records that passes left on nodes and tensors."""
    same: dict[str, str] = {}
    for entry in _records(after):
        try:
            record = json.loads(entry)
            same.update({str(k): str(v) for k, v in dict(record.get("same") or {}).items()})
        except (ValueError, TypeError, AttributeError):  # someone else's text under our key
            continue
    return same


def _records(model: ModelProto) -> Iterator[str]:
    graph = model.graph
    for field in ("node", "initializer", "value_info", "output", "input"):
        for holder in getattr(graph, field):
            yield from (entry.value for entry in holder.metadata_props if entry.key == ORIGIN_KEY)


def random_nodes(model: ModelProto) -> list[NodeProto]:
    """Nodes whose result may be drawn anew on each run."""
    known = outline.constants(model)
    found = [n for n in outline.nodes(model) if n.op_type in RANDOM]
    return [n for n in found if n.op_type != "Dropout" or _trains(n, known)]


def _trains(node: NodeProto, known: Mapping[str, NDArray[Any]]) -> bool:
    if len(node.input) < 3 or not node.input[2]:
        return False
    mode = known.get(node.input[2])
    return mode is None or bool(mode.any())


def depending(model: ModelProto, sources: set[str]) -> set[str]:
    """Main-graph tensors that depend on any of these, and those themselves."""
    found = set(sources)
    for node in model.graph.node:
        if found.intersection(reads(node)):
            found.update(name for name in node.output if name)
    return found


def downstream(model: ModelProto, sources: Sequence[NodeProto]) -> set[str]:
    """Main-graph tensors that depend on any of these nodes, in whatever scope they sit."""
    marked = {id(n) for n in sources}
    functions = outline.functions(model)

    def holds(node: NodeProto, depth: int = 0) -> bool:
        if id(node) in marked:
            return True
        inner = [n for g in outline.subgraphs(node) for n in g.node]
        body = functions.get((node.domain, node.op_type))
        inner.extend(body.node if body is not None else ())
        return depth < 32 and any(holds(n, depth + 1) for n in inner)

    tainted: set[str] = set()
    for node in model.graph.node:
        if holds(node) or tainted.intersection(reads(node)):
            tainted.update(name for name in node.output if name)
    return tainted


def reads(node: NodeProto) -> Iterator[str]:
    """Names that the node takes, those in its subgraphs included."""
    yield from node.input
    stack = list(outline.subgraphs(node))
    while stack:
        graph = stack.pop()
        for inner in graph.node:
            yield from inner.input
            stack.extend(outline.subgraphs(inner))


MOVES_8BIT = ("Reshape", "Transpose", "Identity", "Flatten", "MaxPool", "Concat", "Slice")


def quantised(model: ModelProto) -> set[str]:
    """8-bit tensors that a rounding of floats makes, and those that only move them."""
    found: set[str] = set()
    for node in model.graph.node:
        rounds = node.op_type in (
            "QuantizeLinear",
            "DynamicQuantizeLinear",
            "Cast",
        ) or node.op_type.startswith("QLinear")
        moves = node.op_type in MOVES_8BIT
        if rounds or (moves and found.intersection(node.input)):
            found.update(node.output)
    return found


_UNIT = {"Sigmoid", "HardSigmoid", "Softmax", "Tanh", "Erf"}
_MOVES = {"Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Flatten", "Concat", "Split"}


def unit_scale(model: ModelProto) -> set[str]:
    """Main-graph tensors that a kernel computes on the scale of 1, and those that only move them."""
    found: set[str] = set()
    for node in model.graph.node:
        if node.op_type in _UNIT or (node.op_type in _MOVES and found.intersection(node.input)):
            found.update(node.output)
    return found


def chunks(
    wanted: Sequence[tuple[str, str]], sizes: Mapping[str, int], budget: int
) -> Iterator[list[tuple[str, str]]]:
    """Split pairs so that each chunk's tensors stay within ``budget`` bytes; an unknown size counts 1 MiB."""
    chunk: list[tuple[str, str]] = []
    used = 0
    for pair in wanted:
        size = sizes.get(pair[0], 1 << 20)
        if chunk and (used + size > budget or len(chunk) >= MAX_CHUNK):
            yield chunk
            chunk, used = [], 0
        chunk.append(pair)
        used += size
    if chunk:
        yield chunk


def is_external(model: ModelProto) -> bool:
    """Whether any weight lies in another file."""
    tensors: Iterator[TensorProto] = (t for g in outline.graphs(model) for t in g.initializer)
    return any(outline.is_external(t) for t in tensors) or any(
        outline.is_external(a.t) for n in outline.nodes(model) for a in n.attribute if a.HasField("t")
    )
