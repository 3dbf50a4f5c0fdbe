"""The same for operators that move elements: when shape and order stay, so does the tensor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphkit import Graph
from graphkit.model.graph import Node, Shape, Tensor
from graphkit.model.operators import ABSENT, attribute, domain_of
from graphkit_passes._given import ints, listed, present, small
from graphkit_passes._idle import Idle, Rule

NOWHERE = 2**31 - 1
"""A Slice that ends here or beyond ends nowhere, whatever the axis."""


def _same_shape(idle: Idle, graph: Graph, node: Node) -> Tensor | None:
    return node.inputs[0] if idle.keeps_shape(graph, node, node.inputs[0]) else None


def _own_shape(graph: Graph, node: Node) -> bool:
    """Whether the second input is the Shape of the first."""
    shape = graph.producer(node.inputs[1])
    if shape is None or shape.op != "Shape" or domain_of(shape) or shape.inputs[0] is not node.inputs[0]:
        return False
    return "end" not in shape.attrs and attribute(graph, shape, "start") in (None, 0)


def _reshape(idle: Idle, graph: Graph, node: Node) -> Tensor | None:
    """One size may be left open: what is over when all others stay is what was there."""
    x = node.inputs[0]
    shape, wanted = idle.shape(graph, x), ints(graph, node.inputs[1])
    if idle.keeps_shape(graph, node, x) or (_own_shape(graph, node) and _copies(graph, node) is not None):
        return x
    if shape is None or wanted is None or len(shape) != len(wanted):
        return None
    copies = _copies(graph, node)
    kept = [w == s or (w == 0 and copies) for w, s in zip(wanted, shape, strict=True)]
    return x if all(kept) or (kept.count(False) == 1 and wanted[kept.index(False)] == -1) else None


def _copies(graph: Graph, node: Node) -> bool | None:
    """Whether 0 stands for the size that was there; None when a caller decides."""
    allow = attribute(graph, node, "allowzero")
    return None if allow is ABSENT else not allow


def _flatten(idle: Idle, graph: Graph, node: Node) -> Tensor | None:
    shape = idle.shape(graph, node.inputs[0])
    return node.inputs[0] if shape is not None and len(shape) == 2 and _axis(graph, node) in (1, -1) else None


def _axis(graph: Graph, node: Node) -> object:
    return attribute(graph, node, "axis")


def _squeeze(idle: Idle, graph: Graph, node: Node) -> Tensor | None:
    """With the same number of dims none went, or came."""
    before, after = (idle.shape(graph, t) for t in (node.inputs[0], node.outputs[0]))
    same = before is not None and after is not None and len(before) == len(after)
    return node.inputs[0] if same else None


def _expand(idle: Idle, graph: Graph, node: Node) -> Tensor | None:
    x = node.inputs[0]
    if idle.keeps_shape(graph, node, x) or _own_shape(graph, node):
        return x
    shape, wanted = idle.shape(graph, x), ints(graph, node.inputs[1])
    if shape is None or wanted is None or len(wanted) > len(shape):
        return None
    pairs = zip(wanted, shape[len(shape) - len(wanted) :], strict=True)
    return x if all(w in (1, s) for w, s in pairs) else None


def _tile(idle: Idle, graph: Graph, node: Node) -> Tensor | None:
    repeats = ints(graph, node.inputs[1]) if len(node.inputs) == 2 else None
    return node.inputs[0] if repeats is not None and set(repeats) <= {1} else None


def _transpose(idle: Idle, graph: Graph, node: Node) -> Tensor | None:
    """Axes of size 1 may change places with each other."""
    x, perm = node.inputs[0], attribute(graph, node, "perm")
    shape = idle.shape(graph, x)
    if perm is None and shape is not None:
        perm = list(range(len(shape)))[::-1]
    if not isinstance(perm, list):
        return None
    if perm == sorted(perm):
        return x
    return x if shape is not None and only_moves_ones(shape, perm) and _stays(shape, perm) else None


def only_moves_ones(shape: Shape, perm: Sequence[int]) -> bool:
    """Whether a Transpose leaves the order of all elements, for only axes of size 1 change places."""
    if len(shape) != len(perm):
        return False
    rest = [p for p in perm if shape[p] != 1]
    return rest == sorted(rest)


def _stays(shape: Shape, perm: Sequence[int]) -> bool:
    return all(p == i or shape[p] == shape[i] == 1 for i, p in enumerate(perm))


def _pad(idle: Idle, graph: Graph, node: Node) -> Tensor | None:
    pads = listed(graph, node, "pads", 1, 11, idle.opset(graph))
    return node.inputs[0] if pads and not any(pads) else None


def _slice(idle: Idle, graph: Graph, node: Node) -> Tensor | None:
    x, opset = node.inputs[0], idle.opset(graph)
    starts, ends, axes, steps = (
        listed(graph, node, name, place, 10, opset)
        for place, name in enumerate(("starts", "ends", "axes", "steps"), 1)
    )
    if steps is None or any(s != 1 for s in steps):
        return None
    if idle.keeps_shape(graph, node, x):
        return x
    if not starts or not ends or len(starts) != len(ends) or axes is None:
        return None
    shape = idle.shape(graph, x)
    axes = axes or list(range(len(starts)))
    whole = (_is_whole(s, e, _size(shape, a)) for s, e, a in zip(starts, ends, axes, strict=False))
    return x if len(axes) == len(starts) and all(whole) else None


def _size(shape: Shape | None, axis: int) -> int | None:
    if shape is None or not -len(shape) <= axis < len(shape):
        return None
    size = shape[axis]
    return size if isinstance(size, int) else None


def _is_whole(start: int, end: int, size: int | None) -> bool:
    from_first = start == 0 or start <= -NOWHERE or (size is not None and start <= -size)
    return from_first and (end >= NOWHERE or (size is not None and end >= size))


def _resize(idle: Idle, graph: Graph, node: Node) -> Tensor | None:
    """All ways to sample agree where each place is one of the input's; a crop is something else."""
    if attribute(graph, node, "coordinate_transformation_mode") == "tf_crop_and_resize":
        return None
    x = node.inputs[0]
    if node.op == "Upsample" and idle.opset(graph) < 9:
        scales = attribute(graph, node, "scales")
        return x if isinstance(scales, list) and set(scales) == {1.0} else None
    given = present(node, 2 if node.op == "Resize" and idle.opset(graph) >= 11 else 1)
    if given is not None and graph.shape(given) != (0,):
        values = small(graph, given)
        return x if values is not None and values.size and bool(np.all(values == 1)) else None
    return x if present(node, 3) is not None and idle.keeps_shape(graph, node, x) else None


def _blocks(idle: Idle, graph: Graph, node: Node) -> Tensor | None:
    return node.inputs[0] if attribute(graph, node, "blocksize") == 1 else None


def _split(idle: Idle, graph: Graph, node: Node) -> Tensor | None:
    return node.inputs[0] if len(node.outputs) == 1 else None


SHAPE_RULES: dict[str, Rule] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    **dict.fromkeys(("Squeeze", "Unsqueeze"), _squeeze),
    "Expand": _expand,
    "Tile": _tile,
    "Transpose": _transpose,
    "Pad": _pad,
    "Slice": _slice,
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), _same_shape),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), _blocks),
    "Split": _split,
}
