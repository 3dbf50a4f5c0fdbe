"""Where a model's behaviour turns: the scalar constants that it clips to, compares with or shifts by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from graphkit.run import outline

_COMPARES = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "Clip", "Min", "Max")
_READS = {*_COMPARES, "Add", "Sub"}
_ATTRIBUTES = {"Clip": ("min", "max"), "ThresholdedRelu": ("alpha",), "Shrink": ("lambd",)}
MOST = 1e5  # beyond: a mask's "minus infinity", not a place that values reach
LONGEST = 4096  # of the whole numbers, those that may be a length


def thresholds(model: ModelProto) -> tuple[list[float], list[int]]:
    """Magnitudes of the float constants and of the whole ones, ascending, in every scope."""
    known = outline.constants(model)
    floats: set[float] = set()
    wholes: set[int] = set()
    for node in outline.nodes(model):
        floats.update(_given(node))
        if node.op_type not in _READS:
            continue
        for value in (known[n] for n in node.input if n in known):
            if value.size == 1 and value.dtype.kind == "i" and node.op_type in _COMPARES:
                wholes.update(abs(int(v)) for v in value.ravel() if abs(int(v)) <= MOST)
            elif value.size == 1 and _is_float(value):
                floats.update(_magnitudes(value.astype(np.float64)))
    return sorted(floats), sorted(wholes)


def _given(node: NodeProto) -> Iterator[float]:
    for name in _ATTRIBUTES.get(node.op_type, ()):
        value = outline.attribute(node, name)
        if isinstance(value, float):
            yield from _magnitudes(np.asarray(value))


def _is_float(value: NDArray[Any]) -> bool:
    return value.dtype.kind == "f" or value.dtype.name == "bfloat16"


def _magnitudes(value: NDArray[Any]) -> Iterator[float]:
    yield from (abs(float(v)) for v in value.ravel() if abs(float(v)) <= MOST)
