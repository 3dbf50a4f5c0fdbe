"""Operators that move elements, or choose among them: what they give is what they were given.

Whatever is done to every element alike, such as another dtype, can be done before such a node or after it.
"""

from __future__ import annotations

from graphkit import Graph
from graphkit.model.graph import Node
from graphkit.model.operators import attribute, domain_of

Places = tuple[list[int], list[int]]
"""The inputs whose elements a node moves, and the outputs that hold them."""

_FIRST = frozenset(
    ["Compress", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity"]
    + ["Reshape", "ReverseSequence", "Slice", "SpaceToDepth", "Squeeze", "Tile", "Transpose", "Unsqueeze"]
)
"""What they move is their first input, and their one output holds it."""
_CHOOSING = frozenset(["MaxPool", "ReduceMax", "ReduceMin"])
"""These too, and choose by order: that is the same when the order of the elements is."""


def moved(graph: Graph, node: Node) -> Places | None:
    """What a node moves, by elements' places alone; None for one that computes, or fills in numbers.

    A fill that is given counts as moved; Pad without one fills in zeros, and has but its first input here.
    """
    if domain_of(node):
        return None
    if node.op in _FIRST:
        return [0], [0]
    if node.op == "Concat":
        return _named(node, range(len(node.inputs))), [0]
    if node.op == "Split":
        return [0], list(range(len(node.outputs)))
    if node.op == "Where":
        return [1, 2], [0]
    if node.op == "Pad":
        return _named(node, (0, 2)), [0]
    if node.op == "Resize" and attribute(graph, node, "mode") in ("nearest", b"nearest"):
        crops = attribute(graph, node, "coordinate_transformation_mode") in _CROPS
        return None if crops else ([0], [0])
    return None


_CROPS = ("tf_crop_and_resize", b"tf_crop_and_resize")  # which fills with an attribute's number


def chosen(node: Node) -> Places | None:
    """What a node chooses by order, among elements and bounds; None for any other node."""
    if domain_of(node):
        return None
    if node.op in _CHOOSING:
        return [0], [0]
    if node.op in ("Max", "Min"):
        return _named(node, range(len(node.inputs))), [0]
    if node.op == "Clip":
        return _named(node, range(len(node.inputs))), [0]
    return None


def fills_zeros(graph: Graph, node: Node) -> bool:
    """Whether a Pad fills in zeros because no number is given."""
    given = len(node.inputs) > 2 and bool(node.inputs[2].name)
    return node.op == "Pad" and not given and attribute(graph, node, "mode") in ("constant", b"constant")


def _named(node: Node, places: range | tuple[int, ...]) -> list[int]:
    return [p for p in places if p < len(node.inputs) and node.inputs[p].name]
