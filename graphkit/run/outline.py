"""A model without its weights: all that tracing and shape inference need, at the cost of its nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto

KEPT_ELEMENTS = 1024  # a shape, an axes list or a table of choices; anything larger is a weight


def elements(tensor: TensorProto) -> int:
    """How many elements the tensor holds, from its dims alone."""
    count = 1
    for dim in tensor.dims:
        count *= max(int(dim), 0)
    return count


def is_external(tensor: TensorProto) -> bool:
    """Whether the tensor's data lies in another file."""
    return tensor.data_location == TensorProto.EXTERNAL


def weight_bytes(model: ModelProto) -> int:
    """Bytes of all external initializers in the main graph and below (their dims times their dtype)."""
    return sum(
        elements(t) * max(item_bits(t.data_type), 1) // 8
        for graph in graphs(model)
        for t in graph.initializer
        if is_external(t)
    )


def item_bits(data_type: int) -> int:
    """Bits of one element of an ONNX dtype; 8 where numpy does not know it."""
    try:
        return onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize * 8
    except (KeyError, ValueError, TypeError):
        return 8


def outline(model: ModelProto) -> ModelProto:
    """A copy with every large initializer's data left out; small constants stay, so shapes can be traced."""
    slim = ModelProto(ir_version=model.ir_version)
    slim.opset_import.extend(model.opset_import)
    slim.functions.extend(model.functions)
    graph = slim.graph
    graph.name = model.graph.name
    for field in ("node", "input", "output", "value_info"):
        getattr(graph, field).extend(getattr(model.graph, field))
    for tensor in model.graph.initializer:
        graph.initializer.append(_slim(tensor))
    for sparse in model.graph.sparse_initializer:  # shape inference and tracing only need its dims
        graph.initializer.add(name=sparse.values.name, data_type=sparse.values.data_type, dims=sparse.dims)
    return slim


def _slim(tensor: TensorProto) -> TensorProto:
    if not is_external(tensor) and elements(tensor) <= KEPT_ELEMENTS:
        return tensor
    return TensorProto(
        name=tensor.name,
        data_type=tensor.data_type,
        dims=tensor.dims,
        metadata_props=tensor.metadata_props,
    )


def graphs(model: ModelProto) -> Iterator[GraphProto]:
    """The main graph and every subgraph, functions' subgraphs included."""
    stack: list[GraphProto] = [model.graph]
    for function in model.functions:
        stack.extend(g for node in function.node for g in subgraphs(node))
    while stack:
        graph = stack.pop()
        yield graph
        stack.extend(g for node in graph.node for g in subgraphs(node))


def nodes(model: ModelProto) -> Iterator[NodeProto]:
    """Every node of the main graph, of subgraphs and of functions."""
    for graph in graphs(model):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs that the node's own attributes hold."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def functions(model: ModelProto) -> Mapping[tuple[str, str], FunctionProto]:
    """Local functions by (domain, name); overloads share a signature, so one stands for all."""
    return {(f.domain, f.name): f for f in model.functions}


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """The node's attribute as a Python value, or ``default`` when it is absent."""
    for a in node.attribute:
        if a.name == name and not a.ref_attr_name:
            return onnx.helper.get_attribute_value(a)
    return default


def value_of(tensor: TensorProto) -> NDArray[Any] | None:
    """The values of a small inline tensor, or None when they are not at hand or not readable."""
    if is_external(tensor) or elements(tensor) > KEPT_ELEMENTS:
        return None
    try:
        return np.asarray(onnx.numpy_helper.to_array(tensor))
    except Exception:  # a slimmed or malformed tensor: its values are simply unknown here
        return None


def constants(model: ModelProto) -> dict[str, NDArray[Any]]:
    """Small constants by name: initializers and Constant nodes, in every scope."""
    found: dict[str, NDArray[Any]] = {}
    for graph in graphs(model):
        for tensor in graph.initializer:
            value = value_of(tensor)
            if value is not None:
                found[tensor.name] = value
    for node in nodes(model):
        if node.op_type == "Constant" and node.output and len(node.attribute) == 1:
            value = _constant_value(node)
            if value is not None:
                found[node.output[0]] = value
    return found


def _constant_value(node: NodeProto) -> NDArray[Any] | None:
    value = (
        onnx.helper.get_attribute_value(node.attribute[0]) if not node.attribute[0].ref_attr_name else None
    )
    if isinstance(value, TensorProto):
        return value_of(value)
    if isinstance(value, (int, float)):
        return np.asarray(value, np.int64 if isinstance(value, int) else np.float32)
    if isinstance(value, (list, tuple)) and all(isinstance(v, (int, float)) for v in value):
        return np.asarray(value)
    return None
