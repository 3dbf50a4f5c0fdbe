"""From wire bytes to GraphSurgeon objects: every message is remembered, none is copied unless it must be.

Names are bound by ONNX's own rule (the innermost definition wins), which GraphSurgeon's importer does not
follow for initializers of subgraphs; see https://onnx.ai/onnx/repo-docs/IR.html#names-within-a-graph.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import Message

from graphkit.errors import BadInput
from graphkit.model import external, wire
from graphkit.model import records as r
from graphkit.model.disk import shown
from graphkit.model.messages import parse
from graphkit.model.surgeon import (
    AttributeRef,
    Constant,
    GsFunction,
    GsGraph,
    GsNode,
    Node,
    Stored,
    StoredSparse,
    Surgeon,
    Tensor,
    Variable,
    attribute_type,
    stored_tensors,
    surgeon_dtype,
)
from graphkit.model.text import ORIGIN_KEY

A = onnx.AttributeProto


class Reader:
    """Builds the GraphSurgeon twin of one model, and the records that tie the two together."""

    def __init__(self, shell: onnx.ModelProto, folder: Path | None) -> None:
        self.records = r.Records()
        self.opaque_graphs: list[onnx.GraphProto] = []
        self._folder = folder
        for one in shell.opset_import:
            if not 0 <= one.version < 1 << 31:
                raise BadInput(f"not an ONNX model: there is no opset {one.version}; export it again")
        self._imports = [onnx.helper.make_opsetid(o.domain, o.version) for o in shell.opset_import]
        self._opset = default_version(self._imports)
        self._ir = shell.ir_version

    def model(self, graph: memoryview, functions: Iterable[memoryview], shell: onnx.ModelProto) -> Surgeon:
        """Read the main graph and the local functions of the model whose other fields are ``shell``."""
        made = [self.function(view, ordinal) for ordinal, view in enumerate(functions)]
        main = self.graph(graph, None, functions=made)
        main.producer_name, main.producer_version = shell.producer_name, shell.producer_version
        main.ir_version = shell.ir_version or None
        self._note_idle()
        return main

    def _note_idle(self) -> None:
        """Note which initializers and value infos nothing refers to: they stay until a pass removes them."""
        scopes = list(self.records.scopes.values())
        for scope in scopes:
            for hidden in scope.hidden_inputs:
                scope.initializers[id(hidden.tensor)].overridable = self._ir >= 4
        ends = {id(t) for s in scopes for t in (*s.surgeon.outputs, *s.surgeon.inputs)}
        for initializer in self.records.initializers.values():
            initializer.used = bool(initializer.tensor.outputs) or id(initializer.tensor) in ends
        for info in (i for s in scopes for i in s.infos):
            info.idle = not info.tensor.outputs and not info.tensor.inputs and id(info.tensor) not in ends

    # -- scopes

    def graph(
        self, view: wire.Buffer, parent: r.ScopeRecord | None, functions: list[Surgeon] | None = None
    ) -> Surgeon:
        """Read a GraphProto; ``parent`` is the scope whose names it may capture."""
        fields = wire.scan(view)
        scope = r.ScopeRecord(None, parent, False, view, fields)
        texts = parse(onnx.GraphProto, wire.without(view, fields, _ALL_BUT_TEXT))
        scope.name, scope.doc = texts.name, texts.doc_string
        for note in wire.payloads(view, fields, r.GRAPH_ANNOTATION):
            proto = parse(onnx.TensorAnnotation, note)
            parameters = [entry.value for entry in proto.quant_parameter_tensor_names]
            scope.annotated.setdefault(proto.tensor_name, []).extend(parameters)
        self._initializers(scope)
        infos = self._infos(scope)
        nodes = self._node_protos(scope, r.GRAPH_NODE)
        self._define(scope, [n for n, _ in nodes], infos)
        surgeon_nodes = [self._node(proto, node_view, scope, i) for i, (proto, node_view) in enumerate(nodes)]
        inputs = [i.tensor for i in scope.infos if i.field == r.GRAPH_INPUT]
        outputs = [i.tensor for i in scope.infos if i.field == r.GRAPH_OUTPUT]
        scope.surgeon = GsGraph(
            surgeon_nodes,
            inputs,
            outputs,
            scope.name,
            scope.doc,
            self._opset,
            self._imports,
            functions=functions,
        )
        return self._keep(scope)

    def function(self, view: wire.Buffer, ordinal: int) -> Surgeon:
        """Read a FunctionProto."""
        fields = wire.scan(view)
        proto = parse(onnx.FunctionProto, wire.without(view, fields, frozenset({r.FUNCTION_NODE})))
        _check_text(proto, proto.name, proto.domain, proto.overload, *proto.attribute)
        scope = r.ScopeRecord(None, None, True, view, fields, ordinal)
        scope.name, scope.doc = proto.name, proto.doc_string
        scope.domain, scope.overload = proto.domain, proto.overload
        scope.inputs, scope.outputs = tuple(proto.input), tuple(proto.output)
        imports = list(proto.opset_import)
        scope.domains = [(o.domain, o.version) for o in imports]
        nodes = self._node_protos(scope, r.FUNCTION_NODE)
        for name in [*proto.input, *(o for n, _ in nodes for o in n.output)]:
            self._local(scope, name)
        views = wire.payloads(view, fields, r.FUNCTION_VALUE_INFO)
        for place, info in enumerate(proto.value_info):
            self._info(scope, r.FUNCTION_VALUE_INFO, place, views[place], info)
        attributes = self._function_attributes(proto, scope)
        surgeon_nodes = [self._node(p, v, scope, i) for i, (p, v) in enumerate(nodes)]
        scope.surgeon = GsFunction(
            proto.name,
            proto.domain,
            surgeon_nodes,
            [self._local(scope, name) for name in proto.input],
            [self._local(scope, name) for name in proto.output],
            proto.doc_string,
            default_version(imports) or self._opset,
            imports,
            attrs=attributes,
        )
        return self._keep(scope)

    def _function_attributes(self, proto: onnx.FunctionProto, scope: r.ScopeRecord) -> dict[str, Any]:
        values: dict[str, Any] = dict.fromkeys(proto.attribute)
        scope.attributes.update(dict.fromkeys(proto.attribute))
        views = wire.payloads(scope.view, scope.fields, r.FUNCTION_ATTRIBUTE_PROTO)
        for ordinal, (attribute, view) in enumerate(zip(proto.attribute_proto, views, strict=True)):
            scope.attributes[attribute.name] = record = self._attribute(attribute, view, scope, ordinal)
            values[attribute.name] = record.value
        return values

    def _keep(self, scope: r.ScopeRecord) -> Surgeon:
        scope.opset = scope.surgeon.opset
        self.records.scopes[id(scope.surgeon)] = scope
        for tensor in scope.local.values():
            self.records.tensors[id(tensor)] = (tensor, r.state_of(tensor))
        return scope.surgeon

    # -- tensors

    def _initializers(self, scope: r.ScopeRecord) -> None:
        for number, kind in ((r.GRAPH_INITIALIZER, Stored), (r.GRAPH_SPARSE, StoredSparse)):
            for ordinal, view in enumerate(wire.payloads(scope.view, scope.fields, number)):
                stored = kind(view, self._folder)
                header = stored.header.values if isinstance(stored, StoredSparse) else stored.header
                self._note_external(stored_tensors(stored))
                self._note_origin(header.metadata_props, [header.name])
                tensor = Constant(header.name, stored, header.data_location or None)
                record = r.InitializerRecord(number, ordinal, view, header.name, tensor, stored)
                scope.initializers[id(tensor)] = self.records.initializers[id(tensor)] = record
                scope.local[header.name] = tensor

    def _infos(self, scope: r.ScopeRecord) -> list[tuple[int, int, memoryview, onnx.ValueInfoProto]]:
        found = []
        for number in (r.GRAPH_INPUT, r.GRAPH_OUTPUT, r.GRAPH_VALUE_INFO):
            for ordinal, view in enumerate(wire.payloads(scope.view, scope.fields, number)):
                found.append((number, ordinal, view, parse(onnx.ValueInfoProto, view)))
        return found

    def _define(
        self,
        scope: r.ScopeRecord,
        nodes: list[onnx.NodeProto],
        infos: list[tuple[int, int, memoryview, onnx.ValueInfoProto]],
    ) -> None:
        """Make the tensors this scope defines before anything refers to them, then attach the value infos."""
        for number, _, _, info in infos:
            if number == r.GRAPH_INPUT:
                self._local(scope, info.name)
        for node in nodes:
            for name in node.output:
                self._local(scope, name)
        for number, ordinal, view, info in infos:
            self._info(scope, number, ordinal, view, info)

    def _info(
        self, scope: r.ScopeRecord, number: int, ordinal: int, view: memoryview, info: onnx.ValueInfoProto
    ) -> None:
        tensor = self._find(scope, info.name)
        record = r.InfoRecord(number, ordinal, view, info.name, tensor)
        self._note_origin(info.metadata_props, [info.name])
        if number == r.GRAPH_INPUT and id(tensor) in scope.initializers:
            # A default value, or IR < 4: GraphSurgeon shows it as a constant only.
            scope.hidden_inputs.append(record)
            return
        scope.infos.append(record)
        own = scope.local.get(info.name) is tensor
        if isinstance(tensor, Constant) or not own:
            return
        kind, dtype, shape = describe(info.type)
        tensor.type = kind or tensor.type
        tensor.dtype = tensor.dtype if tensor.dtype is not None else dtype
        tensor.shape = tensor.shape if tensor.shape is not None else shape

    def _find(self, scope: r.ScopeRecord, name: str) -> Tensor:
        """What ``name`` means in ``scope``; a name that nothing defines gets a tensor of its own."""
        known = scope.resolve(name)
        if known is None:
            known = self._local(scope, name)
            self.records.dangling.add(id(known))
        return known

    def _local(self, scope: r.ScopeRecord, name: str) -> Tensor:
        if not name:
            return Variable.empty()
        tensor = scope.local.get(name)
        if tensor is None:
            tensor = scope.local[name] = Variable(name)
        return tensor

    # -- nodes

    def _node_protos(self, scope: r.ScopeRecord, number: int) -> list[tuple[onnx.NodeProto, memoryview]]:
        return [(parse(onnx.NodeProto, v), v) for v in wire.payloads(scope.view, scope.fields, number)]

    def _node(self, proto: onnx.NodeProto, view: memoryview, scope: r.ScopeRecord, ordinal: int) -> Node:
        _check_text(proto, proto.op_type, proto.domain, proto.overload, *(a.name for a in proto.attribute))
        attributes: dict[str, r.AttributeRecord] = {}
        if proto.attribute:
            fields = [f for f in wire.scan(view) if f.number == r.NODE_ATTRIBUTE]
            for place, (attribute, f) in enumerate(zip(proto.attribute, fields, strict=True)):
                attributes[attribute.name] = self._attribute(attribute, view[f.payload : f.end], scope, place)
        inputs = [self._find(scope, n) for n in proto.input]
        outputs = [self._local(scope, n) for n in proto.output]
        values = {name: record.value for name, record in attributes.items()}
        node = GsNode(proto.op_type, proto.name, values, inputs, outputs, proto.domain or None)
        record = r.NodeRecord(
            node,
            view,
            ordinal,
            proto.op_type,
            proto.name,
            proto.domain,
            tuple(proto.input),
            tuple(proto.output),
            attributes,
            bool(proto.device_configurations),
        )
        scope.nodes[id(node)] = self.records.nodes[id(node)] = record
        self._note_origin(proto.metadata_props, proto.output)
        return node

    def _attribute(
        self, proto: onnx.AttributeProto, view: wire.Buffer, scope: r.ScopeRecord, ordinal: int
    ) -> r.AttributeRecord:
        value, frozen = self._attribute_value(proto, view, scope)
        record = r.AttributeRecord(ordinal, view, value, frozen)
        if isinstance(value, Constant):
            self.records.stored[id(value)] = record
        return record

    def _attribute_value(
        self, proto: onnx.AttributeProto, view: wire.Buffer, scope: r.ScopeRecord
    ) -> tuple[Any, Any]:
        """The value a pass sees, as GraphSurgeon would give it, and a copy that no pass can change."""
        if proto.ref_attr_name:
            return AttributeRef(proto.ref_attr_name, attribute_type(proto.type)), (
                proto.ref_attr_name,
                proto.type,
            )
        if proto.type in _SCALARS:
            value = getattr(proto, _SCALARS[proto.type])
            return value, value
        if proto.type == A.STRING:
            text = _text(proto.s)
            return text, text
        if proto.type in _LISTS:
            items = list(getattr(proto, _LISTS[proto.type]))
            return items, tuple(items)
        if proto.type == A.STRINGS:
            texts = [_text(s) for s in proto.strings]
            return texts, tuple(texts)
        if proto.type == A.TENSOR:
            return self._attribute_tensor(proto, view)
        if proto.type == A.GRAPH:
            inner = wire.merged(view, wire.scan(view), r.ATTRIBUTE_GRAPH)
            graph = self.graph(inner if inner is not None else b"", scope)
            return graph, graph
        self._note_opaque(proto)
        return _opaque(proto)

    def _attribute_tensor(self, proto: onnx.AttributeProto, view: wire.Buffer) -> tuple[Any, Any]:
        inner = wire.merged(view, wire.scan(view), r.ATTRIBUTE_TENSOR)
        stored = Stored(inner if inner is not None else b"", self._folder)
        self._note_external(stored_tensors(stored))
        constant = Constant(stored.header.name, stored, stored.header.data_location or None)
        return constant, stored

    # -- what the messages say besides

    def _note_external(self, tensors: Iterable[onnx.TensorProto]) -> None:
        for tensor in tensors:
            ref = external.data_ref(tensor)
            if ref is not None:
                self.records.external.append((tensor.name, ref, _nbytes(tensor)))

    def _note_opaque(self, proto: onnx.AttributeProto) -> None:
        """What lies in attributes that are shown as messages: data files they name, names they read."""
        sparse = [*proto.sparse_tensors, *([proto.sparse_tensor] if proto.HasField("sparse_tensor") else [])]
        tensors = [*proto.tensors, *(t for s in sparse for t in (s.values, s.indices))]
        self._note_external(tensors)
        for tensor in tensors:
            ref = external.data_ref(tensor)
            if ref is not None:
                self.records.opaque_locations.add(ref.location)
        self.opaque_graphs.extend(proto.graphs)

    def _note_origin(self, metadata: Any, outputs: Iterable[str]) -> None:
        for entry in metadata:
            if entry.key != ORIGIN_KEY:
                continue
            try:
                told = json.loads(entry.value)
                same, of = dict(told.get("same", {})), [str(x) for x in told.get("of", [])]
            except (ValueError, TypeError, AttributeError):
                continue  # somebody else's text under our key is none of ours
            for name in outputs:
                self.records.origins[name] = [str(same[name])] if name in same else of


_ALL_BUT_TEXT = frozenset({1, 5, 11, 12, 13, 14, 15, 16})
_SCALARS = {A.FLOAT: "f", A.INT: "i"}
_LISTS = {A.FLOATS: "floats", A.INTS: "ints"}
_OPAQUE = {
    A.SPARSE_TENSOR: "sparse_tensor",
    A.TYPE_PROTO: "tp",
    A.TENSORS: "tensors",
    A.GRAPHS: "graphs",
    A.SPARSE_TENSORS: "sparse_tensors",
    A.TYPE_PROTOS: "type_protos",
}


def default_version(imports: Iterable[onnx.OperatorSetIdProto]) -> int | None:
    """The opset version of the default domain."""
    return next((o.version for o in imports if o.domain in ("", "ai.onnx")), None)


def describe(kind: onnx.TypeProto) -> tuple[str | None, Any, list[Any] | None]:
    """Type name, dtype and shape of a TypeProto in GraphSurgeon's terms; a sequence has its elements'."""
    which = kind.WhichOneof("value")
    if which in ("tensor_type", "sparse_tensor_type"):
        inner = getattr(kind, which)
        return which, surgeon_dtype(inner.elem_type), _dims(inner)
    if which == "sequence_type" and kind.sequence_type.elem_type.WhichOneof("value") == "tensor_type":
        inner = kind.sequence_type.elem_type.tensor_type
        return which, surgeon_dtype(inner.elem_type), _dims(inner)
    return which, None, None


def _dims(tensor: Any) -> list[Any] | None:
    if not tensor.HasField("shape"):
        return None
    return [getattr(d, d.WhichOneof("value")) if d.WhichOneof("value") else None for d in tensor.shape.dim]


def _check_text(proto: onnx.NodeProto | onnx.FunctionProto, *texts: str) -> None:
    """BadInput when what names an operator or an attribute is no UTF-8 (protobuf gives bytes then).

    Tensors and nodes may be called so: exporters did that, and nothing is looked up by such a name.
    """
    odd = next((t for t in texts if isinstance(t, bytes)), None)
    if odd is not None:
        what = "node" if isinstance(proto, onnx.NodeProto) else "function"
        raise BadInput(
            f"not an ONNX model: {what} {shown(str(proto.name))!r} names {ascii(odd)[1:60]}, "
            "which is no UTF-8; export the model again"
        )


def _text(raw: bytes) -> str | bytes:
    """STRING attributes are bytes; those that are no UTF-8 stay bytes."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _opaque(proto: onnx.AttributeProto) -> tuple[Any, Any]:
    """Kinds that GraphSurgeon does not know are shown as the ONNX messages they are."""
    field = _OPAQUE.get(proto.type)
    if field is None:
        return proto, proto.SerializeToString()
    value = getattr(proto, field)
    if isinstance(value, Message):
        return value, value.SerializeToString()
    items = list(value)
    return items, tuple(item.SerializeToString() for item in items)


def _nbytes(tensor: onnx.TensorProto) -> int | None:
    """Bytes the data of a tensor takes in a file; None when the type has no fixed size or dims are absurd."""
    count = 1
    for dim in tensor.dims:
        if dim < 0:
            return None
        count *= dim
    bits = _BITS.get(tensor.data_type)
    return None if bits is None else (count * bits + 7) // 8


_BITS = {
    1: 32,
    2: 8,
    3: 8,
    4: 16,
    5: 16,
    6: 32,
    7: 64,
    9: 8,
    10: 16,
    11: 64,
    12: 32,
    13: 64,
    14: 64,
    15: 128,
    16: 16,
}
_BITS |= {17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2}
