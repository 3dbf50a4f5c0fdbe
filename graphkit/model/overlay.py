"""Export by overlay: the original bytes, with the messages that a pass touched spliced in.

GraphSurgeon's graph is compared, object by object, with the records of what was read. Whatever still says
the same is copied from the file as it stands there; in a message that changed, only its changed fields are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx

from graphkit.model import encode, wire
from graphkit.model import records as r
from graphkit.model.external import data_ref
from graphkit.model.scopes import Live, LiveScope, Names, ordered
from graphkit.model.surgeon import (
    AttributeRef,
    Constant,
    GsGraph,
    Node,
    Stored,
    StoredSparse,
    Tensor,
    at_home,
    exported,
    stored_tensors,
)

A = onnx.AttributeProto
Edits = dict[int, Sequence[wire.Item]]


@dataclass
class Origin:
    """Where something that a pass made comes from: the pass, and the original tensors it stands for."""

    spec: str
    of: list[str] = field(default_factory=list)


class Overlay:
    """One export of a model in its present state.

    A ``light`` one leaves out the data of large initializers, and one without ``value_info`` those: they
    serve the checker and shape inference, and cost little for a model of any size.
    """

    def __init__(
        self,
        records: r.Records,
        live: Live,
        origins: Mapping[int, tuple[Any, Origin]],
        *,
        light: bool = False,
        value_info: bool = True,
    ) -> None:
        self._records = records
        self.live = live
        self._origins = origins
        self._light = light
        self._value_info = value_info
        self.locations = set(records.opaque_locations)

    # -- scopes

    def graph(self, scope: LiveScope) -> tuple[wire.Parts, bool]:
        """The bytes of a GraphProto, and whether they differ from the original's."""
        record, surgeon = scope.record, scope.surgeon
        edits: Edits = {}
        self._nodes(scope, r.GRAPH_NODE, edits)
        self._text(edits, r.GRAPH_NAME, record.name, surgeon.name or "")
        self._text(edits, r.GRAPH_DOC, record.doc, surgeon.doc_string or "")
        self._initializers(scope, edits)
        self._infos(scope, r.GRAPH_INPUT, self._inputs(scope), edits)
        self._infos(scope, r.GRAPH_OUTPUT, self._listed(scope, r.GRAPH_OUTPUT, surgeon.outputs), edits)
        if not self._value_info:
            edits[r.GRAPH_VALUE_INFO] = []
        else:
            self._infos(scope, r.GRAPH_VALUE_INFO, self._value_infos(scope, r.GRAPH_VALUE_INFO), edits)
        self._annotations(scope, edits)
        return _spliced(record.view, record.fields, edits)

    def function(self, scope: LiveScope) -> tuple[wire.Parts, bool]:
        """The bytes of a FunctionProto, and whether they differ from the original's."""
        record, surgeon = scope.record, scope.surgeon
        edits: Edits = {}
        self._nodes(scope, r.FUNCTION_NODE, edits)
        self._text(edits, r.FUNCTION_NAME, record.name if len(record.view) else "", surgeon.name)
        self._text(edits, r.FUNCTION_DOMAIN, record.domain, surgeon.domain or "")
        self._text(edits, r.FUNCTION_DOC, record.doc, surgeon.doc_string or "")
        for number, was, now in (
            (r.FUNCTION_INPUT, record.inputs, surgeon.inputs),
            (r.FUNCTION_OUTPUT, record.outputs, surgeon.outputs),
        ):
            names = tuple(t.name for t in now)
            if names != was:
                edits[number] = [wire.text_field(number, n) for n in names]
        self.opsets(scope, r.FUNCTION_OPSET, edits)
        self._function_attributes(scope, edits)
        self._infos(scope, r.FUNCTION_VALUE_INFO, self._value_infos(scope, r.FUNCTION_VALUE_INFO), edits)
        return _spliced(record.view, record.fields, edits)

    def _function_attributes(self, scope: LiveScope, edits: Edits) -> None:
        old, new = scope.record.attributes, scope.surgeon.attrs
        required = [n for n, v in new.items() if v is None]
        if required != [n for n, v in old.items() if v is None]:
            edits[r.FUNCTION_ATTRIBUTE] = [wire.text_field(r.FUNCTION_ATTRIBUTE, n) for n in required]
        known = {n: v for n, v in old.items() if v is not None}
        given = {n: v for n, v in new.items() if v is not None}
        items, changed = self._attributes(given, known, scope, r.FUNCTION_ATTRIBUTE_PROTO, lambda name: None)
        if changed:
            edits[r.FUNCTION_ATTRIBUTE_PROTO] = items

    def opsets(self, scope: LiveScope, number: int, edits: Edits) -> None:
        """Opset imports: those of the file, what a pass set, and the domains that its new nodes use."""
        wanted = self.live.versions(scope)
        if wanted == scope.record.domains:
            return
        is_function = scope.record.is_function
        view = scope.record.view if is_function else scope.imports_view
        entries = wire.payloads(view, scope.record.fields if is_function else scope.imports_fields, number)
        had = [onnx.OperatorSetIdProto.FromString(bytes(payload)) for payload in entries]
        left = {ordinal: (o.domain, o.version) for ordinal, o in enumerate(had)}
        items: list[wire.Item] = []
        for pair in wanted:
            ordinal = next((place for place, other in left.items() if other == pair), None)
            if ordinal is not None:
                del left[ordinal]
            items.append(_opset(number, *pair) if ordinal is None else ordinal)
        edits[number] = items

    @staticmethod
    def _text(edits: Edits, number: int, was: str, now: str) -> None:
        if was != now:
            edits[number] = [wire.text_field(number, now)] if now else []

    # -- nodes

    def _nodes(self, scope: LiveScope, number: int, edits: Edits) -> None:
        items: list[wire.Item] = []
        changed = False
        for constant in scope.constant_nodes:
            items.append(wire.bytes_field(number, self._constant_node(constant)))
            changed = True
        nodes = list(scope.surgeon.nodes)
        if [id(n) for n in nodes] != list(scope.record.nodes):
            nodes = ordered(nodes)
        for node in nodes:
            parts, touched = self.node(node, scope)
            record = scope.record.nodes.get(id(node))
            if record is not None and not touched:
                items.append(record.ordinal)
            else:
                items.append(wire.bytes_field(number, parts))
                changed = True
        kept = [item for item in items if isinstance(item, int)]
        if changed or kept != list(range(len(scope.record.nodes))):
            edits[number] = items

    def _constant_node(self, constant: Tensor) -> wire.Parts:
        """A function has no initializers: its constants are nodes."""
        proto = onnx.NodeProto(op_type="Constant", output=[constant.name])
        tensor, _ = self._tensor(constant, None)
        value = encode.attribute_with("value", A.TENSOR, r.ATTRIBUTE_TENSOR, tensor)
        return [proto.SerializeToString(), *wire.bytes_field(r.NODE_ATTRIBUTE, value)]

    def node(self, node: Node, scope: LiveScope) -> tuple[wire.Parts, bool]:
        """The bytes of a NodeProto, and whether they differ from the original's."""
        record = self._records.nodes.get(id(node)) or _NEW_NODE
        edits: Edits = {}
        names = self._names(record, node, edits)
        domain = node.domain or ""
        self._text(edits, r.NODE_NAME, record.name, node.name or "")
        self._text(edits, r.NODE_OP, record.op, node.op)
        self._text(edits, r.NODE_DOMAIN, record.domain, domain)
        if edits and (record.op, record.domain) != (node.op, domain):
            edits[r.NODE_OVERLOAD] = []  # it chose among functions of the old name
        version = self.live.version(scope, domain)
        items, changed = self._attributes(
            node.attrs,
            record.attributes,
            scope,
            r.NODE_ATTRIBUTE,
            lambda name: encode.schema_type(node.op, domain, version, name),
        )
        if changed:
            edits[r.NODE_ATTRIBUTE] = items
        noted = id(node) in self._origins and not self._light  # nobody asks a skeleton where it comes from
        if not edits and not noted:
            return [record.view], record is _NEW_NODE
        fields = wire.scan(record.view)
        if not self._light:
            self._note_origin(node, record, fields, edits)
        if record.has_devices and names:
            edits[r.NODE_DEVICES] = _renamed_devices(record.view, fields, names)
        return _spliced(record.view, fields, edits)

    def _names(self, record: r.NodeRecord, node: Node, edits: Edits) -> Names:
        """Note inputs and outputs that have other names now; return old name -> new name."""
        renamed: Names = {}
        for number, was, tensors in (
            (r.NODE_INPUT, record.inputs, node.inputs),
            (r.NODE_OUTPUT, record.outputs, node.outputs),
        ):
            now = tuple(t.name for t in tensors)
            if now == was:
                continue
            edits[number] = [wire.text_field(number, n) for n in now]
            if len(now) == len(was):
                renamed.update((old, new) for old, new in zip(was, now, strict=True) if old and new)
        return renamed

    def _note_origin(
        self, node: Node, record: r.NodeRecord, fields: Sequence[wire.Field], edits: Edits
    ) -> None:
        entry = self._origins.get(id(node))
        same = self.live.renamed(node.outputs) if record is not _NEW_NODE else {}
        if entry is None and not same:
            return
        made = entry[1] if entry is not None else Origin(self.live.spec)
        if record is _NEW_NODE:
            same = {t.name: s for t in node.outputs if (s := self.live.first_name(t)) not in (None, t.name)}
        text = encode.origin(made.spec, made.of, same)
        edits[r.NODE_METADATA] = encode.with_origin(record.view, fields, r.NODE_METADATA, text)

    # -- attributes

    def _attributes(
        self,
        values: Mapping[str, Any],
        known: Mapping[str, Any],
        scope: LiveScope,
        number: int,
        kind_of: Any,
    ) -> tuple[list[wire.Item], bool]:
        items: list[wire.Item] = []
        changed = list(values) != list(known)
        for name, value in values.items():
            record = known.get(name)
            parts = self._attribute(name, value, record, scope, kind_of)
            if parts is None and record is not None:
                items.append(record.ordinal)
            else:
                items.append(wire.bytes_field(number, parts or []))
                changed = True
        return items, changed

    def _attribute(
        self, name: str, value: Any, record: r.AttributeRecord | None, scope: LiveScope, kind_of: Any
    ) -> wire.Parts | None:
        """New bytes of one attribute; None when the original's will do."""
        if isinstance(value, GsGraph):
            parts, touched = self.graph(self.live.scope(value))
            if record is not None and record.value is value:
                return _inside(record.view, r.ATTRIBUTE_GRAPH, parts) if touched else None
            new = encode.attribute_with(name, A.GRAPH, r.ATTRIBUTE_GRAPH, parts)
        elif isinstance(value, Constant):
            stored = record.frozen if record is not None and record.value is value else None
            parts, touched = self._tensor(value, stored)
            if record is not None and stored is not None:
                return _inside(record.view, r.ATTRIBUTE_TENSOR, parts) if touched else None
            new = encode.attribute_with(name, A.TENSOR, r.ATTRIBUTE_TENSOR, parts)
        elif record is not None and _is_still(value, record):
            return None
        else:
            kind = A.FromString(bytes(record.view)).type if record is not None else kind_of(name)
            new = encode.attribute(name, value, kind or None)
        return new if record is None else encode.revalued(record.view, new)

    # -- tensors

    def _tensor(self, constant: Tensor, stored: Any) -> tuple[wire.Parts, bool]:
        """The bytes of a constant's tensor; ``stored`` is what the file held for it, None if nothing."""
        values = at_home(constant)
        self._note_location(values)
        entry = self._origins.get(id(constant))
        if isinstance(values, StoredSparse):
            if constant.name == values.header.values.name:
                return [values.view], values is not stored
            return encode.renamed_sparse(values.view, constant.name, self._renamed_from(constant)), True
        if not isinstance(values, Stored) and stored is not None and stored.is_still(values):
            values = stored
        if isinstance(values, Stored):
            if constant.name == values.header.name and entry is None:
                return [values.view], values is not stored
            return encode.renamed_tensor(values.view, constant.name, self._renamed_from(constant)), True
        header = stored.header if isinstance(stored, Stored) else None
        parts = encode.dense(exported(constant), constant.name, header)
        if entry is None:
            return parts, True
        return encode.renamed_tensor(b"".join(parts), constant.name, self._renamed_from(constant)), True

    def _note_location(self, values: Any) -> None:
        for tensor in stored_tensors(values):
            ref = data_ref(tensor)
            if ref is not None:
                self.locations.add(ref.location)

    def _renamed_from(self, tensor: Tensor) -> str | None:
        entry = self._origins.get(id(tensor))
        same = self.live.renamed([tensor])
        if entry is None and not same:
            return None
        made = entry[1] if entry is not None else Origin(self.live.spec)
        return encode.origin(made.spec, made.of, same)

    def _initializers(self, scope: LiveScope, edits: Edits) -> None:
        items: dict[int, list[wire.Item]] = {r.GRAPH_INITIALIZER: [], r.GRAPH_SPARSE: []}
        for constant in scope.constants:
            record = scope.record.initializers.get(id(constant))
            number = r.GRAPH_SPARSE if _is_sparse(constant, record) else r.GRAPH_INITIALIZER
            short = encode.stub(constant) if self._light else None
            if short is not None:
                items[number].append(wire.bytes_field(number, short))
                continue
            parts, touched = self._tensor(constant, record.stored if record is not None else None)
            if record is not None and not touched and record.field == number:
                items[number].append(record.ordinal)
            else:
                items[number].append(wire.bytes_field(number, parts))
        for number, new in items.items():
            count = sum(1 for i in scope.record.initializers.values() if i.field == number)
            if new != list(range(count)):
                edits[number] = new

    # -- value infos

    def _infos(self, scope: LiveScope, number: int, items: list[wire.Item], edits: Edits) -> None:
        if items != list(range(wire.count(scope.record.fields, number))):
            edits[number] = items

    def _inputs(self, scope: LiveScope) -> list[wire.Item]:
        """Graph inputs; those with an initializer, which GraphSurgeon does not list, stay in place."""
        entries = self._entries(scope, r.GRAPH_INPUT, scope.surgeon.inputs)
        kept = {id(c) for c in scope.constants}
        for hidden in scope.record.hidden_inputs:
            if id(hidden.tensor) in kept:
                before = [
                    place for place, (ordinal, _) in enumerate(entries) if -1 < ordinal < hidden.ordinal
                ]
                place = before[-1] + 1 if before else 0
                entries.insert(place, (hidden.ordinal, self._info(hidden, scope)))
        known = scope.record.initializers
        if self.live.ir_version < 4:  # where each initializer must be an input too
            new = (c for c in scope.constants if id(c) not in known)
            entries.extend((-1, self._new_info(c, r.GRAPH_INPUT, scope)) for c in new)
        return [item for _, item in entries]

    def _listed(self, scope: LiveScope, number: int, tensors: Iterable[Tensor]) -> list[wire.Item]:
        """The entries of an input or output list that now reads ``tensors``."""
        return [item for _, item in self._entries(scope, number, tensors)]

    def _entries(
        self, scope: LiveScope, number: int, tensors: Iterable[Tensor]
    ) -> list[tuple[int, wire.Item]]:
        """The same, each with the ordinal that it had in the file; -1 when it is new."""
        mine: dict[int, list[r.InfoRecord]] = {}
        for info in scope.record.infos:
            if info.field == number:
                mine.setdefault(id(info.tensor), []).append(info)
        entries: list[tuple[int, wire.Item]] = []
        for tensor in tensors:
            queue = mine.get(id(tensor))
            if queue:
                info = queue.pop(0)
                entries.append((info.ordinal, self._info(info, scope)))
            else:
                entries.append((-1, self._new_info(tensor, number, scope)))
        return entries

    def _value_infos(self, scope: LiveScope, number: int) -> list[wire.Item]:
        listed = {id(t) for t in (*scope.surgeon.inputs, *scope.surgeon.outputs)}
        described = {id(i.tensor) for i in scope.record.infos if i.field == number}
        items: list[wire.Item] = []
        ends = {id(i.tensor) for i in scope.record.infos if i.field in (r.GRAPH_INPUT, r.GRAPH_OUTPUT)}
        moved = set() if scope.record.is_function else listed - ends  # their list says it from now on
        for info in scope.record.infos:
            if info.field != number or id(info.tensor) in moved:
                continue
            if info.idle or self.live.has(info.tensor):
                items.append(self._info(info, scope))
        if scope.record.is_function:
            return items
        for tensor in scope.produced:
            if id(tensor) in described or id(tensor) in listed or isinstance(tensor, Constant):
                continue
            was = self._records.was(tensor)
            told = was is not None and id(tensor) in scope.infos
            if tensor.dtype is not None and (was is None or told or was[1:] != r.state_of(tensor)[1:]):
                items.append(self._new_info(tensor, number, scope))
        return items

    def _info(self, info: r.InfoRecord, scope: LiveScope) -> wire.Item:
        """One value info that the file had: its ordinal, or new bytes when its tensor changed."""
        tensor, was = info.tensor, self._records.was(info.tensor)
        own = scope.record.local.get(info.name) is tensor
        if (
            was is None
            or was == r.state_of(tensor)
            or (isinstance(tensor, Constant) and was[0] == tensor.name)
        ):
            return info.ordinal
        if not own:  # a subgraph's note on an outer tensor follows its name only
            was = (was[0], *r.state_of(tensor)[1:])
        parts = encode.value_info(tensor, info.view, was, self._renamed_from(tensor))
        return wire.bytes_field(info.field, parts)

    def _new_info(self, tensor: Tensor, number: int, scope: LiveScope) -> wire.Item:
        """A value info that the list lacked; what another list says of the tensor is taken along."""
        info = scope.infos.get(id(tensor))
        if info is not None:
            was = self._records.was(tensor)
            parts = encode.value_info(tensor, info.view, was, self._renamed_from(tensor))
            return wire.bytes_field(number, parts)
        return wire.bytes_field(number, encode.value_info(tensor, b"", None, None))

    def _annotations(self, scope: LiveScope, edits: Edits) -> None:
        """Quantization annotations follow the names of their tensors, and go with them."""
        entries = wire.payloads(scope.record.view, scope.record.fields, r.GRAPH_ANNOTATION)
        if not entries:
            return
        names = self.live.names(scope)
        items: list[wire.Item] = []
        for ordinal, payload in enumerate(entries):
            proto = onnx.TensorAnnotation.FromString(bytes(payload))
            tensor = scope.record.local.get(proto.tensor_name)
            if tensor is not None and not self.live.has(tensor):
                continue
            items.append(_renamed_annotation(ordinal, proto, names))
        if items != list(range(len(entries))):
            edits[r.GRAPH_ANNOTATION] = items


_NEW_NODE = r.NodeRecord(None, b"", -1, "", "", "", (), (), {})


def _spliced(view: wire.Buffer, fields: Sequence[wire.Field], edits: Edits) -> tuple[wire.Parts, bool]:
    if not edits:
        return [view], False
    return wire.splice(view, fields, edits), True


def _inside(view: wire.Buffer, number: int, parts: wire.Parts) -> wire.Parts:
    """The message in ``view`` with its one message field ``number`` replaced."""
    return wire.splice(view, wire.scan(view), {number: [wire.bytes_field(number, parts)]})


def _opset(number: int, domain: str, version: int) -> wire.Parts:
    return wire.bytes_field(number, onnx.helper.make_opsetid(domain, version).SerializeToString())


def _is_sparse(constant: Tensor, record: r.InitializerRecord | None) -> bool:
    if isinstance(constant._values, StoredSparse):
        return True
    return record is not None and record.field == r.GRAPH_SPARSE and record.stored.is_still(constant._values)


def _is_still(value: Any, record: r.AttributeRecord) -> bool:
    """Whether an attribute's value is what the file said."""
    frozen = record.frozen
    if isinstance(value, AttributeRef):
        return value is record.value and value.name == frozen[0]
    if isinstance(frozen, bytes) and hasattr(value, "SerializeToString"):
        return bool(value.SerializeToString() == frozen)
    if isinstance(frozen, tuple) and isinstance(value, list | tuple):
        items = tuple(v.SerializeToString() if hasattr(v, "SerializeToString") else v for v in value)
        return len(items) == len(frozen) and all(map(_same, items, frozen))
    return value is record.value or (type(value) is type(frozen) and _same(value, frozen))


def _same(a: Any, b: Any) -> bool:
    """Equal; floats in every bit, since -0.0 == 0.0 and NaN != NaN."""
    if isinstance(a, float) and isinstance(b, float):
        return struct.pack("d", a) == struct.pack("d", b)
    return bool(a == b)


def _renamed_annotation(ordinal: int, proto: onnx.TensorAnnotation, names: Names) -> wire.Item:
    before = proto.SerializeToString()
    if proto.tensor_name in names:
        proto.tensor_name = names[proto.tensor_name]
    for entry in proto.quant_parameter_tensor_names:
        if entry.value in names:
            entry.value = names[entry.value]
    after = proto.SerializeToString()
    return ordinal if after == before else wire.bytes_field(r.GRAPH_ANNOTATION, after)


def _renamed_devices(view: wire.Buffer, fields: Sequence[wire.Field], names: Names) -> list[wire.Item]:
    """Sharding specs name the tensors of their node; they follow."""
    items: list[wire.Item] = []
    for payload in wire.payloads(view, fields, r.NODE_DEVICES):
        proto = onnx.NodeDeviceConfigurationProto.FromString(bytes(payload))
        for spec in proto.sharding_spec:
            if spec.tensor_name in names:
                spec.tensor_name = names[spec.tensor_name]
        items.append(wire.bytes_field(r.NODE_DEVICES, proto.SerializeToString()))
    return items


__all__ = ["Origin", "Overlay"]
