"""Operators that the standard defines by a function of others: the body of that function in their place.

https://onnx.ai/onnx/repo-docs/IR.html#functions
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx.reference

from graphkit import NotApplicable
from graphkit.model.encode import attribute, schema_type
from graphkit.model.graph import Tensor
from graphkit.model.surgeon import onnx_dtype, tensor_proto
from graphkit_passes._lowering import Lowering


def has_body(op: str, opset: int) -> bool:
    """Whether the standard gives a function for an operator of the default domain."""
    try:
        schema: Any = onnx.defs.get_schema(op, opset, "")  # the stubs lack what it says of functions
    except onnx.defs.SchemaError:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function) and op not in _NOT


_NOT = frozenset({"Bernoulli", "DynamicQuantizeLinear", "SequenceMap"})
"""It draws random numbers; its uint8 is no better for TensorRT; its body is a graph."""


def inlined(low: Lowering) -> list[Tensor | None]:
    """The outputs of the function's body, written out; what is constant in it is computed."""
    body = _body(low)
    values: dict[str, Tensor | None] = {"": None}
    for n, name in enumerate(body.input):
        values[name] = low.input(n)
    for node in body.node:
        _write(low, body, node, values)
    return [values.get(name) for name in body.output]


def _body(low: Lowering) -> onnx.FunctionProto:
    """The function that defines the operator, for the opset and the types of its inputs."""
    schema: Any = onnx.defs.get_schema(low.node.op, low.graph.opset, "")
    try:
        if schema.has_function:
            raw = schema.get_function_with_opset_version(_latest(schema.function_opset_versions, low))
        else:
            version = _latest(schema.context_dependent_function_opset_versions, low)
            types = [_type(low, t) if t.name else b"" for t in low.node.inputs]
            raw = schema.get_context_dependent_function_with_opset_version(version, _proto(low), types)
    except (RuntimeError, ValueError) as error:
        raise NotApplicable(f"the standard gives no body for it: {error}") from error
    body = onnx.FunctionProto.FromString(raw)
    if not body.node:
        raise NotApplicable("the standard gives no body for it")
    return body


def _latest(versions: Sequence[int], low: Lowering) -> int:
    found = [v for v in versions if v <= low.opset]
    if not found:
        raise NotApplicable(f"the standard gives no body for it in opset {low.opset}")
    return max(found)


def _type(low: Lowering, tensor: Tensor) -> bytes:
    return bytes(
        onnx.helper.make_tensor_type_proto(
            onnx_dtype(low.dtype(tensor)), low.shape(tensor)
        ).SerializeToString()
    )


def _proto(low: Lowering) -> bytes:
    proto = onnx.NodeProto(op_type=low.node.op)
    proto.input.extend(t.name for t in low.node.inputs)
    proto.output.extend(t.name for t in low.node.outputs)
    for name in low.node.attrs:
        kind = schema_type(low.node.op, "", low.graph.opset, name)
        proto.attribute.append(
            onnx.AttributeProto.FromString(b"".join(attribute(name, low.attr(name), kind)))
        )
    return bytes(proto.SerializeToString())


def _write(
    low: Lowering, body: onnx.FunctionProto, node: onnx.NodeProto, values: dict[str, Tensor | None]
) -> None:
    if node.domain or any(a.HasField("g") or a.graphs for a in node.attribute):
        raise NotApplicable(f"the function that defines it has a {node.op_type} in it")
    attrs = _attributes(low, node)
    inputs = [values[n] for n in node.input]
    found = _computed(low, body, node, attrs, inputs)
    if found is not None:
        values[node.output[0]] = low.const(found, name=node.output[0])
        return
    while inputs and inputs[-1] is None:
        inputs.pop()
    given = {a.name: onnx.helper.get_attribute_value(a) for a in attrs}
    made = low(node.op_type, *inputs, outputs=len(node.output), **given)
    values.update(zip(node.output, [made] if len(node.output) == 1 else made, strict=True))


def _attributes(low: Lowering, node: onnx.NodeProto) -> list[onnx.AttributeProto]:
    """The attributes, those of the operator in the place of references."""
    found = []
    for proto in node.attribute:
        if not proto.ref_attr_name:
            found.append(proto)
            continue
        value = low.attr(proto.ref_attr_name)
        if value is not None:
            found.append(
                onnx.AttributeProto.FromString(b"".join(attribute(proto.name, value, int(proto.type))))
            )
    return found


def _computed(
    low: Lowering,
    body: onnx.FunctionProto,
    node: onnx.NodeProto,
    attrs: list[onnx.AttributeProto],
    inputs: list[Any],
) -> np.ndarray[Any, Any] | None:
    """The value of a node that depends on constants alone, or on a dtype or fixed shape."""
    if len(node.output) != 1:
        return None
    if node.op_type == "CastLike" and low.graph.is_constant(inputs[0]):
        dtype = low.known.dtype(low.graph, inputs[1])
        value = low.graph.value(inputs[0])
        return None if dtype is None or value is None else value.astype(dtype)
    if node.op_type in ("Shape", "Size") and not attrs:
        shape = low.shape(inputs[0])
        if shape is None or not all(isinstance(d, int) for d in shape):
            return None
        sizes = np.array(shape, np.int64)
        return sizes if node.op_type == "Shape" else np.array(sizes.prod(), np.int64)
    if any(t is not None and not low.graph.is_constant(t) for t in inputs):
        return None
    return _evaluated(low, body, node, attrs, inputs)


def _evaluated(
    low: Lowering,
    body: onnx.FunctionProto,
    node: onnx.NodeProto,
    attrs: list[onnx.AttributeProto],
    inputs: list[Any],
) -> np.ndarray[Any, Any] | None:
    names = ["" if t is None else f"i{n}" for n, t in enumerate(inputs)]
    alone = onnx.NodeProto(op_type=node.op_type, input=names, output=["o"], attribute=attrs)
    values = {n: low.graph.value(t) for t, n in zip(inputs, names, strict=True) if t is not None}
    constants = [tensor_proto(v, n) for n, v in values.items() if v is not None]
    kind = onnx.helper.make_value_info("o", onnx.TypeProto())
    graph = onnx.helper.make_graph([alone], "alone", [], [kind], constants)
    model = onnx.helper.make_model(graph, opset_imports=list(body.opset_import))
    try:
        (found,) = onnx.reference.ReferenceEvaluator(model).run(None, {})
    except Exception:  # whatever an operator's reference raises: it stays a node then
        return None
    return np.asarray(found)
