"""What the ONNX standard says of operators: whose operands commute, and the defaults of their attributes."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from graphkit.model.graph import Graph
    from graphkit.model.surgeon import Node

ABSENT: Final = object()
"""The value of an attribute that a function's caller supplies: unknown here, so equal to nothing."""

_COMMUTATIVE = frozenset(
    [
        "Add",
        "Mul",
        "And",
        "Or",
        "Xor",
        "Equal",
        "Max",
        "Min",
        "Sum",
        "Mean",
        "BitwiseAnd",
        "BitwiseOr",
        "BitwiseXor",
    ]
)  # https://onnx.ai/onnx/operators/


def domain_of(node: Node) -> str:
    """The operator domain of a node; the default one is the empty string."""
    return "" if node.domain in (None, "", "ai.onnx") else str(node.domain)


def commutes(domain: str, op: str) -> bool:
    """Whether the operator gives the same with its inputs in any order."""
    return not domain and op in _COMMUTATIVE


def attribute(graph: Graph, node: Node, name: str) -> Any:
    """An attribute's value: the node's, else the standard's default, else None.

    A reference to an attribute of the enclosing function gives ABSENT, for its value is the caller's choice.
    Tensors are ndarrays.
    """
    from graphkit.model.surgeon import AttributeRef, Constant

    if name not in node.attrs:
        domain = domain_of(node)
        return default(node.op, domain, graph.version(domain), name)
    value = node.attrs[name]
    if isinstance(value, AttributeRef):
        return ABSENT
    if isinstance(value, Constant):
        held = value._values  # through .values GraphSurgeon would replace what the file holds
        return held.read() if hasattr(held, "read") else held
    return value


@lru_cache(maxsize=4096)
def default(op: str, domain: str, version: int, name: str) -> Any:
    """The default of an attribute in the operator's schema; None when there is none, or no such schema."""
    import onnx

    try:
        schema = onnx.defs.get_schema(op, version or onnx.defs.onnx_opset_version(), domain)
    except onnx.defs.SchemaError:
        return None
    declared = schema.attributes.get(name)
    if declared is None or not declared.default_value.name:
        return None
    value = onnx.helper.get_attribute_value(declared.default_value)
    return value.decode() if isinstance(value, bytes) else value
