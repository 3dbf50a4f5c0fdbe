"""When a constant is the number that a pattern asks for: in the constant's own precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from graphkit.model.graph import Graph
    from graphkit.model.surgeon import Node, Tensor

RELATIVE = 1e-6


def agrees(graph: Graph, tensor: Tensor, expected: Any, reader: Node | None = None) -> bool:
    """Whether ``tensor`` is a constant equal to ``expected``: a number, a (nested) list or an ndarray.

    A number also matches a tensor of one element, unless that has so many dimensions that it would widen the
    result of ``reader``. Floats agree to 1e-6, or to the precision of the tensor's dtype where that is
    coarser.
    """
    wanted = np.asarray(expected)
    shape = _constant_shape(graph, tensor)
    if shape is None or (any(d != 1 for d in shape) if wanted.ndim == 0 else tuple(shape) != wanted.shape):
        return False
    if wanted.ndim == 0 and len(shape) > max(1, _rank_beside(graph, tensor, reader)):
        return False
    values = graph.value(tensor)
    return values is not None and close(values.reshape(wanted.shape), wanted)


def _constant_shape(graph: Graph, tensor: Tensor) -> tuple[Any, ...] | None:
    """The shape of a constant, without reading its values where that can be avoided."""
    shape = graph.shape(tensor)
    if shape is not None:
        return shape
    values = graph.value(tensor)
    return None if values is None else values.shape


def _rank_beside(graph: Graph, tensor: Tensor, reader: Node | None) -> int:
    """The largest rank known among the other inputs of ``reader``."""
    shapes = [graph.shape(t) for t in (reader.inputs if reader is not None else ()) if t is not tensor]
    return max((len(s) for s in shapes if s is not None), default=0)


def close(values: Any, wanted: Any) -> bool:
    """Whether two arrays of one shape agree, in the precision of the first; integers and strings exactly."""
    values, wanted = np.asarray(values), np.asarray(wanted)
    if values.dtype == object or values.dtype.kind in "SU" or wanted.dtype.kind in "SUO":
        return bool(values.tolist() == wanted.tolist())
    if values.dtype.kind in "iub":
        return bool(np.array_equal(values, wanted))
    target = wanted.astype(values.dtype)
    tolerance = max(RELATIVE, 2 * _epsilon(values.dtype))
    a, b = (x.astype(np.complex128 if x.dtype.kind == "c" else np.float64) for x in (values, target))
    return bool(np.allclose(a, b, rtol=tolerance, atol=0.0, equal_nan=True))


def _epsilon(dtype: np.dtype[Any]) -> float:
    """The spacing of 1.0 in a float dtype of numpy or ml_dtypes."""
    try:
        return float(np.finfo(dtype).eps)
    except ValueError:
        import ml_dtypes

        try:
            return float(ml_dtypes.finfo(dtype).eps)  # type: ignore[no-untyped-call]
        except (TypeError, ValueError):
            return 0.0


def equals(a: Any, b: Any) -> bool:
    """Whether two attribute values or arrays are equal, floats to 1e-6 (a file holds them as float32)."""
    if a is None or b is None or isinstance(a, str | bytes) or isinstance(b, str | bytes):
        return bool(type(a) is type(b) and a == b)
    try:
        left, right = np.asarray(a), np.asarray(b)
    except ValueError:  # a ragged list is no attribute of ONNX
        return False
    if left.dtype == object or right.dtype == object:
        return bool(left.shape == right.shape and left.tolist() == right.tolist())
    if left.shape != right.shape or (left.dtype.kind in "SU") != (right.dtype.kind in "SU"):
        return False
    if (
        "f" in (left.dtype.kind, right.dtype.kind)
        and left.dtype.kind in "fiub"
        and right.dtype.kind in "fiub"
    ):
        return bool(
            np.allclose(left.astype(float), right.astype(float), rtol=RELATIVE, atol=0.0, equal_nan=True)
        )
    return bool(np.array_equal(left, right))
