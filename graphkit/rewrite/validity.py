"""Whether onnx.checker takes a model, without reading its weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import onnx
import onnx.checker
import onnx.defs

if TYPE_CHECKING:
    from graphkit.model.model import Model

__all__ = ["Operator", "invalid", "unknown"]

Operator = tuple[str, str]  # domain and type
_MASK = "graphkit.unknown"
_OF_ONNX = ("", "ai.onnx")


def invalid(model: Model, odd: frozenset[Operator] = frozenset()) -> str | None:
    """Why onnx.checker refuses ``model`` as it is now, in one line; None when it does not.

    Large weights and those in other files are left out: the checker would copy them, and looks at none of
    their numbers. References to files are resolved, and refused, where they are read.
    Nodes of the operators ``odd`` are not looked at.
    """
    try:
        proto = model.skeleton(value_info=True)
        for tensor in _tensors(proto):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                _hide(tensor)
        if odd:
            _mask(proto, odd)
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        return _line(error)
    except Exception as error:  # the checker's C++ side raises RuntimeError for some models
        return f"{type(error).__name__}: {_line(error)}"
    return None


def unknown(model: Model) -> frozenset[Operator]:
    """Operators in ONNX's own domain that ONNX does not have, as exporters to one runtime write them."""
    proto = model.skeleton()
    version = max((o.version for o in proto.opset_import if o.domain in _OF_ONNX), default=1)
    found = {(n.domain, n.op_type) for n in _nodes(proto) if n.domain in _OF_ONNX}
    return frozenset(f for f in found if not _is_known(f[1], version))


def _is_known(op: str, version: int) -> bool:
    try:
        onnx.defs.get_schema(op, version, "")
    except onnx.defs.SchemaError:
        return False
    return True


def _mask(proto: onnx.ModelProto, odd: frozenset[Operator]) -> None:
    """Move nodes to a domain of which the checker knows nothing."""
    for node in _nodes(proto):
        if (node.domain, node.op_type) in odd:
            node.domain = _MASK
    for imports in (proto.opset_import, *(f.opset_import for f in proto.functions)):
        imports.add(domain=_MASK, version=1)


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node of the model, in all graphs and functions."""
    left = [*model.graph.node, *(n for f in model.functions for n in f.node)]
    while left:
        node = left.pop()
        yield node
        for attribute in node.attribute:
            left += attribute.g.node
            left += [n for g in attribute.graphs for n in g.node]


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
