"""Numbers that an operator takes as an attribute in old opsets, and as an input in new ones."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from graphkit import Graph
from graphkit.model.graph import Node, Tensor
from graphkit.model.operators import ABSENT, attribute
from graphkit.model.surgeon import Stored, numpy_dtype
from graphkit_passes._placing import held

_MOST = 512  # bytes of a constant that is read; lists of axes are short
_LITTLE = sys.byteorder == "little"

AXES = {
    "Squeeze": 13,
    "Unsqueeze": 13,
    "ReduceSum": 13,
    "ReduceSumSquare": 18,
    **dict.fromkeys(
        [f"Reduce{kind}" for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod")], 18
    ),
}
"""The opset from which an operator's axes are its second input."""


def present(node: Node, place: int) -> Tensor | None:
    """Input number ``place``, or None when it is left out."""
    if len(node.inputs) <= place or not node.inputs[place].name:
        return None
    return node.inputs[place]


def small(graph: Graph, tensor: Tensor | None, most: int = _MOST) -> np.ndarray[Any, Any] | None:
    """The values of a constant of up to ``most`` bytes, to be read only; None for all else."""
    if tensor is None or not graph.is_constant(tensor) or graph.nbytes(tensor) > most:
        return None
    found = _raw(held(tensor))
    return graph.value(tensor) if found is None else found


def _raw(values: Any) -> np.ndarray[Any, Any] | None:
    """The values of a small message, which the reader has parsed whole; None where that is not enough."""
    if not isinstance(values, Stored) or not _LITTLE:
        return None
    raw, dtype = values.header.raw_data, numpy_dtype(values.dtype)
    if not raw or dtype is None or dtype.kind not in "iufb" or len(raw) != values.nbytes:
        return None
    return np.frombuffer(raw, dtype).reshape(values.shape)


def ints(graph: Graph, tensor: Tensor | None) -> list[int] | None:
    """The values of a small integer constant as a list; None for all else."""
    found = small(graph, tensor)
    if found is None or found.dtype.kind != "i" or found.ndim > 1:
        return None
    return [int(v) for v in found.reshape(-1)]


def listed(graph: Graph, node: Node, name: str, place: int, since: int, opset: int) -> list[int] | None:
    """A list that is the attribute ``name`` before opset ``since``, and input ``place`` from then on.

    [] when it is left out; None when it is not known.
    """
    if opset < since:
        found = attribute(graph, node, name)
        return None if found is ABSENT else list(found or [])
    tensor = present(node, place)
    return [] if tensor is None else ints(graph, tensor)


def axes_of(graph: Graph, node: Node, opset: int) -> list[int] | None:
    """The axes of a Squeeze, Unsqueeze or reduction as written; [] when left out, None when not known."""
    return listed(graph, node, "axes", 1, AXES[node.op], opset)


def normal(axes: list[int], rank: int) -> list[int] | None:
    """Axes counted from the front, in order; None when they are not axes of ``rank`` dims."""
    found = sorted(a + rank if a < 0 else a for a in axes)
    if len(set(found)) < len(found) or any(not 0 <= a < rank for a in found):
        return None
    return found
