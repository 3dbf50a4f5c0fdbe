"""What Slice makes of its bounds: those beyond int32, written as numbers that mean the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from graphkit import Graph
from graphkit.model.graph import Node
from graphkit.model.operators import attribute
from graphkit_passes._shared import Known, root_of

Array = npt.NDArray[Any]

LEAST, MOST = -(2**31), 2**31 - 1
STARTS, ENDS, STEPS = 1, 2, 4
"""The inputs of Slice that bound it; before opset 10, the first two are attributes."""
_ATTRIBUTES = {"starts": STARTS, "ends": ENDS}


def beyond(values: Array | Sequence[int]) -> bool:
    """Whether a number is none of int32."""
    return any(not LEAST <= v <= MOST for v in np.asarray(values).reshape(-1).tolist())


def plain(values: Array) -> Array:
    """Numbers within int32: its limit for any beyond."""
    return np.asarray(values.clip(LEAST, MOST))


class Bounds:
    """Clamps bounds by the dims that inference knows of what is sliced."""

    def __init__(self, known: Known) -> None:
        self._known = known

    def clamped(self, graph: Graph, node: Node, place: int, values: Array) -> Array:
        """Bounds that mean the same to this Slice: the dim and the like, else the limit of int32.

        A dim that is not known is taken for one that int32 can hold, as every dim of TensorRT is.
        """
        dims = self._dims(graph, node, values.size)
        pairs = zip(values.reshape(-1).tolist(), dims, strict=True)
        found = [_step(v, d) if place == STEPS else _edge(v, d) for v, d in pairs]
        return np.array(found, values.dtype).reshape(values.shape)

    def clamp_attributes(self, graph: Graph, node: Node) -> bool:
        """The same for a Slice before opset 10; whether something changed."""
        changed = False
        for name, place in _ATTRIBUTES.items():
            values = node.attrs.get(name)
            if isinstance(values, list) and beyond(values):
                whole = np.array(values, np.int64)
                node.attrs[name] = self.clamped(graph, node, place, whole).tolist()
                changed = True
        return changed

    @staticmethod
    def is_agreed(graph: Graph, node: Node, place: int, values: Array | None) -> bool:
        """Whether all runtimes take bounds beyond int32 in one way; ``values`` None: whatever they are.

        ONNX Runtime takes the limits of int32 and int64 as an end for "all the way" backwards too, where
        the standard has them clamped to the last element, which gives nothing.
        """
        if place != ENDS or graph.opset < 10 or len(node.inputs) <= STEPS or not node.inputs[STEPS].name:
            return True
        steps = graph.value(node.inputs[STEPS])
        if steps is None:
            return values is not None and not (values > MOST).any()
        backwards = steps.reshape(-1) < 0
        if values is None or values.size != steps.size:
            return not backwards.any()
        return not bool((backwards & (values.reshape(-1) > MOST)).any())

    def _dims(self, graph: Graph, node: Node, count: int) -> list[int | None]:
        """The dim that each of ``count`` bounds is for; None for one that is not known."""
        axes = _axes(graph, node, count)
        data = node.inputs[0]
        if graph.is_constant(data):
            shape = graph.shape(data)
        else:
            shape = None if root_of(graph).is_function else self._known.types.shape(data)
        if axes is None or shape is None or any(not -len(shape) <= a < len(shape) for a in axes):
            return [None] * count
        dims = [shape[a] for a in axes]
        return [d if isinstance(d, int) and d <= MOST else None for d in dims]


def _axes(graph: Graph, node: Node, count: int) -> list[int] | None:
    """The axis of each bound; None when that is not known."""
    if graph.opset < 10:
        axes = attribute(graph, node, "axes")
    elif len(node.inputs) > 3 and node.inputs[3].name:
        found = graph.value(node.inputs[3])
        axes = [] if found is None else found.reshape(-1).tolist()
    else:
        axes = None
    axes = list(range(count)) if axes is None else axes
    return axes if isinstance(axes, list) and len(axes) == count else None


def _edge(value: int, dim: int | None) -> int:
    """A start or an end: above all elements, or below the first, whatever the step."""
    if value > MOST:
        return MOST if dim is None else dim
    if value < LEAST:
        return LEAST if dim is None else -dim - 1
    return value


def _step(value: int, dim: int | None) -> int:
    """A step past all other elements."""
    limit = MOST if dim is None else max(dim, 1)
    return limit if value > MOST else -limit if value < -MOST else value
