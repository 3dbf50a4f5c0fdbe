"""Shapes and dtypes inferred afresh, from the inputs and constants alone: stored annotations can be wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnx.shape_inference

from graphkit.model.graph import Shape
from graphkit.model.messages import first_line
from graphkit.model.model import Model
from graphkit.model.reader import describe
from graphkit.model.surgeon import Constant, GsGraph, Surgeon, Tensor, numpy_dtype


class Types:
    """What inference found, by tensor; a tensor that it could not type gives None."""

    def __init__(self, reason: str = "") -> None:
        self._told: dict[int, tuple[Tensor, onnx.TypeProto]] = {}
        self._read: dict[int, tuple[Any, Shape | None, Shape | None]] = {}
        self.reason = reason
        """Why inference failed as a whole; empty when it ran."""

    def note(self, tensor: Tensor, kind: onnx.TypeProto) -> None:
        """Record what inference says of ``tensor``."""
        if kind.HasField("tensor_type"):
            self._told[id(tensor)] = (tensor, kind)

    def _of(self, tensor: Tensor) -> tuple[Any, Shape | None, Shape | None] | None:
        """Dtype, shape, and shape with names; a type is read when somebody asks, for most are never asked."""
        key = id(tensor)
        if key not in self._told:
            return None
        found = self._read.get(key)
        if found is None:
            _, dtype, dims = describe(self._told[key][1])
            shape = None if dims is None else tuple(_dim(d) for d in dims)
            found = self._read[key] = dtype, shape, None if dims is None else tuple(dims)
        return found

    def shape(self, tensor: Tensor) -> Shape | None:
        """Inferred shape: int, symbol, or None a dim; None when the rank is unknown."""
        entry = self._of(tensor)
        if entry is not None:
            return entry[1]
        return tuple(tensor.shape) if isinstance(tensor, Constant) else None

    def named(self, tensor: Tensor) -> Shape | None:
        """The same, with a name for most dims that are no number: dims of one name have one size."""
        entry = self._of(tensor)
        return self.shape(tensor) if entry is None else entry[2]

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
        entry = self._of(tensor)
        return None if entry is None else numpy_dtype(entry[0])


def infer(model: Model) -> Types:
    """Run ONNX shape inference, with data propagation, on the model as it is now.

    The data of large initializers and all stored value infos are left out, so external data costs nothing and
    wrong annotations mislead nobody; so is an initializer that is an input too, because a caller may give one
    of any shape that the input allows. Tensors inside function bodies have no types.
    """
    proto = model.skeleton()
    defaults = _drop_defaults(model, proto.graph)
    _forget(proto.graph, main=True)
    _tell_apart(proto.graph)
    _translate(proto.graph)
    _hand_down(proto.graph, {})
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


_LONGEST = 1 << 20
"""Elements of a vector: where it is read as a shape, onnx allocates a result of as many dims."""


def _forget(graph: onnx.GraphProto, *, main: bool) -> None:
    """Clear what is declared and not known: shapes of outputs, those of a body's inputs, negative sizes.

    A loop's body is given tensors of other sizes than it declares, and says nothing.
    """
    for info in (*graph.output, *(() if main else graph.input)):
        if info.type.WhichOneof("value") == "tensor_type":
            info.type.tensor_type.ClearField("shape")
    for info in graph.input:
        dims = info.type.tensor_type.shape.dim if info.type.HasField("tensor_type") else ()
        for dim in dims:
            if dim.dim_value < 0 or (len(dims) == 1 and dim.dim_value > _LONGEST):
                dim.ClearField("dim_value")
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _forget(attribute.g, main=False)


def _tell_apart(graph: onnx.GraphProto) -> None:
    """One name for two dims of an input, such as ``?``, says nothing: each gets a name of its own."""
    for place, info in enumerate(graph.input):
        dims = info.type.tensor_type.shape.dim if info.type.HasField("tensor_type") else ()
        names = [d.dim_param for d in dims]
        for axis, dim in enumerate(dims):
            name = dim.dim_param
            if name and (names.count(name) > 1 or not any(c.isalnum() for c in name)):
                dim.dim_param = f"unk__{place}_{axis}"


_SHAPED_LIKE = {("com.microsoft", "DynamicQuantizeLSTM"): "LSTM"}
"""Operators that inference does not know, whose outputs have the shapes that a standard one makes."""


def _translate(graph: onnx.GraphProto) -> None:
    """Let inference see standard operators in the place of those that are shaped like them."""
    for node in graph.node:
        op = _SHAPED_LIKE.get((node.domain, node.op_type))
        if op is not None:
            node.op_type, node.domain = op, ""
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _translate(attribute.g)


def _hand_down(graph: onnx.GraphProto, around: Mapping[str, onnx.TensorProto]) -> None:
    """Copy small constants into the subgraphs that capture them: onnx looks for their values nowhere else."""
    made = {name for node in graph.node for name in node.output}
    hidden = made | {i.name for i in graph.input} | {t.name for t in graph.initializer}
    known = {name: tensor for name, tensor in around.items() if name not in hidden}
    read = {name for node in graph.node for name in node.input}
    graph.initializer.extend(known[name] for name in sorted(read & known.keys()))
    for tensor in graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            known[tensor.name] = tensor
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            tensor = known[node.output[0]] = onnx.TensorProto()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _hand_down(attribute.g, known)


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
        if not any(isinstance(v, GsGraph) for v in node.attrs.values()):
            continue
        for attribute in made[node.outputs[0].name].attribute:
            inner = node.attrs.get(attribute.name)
            if attribute.HasField("g") and isinstance(inner, GsGraph):
                _take(types, inner, attribute.g)


def _dim(size: int | str | None) -> int | str | None:
    """Inference names dims that it knows nothing of ``unk__0``, ``unk__1``, …"""
    return None if isinstance(size, str) and size.startswith("unk__") else size
