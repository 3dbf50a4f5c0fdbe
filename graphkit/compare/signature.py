"""Inputs and outputs of two models: same names, order, dtypes, and nothing asked for that was not before."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import ModelProto, TypeProto

from graphkit.run.outline import outline
from graphkit.run.shapes import required_inputs, tensor_type


def mismatch(before: ModelProto, after: ModelProto, names: Mapping[str, str]) -> str:
    """What differs between the models' signatures, in one line; empty when nothing does.

    ``names`` maps inputs and outputs that were renamed on purpose. Dims may become more definite
    (that is what fixing shapes does), never different.
    """
    old = [names.get(o.name, o.name) for o in before.graph.output]
    new = [o.name for o in after.graph.output]
    if old != new:
        return f"the outputs are {_listed(new)}, were {_listed(old)}"
    for a, b in zip(before.graph.output, after.graph.output, strict=True):
        if a.type.WhichOneof("value") and b.type.WhichOneof("value"):
            different = _types(a.type, b.type)
            if different:
                return f"output '{b.name}' {different}"
    return _inputs(before, after, names)


def _inputs(before: ModelProto, after: ModelProto, names: Mapping[str, str]) -> str:
    old = {names.get(i.name, i.name): i.type for i in before.graph.input}
    new = {i.name: i.type for i in after.graph.input}
    gone = [names.get(i.name, i.name) for i in required_inputs(before)]
    for name in gone:
        if name not in new:
            return f"input '{name}' is gone"
    for info in required_inputs(after):
        if info.name not in old:
            return f"input '{info.name}' is new"
        different = _types(old[info.name], info.type)
        if different:
            return f"input '{info.name}' {different}"
    kept = [n for n in old if n in new]
    order = [n for n in new if n in old]
    return f"the inputs are {_listed(order)}, were {_listed(kept)}" if order != kept else ""


def changes(before: ModelProto, after: ModelProto, names: Mapping[str, str]) -> list[str]:
    """What callers of the model have to know: ends with new names, inputs that take fewer sizes."""
    told = [f"'{old}' is called '{new}' now" for old, new in names.items()]
    now = {i.name: i.type for i in after.graph.input}
    for info in before.graph.input:
        name = names.get(info.name, info.name)
        old, new = _spelled(info.type), _spelled(now[name]) if name in now else ""
        if old and new and old != new:
            told.append(f"input '{name}' is {new} now, was {old}")
    return told


def _spelled(kind: TypeProto) -> str:
    """The shape of a tensor type as [1, 3, height]; empty when there is none."""
    tensor = tensor_type(kind)
    if tensor is None or not tensor.HasField("shape"):
        return ""
    dims = tensor.shape.dim
    sizes = (str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in dims)
    return f"[{', '.join(sizes)}]"


def _types(a: TypeProto, b: TypeProto) -> str:
    if a.WhichOneof("value") != b.WhichOneof("value"):
        return f"is a {b.WhichOneof('value')}, was a {a.WhichOneof('value')}"
    x, y = tensor_type(a), tensor_type(b)
    if x is None or y is None:
        return ""
    if x.elem_type and y.elem_type and x.elem_type != y.elem_type:
        return f"is {_dtype(y)}, was {_dtype(x)}"
    return _dims(x, y)


def other_dims(a: TypeProto, b: TypeProto) -> str:
    """How the dims of two tensor types contradict each other; empty when some shape fits both."""
    x, y = tensor_type(a), tensor_type(b)
    return _dims(x, y) if x is not None and y is not None else ""


def _dims(x: TypeProto.Tensor, y: TypeProto.Tensor) -> str:
    if not x.HasField("shape") or not y.HasField("shape"):
        return ""
    if len(x.shape.dim) != len(y.shape.dim):
        return f"has {len(y.shape.dim)} dims, had {len(x.shape.dim)}"
    for p, q in zip(x.shape.dim, y.shape.dim, strict=True):
        if (
            p.HasField("dim_value")
            and q.HasField("dim_value")
            and p.dim_value != q.dim_value > 0 < p.dim_value
        ):
            return f"has a dim of {q.dim_value}, was {p.dim_value}"
    return ""


def _dtype(t: TypeProto.Tensor) -> str:
    return str(onnx.TensorProto.DataType.Name(t.elem_type)).lower()


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:4])
    return f"{shown}, … ({len(names)})" if len(names) > 4 else shown or "none"


def common_inputs(before: ModelProto, after: ModelProto, names: Mapping[str, str]) -> ModelProto:
    """The original's outline with the dims that the rewritten model has fixed: what both accept."""
    both = outline(before)
    fixed = {i.name: i.type for i in after.graph.input}
    for info in both.graph.input:
        other = fixed.get(names.get(info.name, info.name))
        mine, theirs = tensor_type(info.type), tensor_type(other) if other is not None else None
        if mine is None or theirs is None:
            continue
        if not mine.HasField("shape") and theirs.HasField("shape"):
            mine.shape.CopyFrom(theirs.shape)
        if len(mine.shape.dim) != len(theirs.shape.dim):
            continue
        for p, q in zip(mine.shape.dim, theirs.shape.dim, strict=True):
            if q.HasField("dim_value") and q.dim_value >= 0:
                p.CopyFrom(q)
    return both
