"""Operators that are computed with numpy: those whose result leaves no choice, so that every runtime agrees.

Data movement, integers and truth values, and single float32 and float64 operations that IEEE 754 defines to
the last bit. Anything else, and any case that is not plain, is left to ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from graphkit import Graph
from graphkit.model.operators import ABSENT, attribute, domain_of
from graphkit.model.surgeon import Node, numpy_dtype

Array = npt.NDArray[Any]
Rule = Callable[[Graph, Node, Sequence[Array | None]], Array | None]

_PLAIN = frozenset(np.dtype(t) for t in ("int32", "int64", "bool", "float32", "float64"))
_MOST = 8 << 20  # bytes; larger results are worth a session


def exact(graph: Graph, node: Node, inputs: Sequence[Array | None]) -> Array | None:
    """The one result of ``node``; None when it is not for this module."""
    rule = _RULES.get(node.op)
    if rule is None or domain_of(node) or len([t for t in node.outputs if t.name]) != 1:
        return None
    if any(v is not None and (v.dtype not in _PLAIN or v.nbytes > _MOST) for v in inputs):
        return None
    try:
        with np.errstate(all="ignore"):
            found = rule(graph, node, inputs)
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
    return None if found is None or found.nbytes > _MOST else np.ascontiguousarray(found).reshape(found.shape)


def _attribute(graph: Graph, node: Node, name: str) -> Any:
    value = attribute(graph, node, name)
    if value is ABSENT:
        raise ValueError(name)
    return value


def _axes(graph: Graph, node: Node, inputs: Sequence[Array | None], since: int = 13) -> list[int] | None:
    """Axes as an attribute, from opset ``since`` as the second input."""
    if graph.opset < since:
        found = _attribute(graph, node, "axes")
        return None if found is None else list(found)
    given = inputs[1] if len(inputs) > 1 else None
    return None if given is None else [int(a) for a in given.reshape(-1)]


def _unsqueeze(graph: Graph, node: Node, inputs: Sequence[Array | None]) -> Array | None:
    data, axes = inputs[0], _axes(graph, node, inputs)
    if data is None or axes is None:
        return None
    rank = data.ndim + len(axes)
    places = sorted(a % rank for a in axes)
    if len(set(places)) != len(places) or any(not -rank <= a < rank for a in axes):
        return None
    return np.expand_dims(data, tuple(places))


def _squeeze(graph: Graph, node: Node, inputs: Sequence[Array | None]) -> Array | None:
    data, axes = inputs[0], _axes(graph, node, inputs)
    return None if data is None else np.squeeze(data, None if axes is None else tuple(axes))


def _reshape(graph: Graph, node: Node, inputs: Sequence[Array | None]) -> Array | None:
    data, shape = inputs
    if (
        data is None
        or shape is None
        or _attribute(graph, node, "allowzero") not in (None, 0)
        or not data.size
    ):
        return None
    sizes = [data.shape[i] if s == 0 else int(s) for i, s in enumerate(shape.reshape(-1))]
    return data.reshape(sizes)


def _transpose(graph: Graph, node: Node, inputs: Sequence[Array | None]) -> Array | None:
    (data,) = inputs
    return None if data is None else np.transpose(data, _attribute(graph, node, "perm"))


def _concat(graph: Graph, node: Node, inputs: Sequence[Array | None]) -> Array | None:
    parts = [v for v in inputs if v is not None]
    if len(parts) < len(inputs) or len({v.dtype for v in parts}) != 1 or not parts[0].ndim:
        return None
    return np.concatenate(parts, _attribute(graph, node, "axis"))


def _gather(graph: Graph, node: Node, inputs: Sequence[Array | None]) -> Array | None:
    data, index = inputs
    if data is None or index is None or index.dtype.kind != "i":
        return None
    return np.take(data, index, axis=_attribute(graph, node, "axis") or 0)


def _slice(graph: Graph, node: Node, inputs: Sequence[Array | None]) -> Array | None:
    data, *bounds = inputs
    if data is None or graph.opset < 10 or len(bounds) < 2:
        return None
    lists = [None if b is None else [int(v) for v in b.reshape(-1)] for b in bounds]
    starts, ends, axes, steps = (lists + [None, None])[:4]
    if starts is None or ends is None:
        return None
    places = [slice(None)] * data.ndim
    for i, start in enumerate(starts):
        step, axis = steps[i] if steps is not None else 1, axes[i] if axes is not None else i
        if step < 0 and (ends[i] >= data.shape[axis] or start < -data.shape[axis]):
            return None  # what that means, numpy and runtimes do not agree on
        places[axis] = slice(start, ends[i], step)
    return data[tuple(places)]


def _expand(graph: Graph, node: Node, inputs: Sequence[Array | None]) -> Array | None:
    data, shape = inputs
    if data is None or shape is None or shape.size and int(shape.prod()) * data.nbytes > _MOST:
        return None
    return data * np.ones(shape, data.dtype) if data.dtype.kind == "i" else None


def _cast(graph: Graph, node: Node, inputs: Sequence[Array | None]) -> Array | None:
    """Between integers, to truth values, and from integers to floats, which rounds to the nearest."""
    (data,) = inputs
    to = numpy_dtype(_attribute(graph, node, "to"))
    if data is None or to not in _PLAIN or (data.dtype.kind == "f" and to != data.dtype):
        return None
    return data.astype(to)


def _shape(graph: Graph, node: Node, inputs: Sequence[Array | None]) -> Array | None:
    (data,) = inputs
    plain = data is not None and not node.attrs
    return np.array(data.shape, np.int64) if plain and data is not None else None


def _filled(graph: Graph, node: Node, inputs: Sequence[Array | None]) -> Array | None:
    (shape,) = inputs
    value = _attribute(graph, node, "value") if "value" in node.attrs else np.zeros(1, np.float32)
    if (
        shape is None
        or value.dtype not in _PLAIN
        or value.nbytes * int(shape.prod()) > _MOST
        or (shape < 0).any()
    ):
        return None
    return np.full(tuple(shape), value.reshape(-1)[0], value.dtype)


def _where(graph: Graph, node: Node, inputs: Sequence[Array | None]) -> Array | None:
    condition, x, y = inputs
    if condition is None or x is None or y is None or x.dtype != y.dtype:
        return None
    return np.where(condition, x, y)


def _range(graph: Graph, node: Node, inputs: Sequence[Array | None]) -> Array | None:
    """Whole numbers that both integers and floats hold, so that no sum is rounded."""
    if any(v is None or v.size != 1 or not abs(float(v.reshape(()))) < 1 << 22 for v in inputs):
        return None
    start, end, step = (float(v.reshape(())) for v in inputs if v is not None)
    if not step or any(v != int(v) for v in (start, end, step)) or inputs[0] is None:
        return None
    return np.arange(int(start), int(end), int(step)).astype(inputs[0].dtype)


def _same(graph: Graph, node: Node, inputs: Sequence[Array | None]) -> Array | None:
    return inputs[0]


def _binary(function: Callable[[Array, Array], Array], kinds: str) -> Rule:
    def rule(graph: Graph, node: Node, inputs: Sequence[Array | None]) -> Array | None:
        x, y = inputs
        if x is None or y is None or x.dtype != y.dtype or x.dtype.kind not in kinds or graph.opset < 7:
            return None
        return np.asarray(function(x, y))

    return rule


def _unary(function: Callable[[Array], Array], kinds: str) -> Rule:
    def rule(graph: Graph, node: Node, inputs: Sequence[Array | None]) -> Array | None:
        (x,) = inputs
        return None if x is None or x.dtype.kind not in kinds else np.asarray(function(x))

    return rule


_RULES: dict[str, Rule] = {
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Concat": _concat,
    "Gather": _gather,
    "Slice": _slice,
    "Expand": _expand,
    "Cast": _cast,
    "Shape": _shape,
    "ConstantOfShape": _filled,
    "Where": _where,
    "Range": _range,
    "Identity": _same,
    "Add": _binary(np.add, "if"),
    "Sub": _binary(np.subtract, "if"),
    "Mul": _binary(np.multiply, "if"),
    "Div": _binary(np.divide, "f"),
    "Equal": _binary(np.equal, "ifb"),
    "Greater": _binary(np.greater, "if"),
    "Less": _binary(np.less, "if"),
    "And": _binary(np.logical_and, "b"),
    "Or": _binary(np.logical_or, "b"),
    "Not": _unary(np.logical_not, "b"),
    "Neg": _unary(np.negative, "if"),
    "Floor": _unary(np.floor, "f"),
    "Ceil": _unary(np.ceil, "f"),
    "Sqrt": _unary(np.sqrt, "f"),
}
