"""Whether onnx.checker takes a model, without reading its weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx
import onnx.checker

from graphkit.model import wire

__all__ = ["invalid"]

_LARGE = (
    64 << 20
)  # bytes; larger models are checked without their weights, of which the checker would make copies
_SMALL_TENSOR = 4096
_MODEL_GRAPH, _GRAPH_INITIALIZER = 7, 5
_TENSOR_TYPE, _TENSOR_NAME = 2, 8


def invalid(parts: Sequence[bytes | memoryview]) -> str | None:
    """Why onnx.checker refuses the model whose wire bytes ``parts`` join to, in one line; None when it does
    not.

    Weights in other files are left out of the check: their references are resolved, and refused, where they
    are read.
    """
    whole = parts[0] if len(parts) == 1 else b"".join(parts)
    try:
        light = _light(whole) if len(whole) > _LARGE else bytes(whole)
        model = onnx.ModelProto.FromString(light)
        for tensor in _tensors(model):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                _hide(tensor)
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        return _line(error)
    except (
        Exception
    ) as error:  # the checker's C++ side raises RuntimeError for some models, protobuf DecodeError
        return f"{type(error).__name__}: {_line(error)}"
    return None


def _line(error: BaseException) -> str:
    """What the checker says, on one line, without its trailing context."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _hide(tensor: onnx.TensorProto) -> None:
    """Make a tensor empty: the checker asks the data of any other to be there."""
    del tensor.external_data[:]
    tensor.ClearField("data_location")
    tensor.dims[:] = [0]


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of the model: initializers and attributes, in all graphs and functions."""
    graphs = [
        model.graph,
        *(t.algorithm for t in model.training_info),
        *(t.initialization for t in model.training_info),
    ]
    nodes = [n for f in model.functions for n in f.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes += graph.node
            continue
        for attribute in nodes.pop().attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                graphs.append(attribute.g)
            graphs += attribute.graphs


def _light(whole: bytes | memoryview) -> bytes:
    """The model with every large initializer of its main graph as an empty one of the same name and type."""
    fields = wire.scan(whole)
    graph = wire.merged(whole, fields, _MODEL_GRAPH)
    if graph is None:
        return bytes(whole)
    inner = wire.scan(graph)
    tensors = wire.payloads(graph, inner, _GRAPH_INITIALIZER)
    items: list[wire.Item] = []
    for index, view in enumerate(tensors):
        small = len(view) <= _SMALL_TENSOR
        items.append(index if small else wire.bytes_field(_GRAPH_INITIALIZER, _empty(view)))
    made = wire.splice(graph, inner, {_GRAPH_INITIALIZER: items})
    return b"".join(wire.splice(whole, fields, {_MODEL_GRAPH: [wire.bytes_field(_MODEL_GRAPH, made)]}))


def _empty(view: memoryview) -> bytes:
    keep = (_TENSOR_TYPE, _TENSOR_NAME)
    header = b"".join(bytes(view[f.start : f.end]) for f in wire.scan(view) if f.number in keep)
    proto = onnx.TensorProto.FromString(header)
    proto.dims[:] = [0]
    return bytes(proto.SerializeToString())
