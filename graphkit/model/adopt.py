"""When a function hands back another graph (a copy, or one imported anew), find in it what the file had.

Copies share no objects with the graph that was read, so the records are tied to them by what nodes write and
tensors are called. What cannot be found again is taken as new.
"""

from __future__ import annotations

from typing import Any

from graphkit.model import records as r
from graphkit.model.surgeon import Constant, GsGraph, Node, Stored, Surgeon, Tensor, foreign_message


def adopt(records: r.Records, old: Surgeon, new: Surgeon) -> None:
    """Tie the records of ``old`` and all below it to ``new``, and let ``old`` hold what ``new`` does.

    Functions are paired by domain and name. ``old`` stays the object that stands for the main graph.
    """
    functions = {(f.domain or "", f.name): f for f in old.functions}
    for function in new.functions:
        former = functions.get((function.domain or "", function.name))
        if former is not None and former is not function:
            _scope(records, records.scopes.get(id(former)), function)
    _scope(records, records.scopes[id(old)], new)
    records.scopes[id(old)].surgeon = old
    records.scopes[id(old)] = records.scopes.pop(id(new))
    old.nodes, old.inputs, old.outputs = new.nodes, new.inputs, new.outputs
    old.functions = list(new.functions)
    old.opset, old.import_domains = new.opset, new.import_domains
    old.name, old.doc_string = new.name, new.doc_string
    old.ir_version = new.ir_version if new.ir_version is not None else old.ir_version


def _scope(records: r.Records, scope: r.ScopeRecord | None, new: Surgeon) -> None:
    if scope is None:
        return
    tensors = _tensors(new)
    for name, was in list(scope.local.items()):
        now = tensors.get(name)
        if now is not None and now is not was:
            scope.local[name] = now
            if id(was) in records.dangling:
                records.dangling.add(id(now))
            if id(was) in records.tensors:
                records.tensors[id(now)] = (now, records.tensors[id(was)][1])
    for info in (*scope.infos, *scope.hidden_inputs):
        info.tensor = tensors.get(info.name, info.tensor)
    _initializers(records, scope, tensors)
    _nodes(records, scope, new)
    scope.surgeon = new
    records.scopes[id(new)] = scope


def _tensors(surgeon: Surgeon) -> dict[str, Tensor]:
    """Tensors by name: what the scope's nodes read and write, and its ends."""
    read = [t for n in surgeon.nodes for t in n.inputs]
    made = [t for n in surgeon.nodes for t in n.outputs]
    return {t.name: t for t in (*read, *surgeon.outputs, *surgeon.inputs, *made) if t.name}


def _initializers(records: r.Records, scope: r.ScopeRecord, tensors: dict[str, Tensor]) -> None:
    for record in list(scope.initializers.values()):
        now = tensors.get(record.name)
        if now is None or now is record.tensor or not isinstance(now, Constant):
            continue
        del scope.initializers[id(record.tensor)]
        record.tensor = now
        _same_values(now, record.stored)
        scope.initializers[id(now)] = records.initializers[id(now)] = record
    ordered = sorted(scope.initializers.values(), key=lambda i: (i.field, i.ordinal))
    scope.initializers = {id(i.tensor): i for i in ordered}


def _nodes(records: r.Records, scope: r.ScopeRecord, new: Surgeon) -> None:
    found = {key: n for n in new.nodes if (key := _key(n))}
    for record in list(scope.nodes.values()):
        now = found.get((record.op if not any(record.outputs) else "", *record.outputs, record.name))
        if now is None or now is record.node:
            continue
        for name, attribute in record.attributes.items():
            _attribute(records, attribute, now.attrs.get(name))
        record.node = now
        records.nodes[id(now)] = record
    scope.nodes = {id(record.node): record for record in scope.nodes.values()}


def _key(node: Node) -> tuple[str, ...]:
    outputs = [t.name for t in node.outputs]
    return (node.op if not any(outputs) else "", *outputs, node.name)


def _attribute(records: r.Records, record: r.AttributeRecord, value: Any) -> None:
    if isinstance(record.value, GsGraph) and isinstance(value, GsGraph):
        _scope(records, records.scopes.get(id(record.value)), value)
        record.value = record.frozen = value
    elif isinstance(record.value, Constant) and isinstance(value, Constant):
        _same_values(value, record.frozen)
        record.value = value


def _same_values(constant: Tensor, stored: Any) -> None:
    """Let ``constant`` hold the file's own values again when it brought the same ones, bit for bit."""
    message = foreign_message(constant._values)
    if message is not None and isinstance(stored, Stored) and stored.is_still(Stored(message, None).read()):
        constant._values = stored
