"""Dtypes, shapes and bytes of a graph's tensors: inferred for one feed, corrected by what was seen."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import onnx
import onnx.shape_inference
from onnx import ModelProto, NodeProto, TensorProto, TypeProto, ValueInfoProto, helper

from graphkit.run import outline
from graphkit.run.held import size_of
from graphkit.run.weights import Weights

Shape = tuple[int, ...]


class Tensors:
    """What is known of each tensor, for inputs of given shapes."""

    def __init__(self, skeleton: ModelProto, shapes: Mapping[str, Shape]) -> None:
        self.types: dict[str, TypeProto] = {i.name: i.type for i in _inferred(skeleton, shapes)}
        self._known: dict[str, Shape | None] = {}

    def elem_type(self, name: str) -> int:
        """ONNX dtype of a tensor, 0 where it is not known."""
        return int(self.types[name].tensor_type.elem_type) if name in self.types else 0

    def shape(self, name: str) -> Shape | None:
        """The tensor's shape when every dim is known."""
        if name not in self._known:
            self._known[name] = _static(self.types.get(name))
        return self._known[name]

    def note(self, name: str, shape: Shape, elem_type: int) -> None:
        """A tensor as it came out of a session."""
        if self.shape(name) != shape or self.elem_type(name) != elem_type:
            self._known[name] = shape
            self.types[name] = helper.make_tensor_type_proto(elem_type, shape)

    def nbytes(self, name: str, guess: int = 0) -> int:
        """Bytes of a tensor, ``guess`` where its shape is not known."""
        shape = self.shape(name)
        return guess if shape is None else size_of(shape, self.elem_type(name))


def _static(kind: TypeProto | None) -> Shape | None:
    if kind is None or not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    dims = kind.tensor_type.shape.dim
    return tuple(int(d.dim_value) for d in dims) if all(d.HasField("dim_value") for d in dims) else None


def _inferred(skeleton: ModelProto, shapes: Mapping[str, Shape]) -> list[ValueInfoProto]:
    """What shape inference makes of the graph with inputs of these shapes; only these where it fails."""
    model = ModelProto()
    model.CopyFrom(skeleton)
    for info in model.graph.input:
        if info.name in shapes and info.type.HasField("tensor_type"):
            kind = info.type.tensor_type.elem_type
            info.type.CopyFrom(helper.make_tensor_type_proto(kind, shapes[info.name]))
    graph = model.graph
    try:
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:  # a graph that onnx cannot type may still run: sizes are then learnt on the way
        del graph.output[:]
    constants = (helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in model.graph.initializer)
    return [*graph.value_info, *graph.output, *graph.input, *constants]


def skeleton(model: ModelProto, weights: Weights, nodes: Sequence[NodeProto]) -> ModelProto:
    """The model for shape inference: weights as dims alone, and nothing that is declared but not known."""
    slim = ModelProto(ir_version=max(model.ir_version, 4))
    slim.opset_import.extend(model.opset_import)
    slim.functions.extend(model.functions)
    graph = slim.graph
    graph.name = "g"
    graph.node.extend(nodes)
    graph.input.extend(i for i in model.graph.input if i.name not in weights)
    for output in model.graph.output:
        graph.output.add(name=output.name)
    for name, tensor in weights.fed.items():
        graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
    for name, tensor in weights.inline.items():
        large = outline.is_external(tensor) or outline.elements(tensor) > outline.KEPT_ELEMENTS
        slimmed = TensorProto(name=name, data_type=tensor.data_type, dims=tensor.dims)
        graph.initializer.append(slimmed if large else tensor)
    return slim


def typed(model: ModelProto) -> list[tuple[str, TypeProto]]:
    """Every tensor that inference can type, in the main graph and subgraphs; declared types included."""
    slim = outline.outline(model)
    with contextlib.suppress(Exception):  # as in _inferred: what is declared is then all that is known
        slim = onnx.shape_inference.infer_shapes(slim)
    del slim.functions[:]
    return [
        (info.name, info.type)
        for graph in outline.graphs(slim)
        for info in (*graph.value_info, *graph.output, *graph.input)
    ]
