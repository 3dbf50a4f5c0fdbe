"""A node in the form of an older opset: what differs between the versions of its operator, one by one.

Every difference between the schemas of onnx 1.23 from opset 11 on was looked at, with the text that goes with
them; :mod:`_opset_changes` holds the operators of which more has changed than the types they take and the
attributes that can be left at their default. https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from graphkit import NotApplicable
from graphkit.model.graph import Node, Tensor
from graphkit.model.surgeon import Variable, unlink
from graphkit_passes._lowering import Lowering
from graphkit_passes._opset_changes import SPECIAL
from graphkit_passes._opset_form import Form

OLDEST = 11
"""Below, axes may not be negative, and Clip, Pad and Slice are other operators."""


def form_of(low: Lowering, opset: int) -> Form | None:
    """The form of a node in ``opset``; None when it is the one it has. NotApplicable when there is none."""
    node = low.node
    try:
        now = onnx.defs.get_schema(node.op, low.graph.opset, "")
    except onnx.defs.SchemaError as error:
        raise NotApplicable(f"opset {low.graph.opset} has no {node.op}") from error
    try:
        then = onnx.defs.get_schema(node.op, opset, "")
    except onnx.defs.SchemaError as error:
        raise NotApplicable(f"opset {opset} has no {node.op}") from error
    if now.since_version == then.since_version:
        return None
    form = Form(low, now, then, dict(node.attrs), [t if t.name else None for t in node.inputs])
    special = SPECIAL.get(node.op)
    if special is not None:
        special(form)
    _attributes(form)
    _inputs(form)
    _types(form)
    return form


def _attributes(form: Form) -> None:
    """Attributes that the old version lacks can go when they say what it does anyway."""
    defaults = [_default(s) for s in (form.now, form.then)]
    for name in list(form.attrs):
        if name not in form.then.attributes:
            known = name in defaults[0] and form.low.attr(name) == defaults[0][name]
            form.drop(name, known, f"opset {form.low.opset} has no {name} of {form.low.node.op}")
    for name, value in defaults[0].items():
        if name not in form.attrs and name in form.then.attributes and defaults[1].get(name) != value:
            form.attrs[name] = value
    for name, declared in form.then.attributes.items():
        if declared.required and name not in form.attrs:
            raise NotApplicable(f"opset {form.low.opset} needs a {name} of {form.low.node.op}")


def _default(schema: onnx.defs.OpSchema) -> dict[str, Any]:
    found = {}
    for name, declared in schema.attributes.items():
        if declared.default_value.name:
            value = onnx.helper.get_attribute_value(declared.default_value)
            found[name] = value.decode() if isinstance(value, bytes) else value
    return found


def _inputs(form: Form) -> None:
    while form.inputs and form.inputs[-1] is None:
        form.inputs.pop()
    outputs = [t for t in form.low.node.outputs if t.name]
    if len(form.inputs) > form.then.max_input or len(outputs) > form.then.max_output:
        raise NotApplicable(f"{form.low.node.op} of opset {form.low.opset} has fewer inputs or outputs")


def _types(form: Form) -> None:
    """The old version has to take the dtypes that there are."""
    given = [*zip(form.inputs, _declared(form.then.inputs, len(form.inputs)), strict=True)]
    outputs = form.low.node.outputs
    given += [*zip(outputs, _declared(form.then.outputs, len(outputs)), strict=True)]
    for tensor, declared in given:
        if tensor is None or not tensor.name:
            continue
        name = _inferred(form.low, tensor).name
        if f"tensor({_ONNX.get(name, name)})" not in declared.types:
            raise NotApplicable(f"{form.low.node.op} of opset {form.low.opset} has no {name}")


def _inferred(low: Lowering, tensor: Tensor) -> np.dtype[Any]:
    """The dtype of a tensor; what the file says of one that is not inferred can be that of a sequence's."""
    found = low.graph.dtype(tensor) if low.graph.is_constant(tensor) else low.known.types.dtype(tensor)
    if found is None:
        raise NotApplicable(f"the dtype of '{tensor.name}' is not known")
    return found


_ONNX = {"float32": "float", "float64": "double", "object": "string"}


def _declared(parameters: Any, count: int) -> list[Any]:
    """The parameter of each of ``count`` inputs; the last one can stand for many."""
    return [parameters[min(n, len(parameters) - 1)] for n in range(count)]


def require_fit(low: Lowering) -> None:
    """Refuse when the new nodes of a rule are none of the opset, or do not take its dtypes.

    The dtypes of what is inside are not known; where the node has one, all of them can have it.
    """
    tensors = [t for t in (*low.node.inputs, *low.node.outputs) if t.name]
    names = {_ONNX.get(n, n) for n in (low.dtype(t).name for t in tensors)} - _OLD
    for node in low.made:
        try:
            schema = onnx.defs.get_schema(node.op, low.opset, "")
        except onnx.defs.SchemaError as error:
            raise NotApplicable(f"opset {low.opset} has no {node.op}") from error
        strange = next((a for a in node.attrs if a not in schema.attributes), None)
        if strange is not None or len(node.inputs) > schema.max_input:
            raise NotApplicable(f"{node.op} of opset {low.opset} has no {strange or 'such input'}")
        for declared in (*schema.inputs, *schema.outputs):
            kinds = set(declared.types)
            lacking = [n for n in names if "tensor(float)" in kinds and f"tensor({n})" not in kinds]
            if lacking:
                raise NotApplicable(f"{node.op} of opset {low.opset} has no {lacking[0]}")


_OLD = frozenset({"float", "float16", "double", "int32", "int64", "bool"})


def settle(form: Form) -> None:
    """Give the node its form."""
    node: Node = form.low.node
    node.attrs.clear()
    node.attrs.update(form.attrs)
    wanted = [Variable.empty() if t is None else t for t in form.inputs]
    if len(wanted) == len(node.inputs) and all(
        a is b or not (a.name or b.name) for a, b in zip(wanted, node.inputs, strict=True)
    ):
        return
    for tensor in list(node.inputs):
        unlink(tensor.outputs, node)
    list.clear(node.inputs)
    for tensor in wanted:
        list.append(node.inputs, tensor)
        list.append(tensor.outputs, node)
