"""What the reader remembers of each message, so that the overlay can tell what a pass has touched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from graphkit.model import wire
from graphkit.model.external import DataRef
from graphkit.model.surgeon import Constant, Node, Stored, StoredSparse, Surgeon, Tensor

# Field numbers of onnx.proto: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
MODEL_GRAPH, MODEL_OPSET, MODEL_METADATA, MODEL_TRAINING, MODEL_FUNCTIONS = 7, 8, 14, 20, 25
NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_OP, NODE_ATTRIBUTE, NODE_DOMAIN, NODE_OVERLOAD = 1, 2, 3, 4, 5, 7, 8
NODE_METADATA, NODE_DEVICES = 9, 10
GRAPH_NODE, GRAPH_NAME, GRAPH_INITIALIZER, GRAPH_DOC, GRAPH_INPUT, GRAPH_OUTPUT = 1, 2, 5, 10, 11, 12
GRAPH_VALUE_INFO, GRAPH_ANNOTATION, GRAPH_SPARSE = 13, 14, 15
FUNCTION_NAME, FUNCTION_INPUT, FUNCTION_OUTPUT, FUNCTION_ATTRIBUTE, FUNCTION_NODE, FUNCTION_DOC = (
    1,
    4,
    5,
    6,
    7,
    8,
)
FUNCTION_OPSET, FUNCTION_DOMAIN, FUNCTION_ATTRIBUTE_PROTO, FUNCTION_VALUE_INFO = 9, 10, 11, 12
ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH = 5, 6
TENSOR_NAME, TENSOR_METADATA, INFO_NAME, INFO_METADATA = 8, 16, 1, 4

State = tuple[str, Any, tuple[Any, ...] | None]
"""Name, dtype and shape of a Variable as GraphSurgeon shows them."""


def state_of(tensor: Tensor) -> State:
    """The state of a tensor now; a Constant's dtype and shape are its values' business."""
    if isinstance(tensor, Constant):
        return tensor.name, None, None
    return tensor.name, tensor.dtype, None if tensor.shape is None else tuple(tensor.shape)


@dataclass(eq=False, slots=True)
class AttributeRecord:
    """One attribute: its message, the value a pass sees, and that value frozen for comparison."""

    ordinal: int
    view: wire.Buffer
    value: Any
    frozen: Any


@dataclass(eq=False, slots=True)
class NodeRecord:
    """One node: its message and what its GraphSurgeon twin held when it was made."""

    node: Node
    view: wire.Buffer
    ordinal: int
    op: str
    name: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, AttributeRecord]
    has_devices: bool = False


@dataclass(eq=False, slots=True)
class InfoRecord:
    """One ValueInfoProto of a graph's inputs, outputs or value_info (``field`` is its field number)."""

    field: int
    ordinal: int
    view: wire.Buffer
    name: str
    tensor: Tensor
    idle: bool = False


@dataclass(eq=False, slots=True)
class InitializerRecord:
    """One initializer, dense or sparse (``field`` is its field number)."""

    field: int
    ordinal: int
    view: wire.Buffer
    name: str
    tensor: Tensor
    stored: Stored | StoredSparse
    used: bool = False
    overridable: bool = False


@dataclass(eq=False, slots=True)
class ScopeRecord:
    """One graph, subgraph or function as it was read; an empty one stands for a scope that a pass made."""

    surgeon: Surgeon
    parent: ScopeRecord | None
    is_function: bool
    view: wire.Buffer = b""
    fields: list[wire.Field] = field(default_factory=list)
    ordinal: int = -1
    local: dict[str, Tensor] = field(default_factory=dict)
    name: str = ""
    doc: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    domain: str = ""
    overload: str = ""
    opset: int | None = None
    domains: list[tuple[str, int]] = field(default_factory=list)
    attributes: dict[str, AttributeRecord | None] = field(default_factory=dict)
    nodes: dict[int, NodeRecord] = field(default_factory=dict)
    infos: list[InfoRecord] = field(default_factory=list)
    initializers: dict[int, InitializerRecord] = field(default_factory=dict)
    hidden_inputs: list[InfoRecord] = field(default_factory=list)
    annotated: dict[str, list[str]] = field(default_factory=dict)

    def annotations_of(self, alive: Callable[[Tensor], bool]) -> set[str]:
        """Names of the scales and zero points of the annotated tensors that are ``alive`` or not ours."""
        found: set[str] = set()
        for name, parameters in self.annotated.items():
            if name not in self.local or alive(self.local[name]):
                found.update(parameters)
        return found

    def resolve(self, name: str) -> Any:
        """The tensor that ``name`` means here, or None: the innermost definition, as ONNX has it."""
        scope: ScopeRecord | None = self
        while scope is not None:
            if name in scope.local:
                return scope.local[name]
            scope = scope.parent
        return None


@dataclass(eq=False, slots=True)
class Records:
    """All records of a model, by the identity of the GraphSurgeon object; they keep those objects alive."""

    scopes: dict[int, ScopeRecord] = field(default_factory=dict)
    nodes: dict[int, NodeRecord] = field(default_factory=dict)
    initializers: dict[int, InitializerRecord] = field(default_factory=dict)
    tensors: dict[int, tuple[Tensor, State]] = field(default_factory=dict)
    stored: dict[int, AttributeRecord] = field(default_factory=dict)
    dangling: set[int] = field(default_factory=set)
    origins: dict[str, list[str]] = field(default_factory=dict)
    opaque_locations: set[str] = field(default_factory=set)
    external: list[tuple[str, DataRef, int | None]] = field(default_factory=list)

    def was(self, tensor: Tensor) -> State | None:
        """The state of a tensor when it was read; None for one that a pass made."""
        entry = self.tensors.get(id(tensor))
        return entry[1] if entry is not None else None
