"""Inputs with a default: from IR version 4 on, a caller may feed another value than the initializer's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from graphkit.run import outline

LARGEST = 1 << 20  # elements; a larger default is not changed
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


def names(model: ModelProto) -> set[str]:
    """Inputs whose initializer is a default, not a constant."""
    if model.ir_version < 4:
        return set()
    inputs = {i.name for i in model.graph.input}
    return {t.name for t in model.graph.initializer if t.name in inputs}


def read(model: ModelProto) -> dict[str, NDArray[Any]]:
    """The float defaults that lie in the file; whole numbers say shapes and indices, and stay."""
    wanted = names(model)
    return {
        t.name: np.asarray(onnx.numpy_helper.to_array(t))
        for t in model.graph.initializer
        if t.name in wanted and t.data_type in _FLOATS and _at_hand(t)
    }


def _at_hand(tensor: TensorProto) -> bool:
    return not outline.is_external(tensor) and outline.elements(tensor) <= LARGEST


def changed(values: Mapping[str, NDArray[Any]], seed: int) -> dict[str, NDArray[Any]]:
    """Other values of the same sign and size: up to a half more."""
    rng = np.random.default_rng(seed)
    return {k: _more(values[k], rng) for k in sorted(values)}


def _more(value: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    factor = rng.uniform(1.1, 1.5, value.shape)
    other = np.where(value == 0, factor - 1, value * factor)
    return np.asarray(other).astype(value.dtype)
