"""New messages for what a pass made or changed: attributes, tensors, value infos."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import onnx
from google.protobuf.message import Message

from graphkit.errors import PassFailed
from graphkit.model import records as r
from graphkit.model import wire
from graphkit.model.surgeon import (
    Array,
    AttributeRef,
    Constant,
    Stored,
    StoredSparse,
    Tensor,
    onnx_attribute_type,
    onnx_dtype,
    tensor_proto,
)
from graphkit.model.text import ORIGIN_KEY

A = onnx.AttributeProto
LARGEST_TENSOR = (1 << 31) - (1 << 16)
STUB_OVER = 1024
"""Initializers larger than this many bytes are left out of a skeleton: no shape depends on them."""


def attribute(name: str, value: Any, kind: int | None) -> wire.Parts:
    """Encode an AttributeProto; ``kind`` is the type that the schema or the original gives it, if known."""
    try:
        proto = _attribute_proto(name, value, kind)
    except (TypeError, ValueError, AttributeError) as error:
        raise PassFailed(f"attribute '{name}' cannot hold {value!r} ({error})") from error
    return [proto.SerializeToString()]


def _attribute_proto(name: str, value: Any, kind: int | None) -> onnx.AttributeProto:
    if isinstance(value, onnx.AttributeProto):
        return value
    if isinstance(value, AttributeRef):
        named = onnx_attribute_type(value.type) or kind or A.UNDEFINED
        return A(name=name, ref_attr_name=value.name, type=_kind(named))
    if isinstance(value, np.dtype | type):
        value = onnx_dtype(value)
    if isinstance(value, np.ndarray):
        value = tensor_proto(value, "") if kind in (None, A.TENSOR) else value.tolist()
    if isinstance(value, Message) or kind is None or kind not in _SETTERS:
        return onnx.helper.make_attribute(name, value.item() if isinstance(value, np.generic) else value)
    proto = A(name=name, type=_kind(kind))
    _SETTERS[kind](proto, value)
    return proto


def _kind(number: int) -> Any:
    return number  # the stubs know the enum's members only, not their numbers


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def _integer(value: Any) -> int:
    if int(value) != value:
        raise ValueError("it is no integer")
    return int(value)


_SETTERS: dict[int, Any] = {
    A.FLOAT: lambda p, v: setattr(p, "f", float(v)),
    A.INT: lambda p, v: setattr(p, "i", _integer(v)),
    A.STRING: lambda p, v: setattr(p, "s", _bytes(v)),
    A.FLOATS: lambda p, v: p.floats.extend(float(x) for x in v),
    A.INTS: lambda p, v: p.ints.extend(_integer(x) for x in v),
    A.STRINGS: lambda p, v: p.strings.extend(_bytes(x) for x in v),
}


def attribute_with(name: str, kind: int, field: int, payload: wire.Parts) -> wire.Parts:
    """Encode an attribute whose one message field (a tensor or a graph) is encoded already."""
    return [A(name=name, type=_kind(kind)).SerializeToString(), *wire.bytes_field(field, payload)]


def revalued(view: wire.Buffer, new: wire.Parts) -> wire.Parts:
    """The attribute in ``view`` with the value of ``new``; its doc string and what we do not know stay."""
    fresh = b"".join(new)
    edits: dict[int, list[wire.Item]] = {number: [] for number in _VALUE_FIELDS}
    for f in wire.scan(fresh):
        if f.number in _VALUE_FIELDS:
            edits[f.number].append([fresh[f.start : f.end]])
    return wire.splice(view, wire.scan(view), edits, _VALUE_FIELDS)


_VALUE_FIELDS = frozenset({*range(2, 12), 14, 15, 20, 21, 22, 23})


def schema_type(op: str, domain: str, version: int, name: str) -> int | None:
    """The attribute type that the operator's schema declares; None when there is no such schema."""
    try:
        schema = onnx.defs.get_schema(op, version, domain) if version else onnx.defs.get_schema(op, domain)
    except onnx.defs.SchemaError:
        return None
    declared = schema.attributes.get(name)
    return None if declared is None else int(cast(Any, declared.type).value)


def dense(values: Array, name: str, header: onnx.TensorProto | None = None) -> wire.Parts:
    """Encode new values; what the old tensor said besides (doc string, metadata) is kept."""
    if values.dtype != object and values.nbytes > LARGEST_TENSOR:
        raise PassFailed(
            f"constant '{name}' is {values.nbytes} bytes: values that a pass changes go into the model file, "
            "which holds 2 GiB at most; leave weights of that size alone"
        )
    try:
        proto = tensor_proto(values, name)
    except (TypeError, ValueError, KeyError, NotImplementedError) as error:
        raise PassFailed(
            f"constant '{name}' of dtype {np.asarray(values).dtype} has no ONNX type ({error})"
        ) from error
    if header is not None:
        proto.metadata_props.extend(header.metadata_props)
        if header.HasField("doc_string"):
            proto.doc_string = header.doc_string
    return [proto.SerializeToString()]


def renamed_tensor(view: wire.Buffer, name: str, origin: str | None) -> wire.Parts:
    """A TensorProto under another name, its data bytes or its reference to them as they were."""
    fields = wire.scan(view)
    edits: dict[int, Sequence[wire.Item]] = {r.TENSOR_NAME: [wire.text_field(r.TENSOR_NAME, name)]}
    if origin is not None:
        edits[r.TENSOR_METADATA] = with_origin(view, fields, r.TENSOR_METADATA, origin)
    return wire.splice(view, fields, edits)


def renamed_sparse(view: wire.Buffer, name: str, origin: str | None) -> wire.Parts:
    """A SparseTensorProto under another name: it is the name of its values."""
    fields = wire.scan(view)
    values = wire.merged(view, fields, 1)
    inner = renamed_tensor(values if values is not None else b"", name, origin)
    return wire.splice(view, fields, {1: [wire.bytes_field(1, inner)]})


def with_origin(view: wire.Buffer, fields: Sequence[wire.Field], number: int, origin: str) -> list[wire.Item]:
    """The metadata_props of a message with our entry set; all others stay as they are."""
    kept: list[wire.Item] = []
    for ordinal, payload in enumerate(wire.payloads(view, fields, number)):
        if onnx.StringStringEntryProto.FromString(bytes(payload)).key != ORIGIN_KEY:
            kept.append(ordinal)
    return [*kept, entry(number, ORIGIN_KEY, origin)]


def entry(number: int, key: str, value: str) -> wire.Parts:
    """One entry of a metadata_props, which is field ``number``."""
    return wire.bytes_field(number, onnx.StringStringEntryProto(key=key, value=value).SerializeToString())


def origin(spec: str, of: Sequence[str], same: Mapping[str, str]) -> str:
    """The text under ``graphkit.origin``: the pass, the tensors it replaced, and new names of old values."""
    told: dict[str, Any] = {"pass": spec}
    if of:
        told["of"] = list(of)
    if same:
        told["same"] = dict(same)
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


def spec_in(metadata: Iterable[onnx.StringStringEntryProto]) -> str:
    """The pass that an entry written by :func:`origin` names; empty without one."""
    for prop in metadata:
        if prop.key == ORIGIN_KEY:
            try:
                return str(json.loads(prop.value).get("pass", ""))
            except (ValueError, AttributeError):
                return ""  # somebody else's text under our key
    return ""


def stub(tensor: Tensor) -> wire.Parts | None:
    """A tensor without its data, for a skeleton model; None when it is small enough to go in whole."""
    values = tensor._values
    if values.nbytes <= STUB_OVER:
        return None
    data_type = values.header.data_type if isinstance(values, Stored) else None
    if isinstance(values, StoredSparse):
        return None
    proto = onnx.TensorProto(
        name=tensor.name, dims=list(values.shape), data_location=onnx.TensorProto.EXTERNAL
    )
    proto.data_type = data_type if data_type is not None else onnx_dtype(values.dtype)
    proto.external_data.add(key="location", value="left-out")
    return [proto.SerializeToString()]


def value_info(tensor: Tensor, view: wire.Buffer, was: r.State | None, origin_text: str | None) -> wire.Parts:
    """A ValueInfoProto for ``tensor``, made from the original message ``view`` (may be empty)."""
    fields = wire.scan(view)
    edits: dict[int, Sequence[wire.Item]] = {}
    if was is None or was[0] != tensor.name:
        edits[r.INFO_NAME] = [wire.text_field(r.INFO_NAME, tensor.name)]
        if origin_text is not None:
            edits[r.INFO_METADATA] = with_origin(view, fields, r.INFO_METADATA, origin_text)
    now = r.state_of(tensor)
    if isinstance(tensor, Constant):
        now = (tensor.name, tensor.export_dtype, tuple(tensor.shape))
        was = was if len(view) else None
    if was is None or (not isinstance(tensor, Constant) and was[1:] != now[1:]):
        old = onnx.ValueInfoProto.FromString(bytes(view)).type
        kind = _type_proto(getattr(tensor, "type", None) or "tensor_type", now[1], now[2], old, tensor.name)
        edits[2] = [wire.bytes_field(2, kind.SerializeToString())] if kind.WhichOneof("value") else []
    return wire.splice(view, fields, edits)


def _type_proto(
    kind: str, dtype: Any, shape: tuple[Any, ...] | None, old: onnx.TypeProto, name: str
) -> onnx.TypeProto:
    """``old`` with another element type and shape; denotations of dims that stay are kept."""
    proto = onnx.TypeProto()
    proto.CopyFrom(old)
    if kind == "sequence_type":
        inner = proto.sequence_type.elem_type.tensor_type
    elif kind in ("tensor_type", "sparse_tensor_type"):
        inner = getattr(proto, kind)
    else:
        raise PassFailed(f"tensor '{name}' is a {kind}: its dtype and shape cannot be changed")
    if dtype is None:
        return old if shape is None else onnx.TypeProto()
    inner.elem_type = onnx_dtype(dtype)
    if shape is None:
        inner.ClearField("shape")
        return proto
    before = list(inner.shape.dim)
    del inner.shape.dim[:]
    inner.shape.SetInParent()
    for place, size in enumerate(shape):
        dim = inner.shape.dim.add()
        if len(before) == len(shape) and before[place].HasField("denotation"):
            dim.denotation = before[place].denotation
        if isinstance(size, str):
            dim.dim_param = size
        elif size is not None and int(size) != size:
            raise PassFailed(f"tensor '{name}' has a dim of {size}; a dim is a whole number, a name, or None")
        elif size is not None and size >= 0:  # GraphSurgeon's -1 says unknown
            dim.dim_value = int(size)
    return proto
