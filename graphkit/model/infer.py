"""Shapes and dtypes inferred afresh, from the inputs and constants alone: stored annotations can be wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnx.shape_inference

from graphkit.model.graph import Shape
from graphkit.model.messages import first_line
from graphkit.model.model import Model
from graphkit.model.reader import describe
from graphkit.model.surgeon import Constant, Surgeon, Tensor, numpy_dtype


class Types:
    """What inference found, by tensor; a tensor that it could not type gives None."""

    def __init__(self, reason: str = "") -> None:
        self._known: dict[int, tuple[Tensor, Any, Shape | None]] = {}
        self.reason = reason
        """Why inference failed as a whole; empty when it ran."""

    def note(self, tensor: Tensor, kind: onnx.TypeProto) -> None:
        """Record what inference says of ``tensor``."""
        which, dtype, shape = describe(kind)
        if which == "tensor_type":
            known = None if shape is None else tuple(_dim(d) for d in shape)
            self._known[id(tensor)] = (tensor, dtype, known)

    def shape(self, tensor: Tensor) -> Shape | None:
        """Inferred shape: int, symbol, or None a dim; None when the rank is unknown."""
        entry = self._known.get(id(tensor))
        if entry is not None:
            return entry[2]
        return tuple(tensor.shape) if isinstance(tensor, Constant) else None

    def static(self, tensor: Tensor) -> tuple[int, ...] | None:
        """The inferred shape when every dim is a known number."""
        shape = self.shape(tensor)
        if shape is None or not all(isinstance(d, int) for d in shape):
            return None
        return tuple(int(d) for d in shape if d is not None)

    def dtype(self, tensor: Tensor) -> np.dtype[Any] | None:
        """Inferred dtype, ml_dtypes included."""
        if isinstance(tensor, Constant):
            return numpy_dtype(tensor.dtype)
        entry = self._known.get(id(tensor))
        return numpy_dtype(entry[1]) if entry is not None else None


def infer(model: Model) -> Types:
    """Run ONNX shape inference, with data propagation, on the model as it is now.

    The data of large initializers and all stored value infos are left out, so external data costs nothing and
    wrong annotations mislead nobody; so is an initializer that is an input too, because a caller may give one
    of any shape that the input allows. Tensors inside function bodies have no types.
    """
    proto = model.skeleton()
    defaults = _drop_defaults(model, proto.graph)
    _forget(proto.graph, main=True)
    types = Types()
    for tensor, kind in defaults:
        types.note(tensor, kind)
    try:
        typed = onnx.shape_inference.infer_shapes(proto, check_type=False, strict_mode=False, data_prop=True)
    except (
        onnx.shape_inference.InferenceError,
        onnx.checker.ValidationError,
        RuntimeError,
        ValueError,
    ) as error:
        types.reason = first_line(error)
        return types
    _take(types, model.main.gs, typed.graph)
    return types


def _drop_defaults(model: Model, graph: onnx.GraphProto) -> list[tuple[Tensor, onnx.TypeProto]]:
    """Take out the initializers that a caller can override; returns them with what the inputs declare."""
    found = {i.tensor.name: i.tensor for i in model.records.initializers.values() if i.overridable}
    declared = [(found[i.name], i.type) for i in graph.input if i.name in found]
    if declared:
        names = {t.name for t, _ in declared}
        dense = [i for i in graph.initializer if i.name not in names]
        del graph.initializer[:]
        graph.initializer.extend(dense)
        sparse = [i for i in graph.sparse_initializer if i.values.name not in names]
        del graph.sparse_initializer[:]
        graph.sparse_initializer.extend(sparse)
    return declared


def _forget(graph: onnx.GraphProto, *, main: bool) -> None:
    """Clear what is declared and not known: shapes of outputs, those of a body's inputs, negative sizes.

    A loop's body is given tensors of other sizes than it declares, and says nothing.
    """
    for info in (*graph.output, *(() if main else graph.input)):
        if info.type.WhichOneof("value") == "tensor_type":
            info.type.tensor_type.ClearField("shape")
    for info in graph.input:
        for dim in info.type.tensor_type.shape.dim if info.type.HasField("tensor_type") else ():
            if dim.dim_value < 0:
                dim.ClearField("dim_value")
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _forget(attribute.g, main=False)


def _take(types: Types, surgeon: Surgeon, graph: onnx.GraphProto) -> None:
    """Carry the inferred types of ``graph`` to the tensors of its GraphSurgeon twin, and so on below."""
    told = {i.name: i.type for i in (*graph.value_info, *graph.input, *graph.output)}
    made = {n.output[0]: n for n in graph.node if n.output}
    for tensor in (*surgeon.inputs, *(t for n in surgeon.nodes for t in n.outputs)):
        if tensor.name in told:
            types.note(tensor, told[tensor.name])
    for node in surgeon.nodes:
        if not node.outputs or node.outputs[0].name not in made:
            continue
        for attribute in made[node.outputs[0].name].attribute:
            inner = node.attrs.get(attribute.name)
            if attribute.HasField("g") and inner is not None:
                _take(types, inner, attribute.g)


def _dim(size: int | str | None) -> int | str | None:
    """Inference names dims that it knows nothing of ``unk__0``, ``unk__1``, …"""
    return None if isinstance(size, str) and size.startswith("unk__") else size
