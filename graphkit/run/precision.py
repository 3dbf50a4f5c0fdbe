"""A half-precision model computed in fp32: ONNX Runtime's fp16 on a CPU is no baseline for an engine's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto

from graphkit.run import outline
from graphkit.run.rounding import Rounding
from graphkit.run.tensors import typed
from graphkit.run.weights import read_tensor

__all__ = ["Rounding", "upcast", "upcast_feed"]

_HALF: dict[int, str] = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}
_WIDE = TensorProto.FLOAT
# attributes that name a dtype, by any operator that has them
_DTYPES = {"to", "dtype", "output_dtype", "output_datatype", "stash_type", "softmax_precision", "precision"}


def upcast(model: ModelProto, folder: Path | None = None) -> tuple[ModelProto, dict[str, str]]:
    """The model with every float16 and bfloat16 tensor made float32, and the dtype that each tensor had.

    Graph inputs and outputs become float32 too (`upcast_feed` does as much for a feed), as do initializers
    (those in ``folder`` included), constants, casts and subgraphs. Constants stay as they were rounded; what
    is computed from them is no longer rounded to half. Other dtypes stay: fp8 and integers behind
    QuantizeLinear are what the model says. BitCast, which takes half precision for bytes, is not looked into.
    A model without such tensors comes back as it is. The dtypes cover all tensors that shape inference can
    type, by name; inside local functions it types none.
    """
    dtypes = _dtypes(model)
    if not _any_half(model, dtypes):
        return model, {}
    wide = ModelProto()
    wide.CopyFrom(_without_weights(model))
    named = _dtype_attributes(model)
    for graph, original in zip(outline.graphs(wide), outline.graphs(model), strict=True):
        _widen_graph(graph, original, folder)
    for node in outline.nodes(wide):
        _widen_node(node, named.get((node.domain, node.op_type), set()))
    for function in wide.functions:
        for info in function.value_info:
            _widen_type(info.type)
        for attribute in function.attribute_proto:
            if attribute.name in named.get((function.domain, function.name), ()):
                _widen_int(attribute)
    return wide, dtypes


def upcast_feed(feed: Mapping[str, Any]) -> dict[str, Any]:
    """The feed with its float16 and bfloat16 arrays as float32, lists of them included."""
    return {name: _wide_value(value) for name, value in feed.items()}


def _wide_value(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_wide_value(v) for v in value]
    half = getattr(value, "dtype", None) in (np.float16, ml_dtypes.bfloat16)
    return np.asarray(value).astype(np.float32) if half else value


def _dtypes(model: ModelProto) -> dict[str, str]:
    """The half-precision tensors of all scopes but functions, and what they are."""
    found = {}
    for name, kind in typed(model):
        code = kind.tensor_type.elem_type
        if code in _HALF:
            found[name] = _HALF[code]
    for graph in outline.graphs(model):
        found.update({t.name: _HALF[t.data_type] for t in graph.initializer if t.data_type in _HALF})
    return found


def _any_half(model: ModelProto, dtypes: Mapping[str, str]) -> bool:
    """Whether anything at all is half: a function's body may be where nothing else is."""
    if dtypes:
        return True
    attributes = (a for node in outline.nodes(model) for a in node.attribute)
    return any(a.t.data_type in _HALF or (a.name in _DTYPES and a.i in _HALF) for a in attributes)


def _without_weights(model: ModelProto) -> ModelProto:
    """The model with the main graph's initializers left out, so that copying it costs only its nodes."""
    slim = ModelProto(ir_version=model.ir_version)
    for field, value in model.ListFields():
        if field.name == "graph":
            for inner, item in value.ListFields():
                if inner.name in ("name", "doc_string"):
                    setattr(slim.graph, inner.name, item)
                elif inner.name not in ("initializer", "sparse_initializer"):
                    getattr(slim.graph, inner.name).extend(item)
        elif isinstance(value, (str, int)):
            setattr(slim, field.name, value)
        else:
            getattr(slim, field.name).extend(value)
    return slim


def _widen_graph(graph: GraphProto, original: GraphProto, folder: Path | None) -> None:
    tensors = list(original.initializer)
    sparse = list(original.sparse_initializer)
    del graph.initializer[:], graph.sparse_initializer[:]
    graph.initializer.extend(_widened(t, folder) for t in tensors)
    graph.sparse_initializer.extend(sparse)
    for each in graph.sparse_initializer:
        if each.values.data_type in _HALF:
            each.values.CopyFrom(_widened(each.values, folder))
    for info in (*graph.input, *graph.output, *graph.value_info):
        _widen_type(info.type)


def _widen_type(kind: TypeProto) -> None:
    """The element type, inside sequences, optionals and maps too."""
    which = kind.WhichOneof("value")
    if which in ("tensor_type", "sparse_tensor_type"):
        tensor = getattr(kind, which)
        if tensor.elem_type in _HALF:
            tensor.elem_type = _WIDE
    elif which in ("sequence_type", "optional_type"):
        _widen_type(getattr(kind, which).elem_type)
    elif which == "map_type":
        _widen_type(kind.map_type.value_type)


def _widened(tensor: TensorProto, folder: Path | None) -> TensorProto:
    """The tensor, as float32 when it is half: under its name, its data inline."""
    if tensor.data_type not in _HALF:
        return tensor
    wide = onnx.numpy_helper.from_array(read_tensor(tensor, folder).astype(np.float32), tensor.name)
    wide.doc_string = tensor.doc_string
    wide.metadata_props.extend(tensor.metadata_props)
    return wide


def _widen_node(node: NodeProto, extra: Iterable[str]) -> None:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.INT and (attribute.name in _DTYPES or attribute.name in extra):
            _widen_int(attribute)
        elif attribute.type == AttributeProto.TENSOR and attribute.t.data_type in _HALF:
            attribute.t.CopyFrom(_widened(attribute.t, None))
        elif attribute.type == AttributeProto.SPARSE_TENSOR:
            attribute.sparse_tensor.values.CopyFrom(_widened(attribute.sparse_tensor.values, None))
        elif attribute.type == AttributeProto.TYPE_PROTO:
            _widen_type(attribute.tp)


def _widen_int(attribute: AttributeProto) -> None:
    if attribute.i in _HALF:
        attribute.i = _WIDE


def _dtype_attributes(model: ModelProto) -> dict[tuple[str, str], set[str]]:
    """For each local function, those of its attributes that its body hands on as a dtype."""
    return {
        (f.domain, f.name): {
            a.ref_attr_name for a in _attributes(f.node) if a.name in _DTYPES and a.ref_attr_name
        }
        for f in model.functions
    }


def _attributes(nodes: Iterable[NodeProto]) -> Iterator[AttributeProto]:
    for node in nodes:
        yield from node.attribute
        for graph in outline.subgraphs(node):
            yield from _attributes(graph.node)
