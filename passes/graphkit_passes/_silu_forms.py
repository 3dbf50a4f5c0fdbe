"""Which nodes are a SiLU, and with what factor: by operator, or by what a local function computes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import onnx

from graphkit import NotApplicable
from graphkit.model.graph import Graph, Node, Tensor
from graphkit.model.operators import ABSENT, attribute, default, domain_of
from graphkit.model.surgeon import AttributeRef
from graphkit_passes._functions import Functions

QUICK_GELU_ALPHA = 1.702  # https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
CUSTOM = frozenset(
    ["SiLU", "Silu", "SILU", "silu", "Swish", "swish", "Swish_TRT", "swish_f32", "swish_f16", "bSwish"]
)
"""Operators of nobody's standard, which exporters and plugins use for SiLU."""
_DEPTH = 64


@dataclass(frozen=True, eq=False)
class Value:
    """What a tensor of a function body is, in terms of argument number ``of``.

    ``const``: the array ``scale``. ``scaled``: ``scale * x``. ``sigmoid``: ``sigmoid(scale * x)``. ``silu``:
    ``x * sigmoid(scale * x)``. ``other``: something else; ``reason`` says what if it looked like a SiLU.
    ``rank`` is the most dimensions of a constant in it, ``dtype`` that of the scale, if it has one.
    """

    kind: Literal["const", "scaled", "sigmoid", "silu", "other"]
    of: int = -1
    scale: Any = 1.0
    rank: int = 0
    dtype: np.dtype[Any] | None = None
    reason: str = ""


OTHER = Value("other")


@dataclass(frozen=True)
class Scope:
    """A function body during one call: what its inputs are, and the values of its attributes."""

    graph: Graph
    inputs: Mapping[int, Value]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Forms:
    """Recognizes SiLU; ``extra`` are further operator names (``Name`` or ``domain::Name``) that mean it."""

    functions: Functions
    extra: Collection[str] = field(default=())

    def operator(self, graph: Graph, node: Node) -> str | None:
        """``Swish``, ``QuickGelu`` or ``custom`` when the operator itself is a SiLU; None for any other."""
        domain = domain_of(node)
        if (domain, node.op) == ("com.microsoft", "QuickGelu"):
            return "QuickGelu"
        if not domain and _is_standard(node.op, graph.opset):
            return "Swish" if node.op == "Swish" else None
        named = node.op in CUSTOM or node.op in self.extra or f"{domain}::{node.op}" in self.extra
        return "custom" if named else None

    def alpha(self, node: Node, form: str) -> Any:
        """The factor inside of a SiLU operator's sigmoid: a float, or a reference to a function's attribute.

        NotApplicable when the node has inputs, outputs or attributes that a SiLU does not.
        """
        outputs = [t for t in node.outputs if t.name]
        if len(node.inputs) != 1 or len(outputs) != 1 or not node.inputs[0].name:
            raise NotApplicable(
                f"it has {len(node.inputs)} inputs and {len(outputs)} outputs; a SiLU has one of each"
            )
        names = ("alpha", "beta") if form == "custom" else ("alpha",)
        unknown = [a for a in node.attrs if a not in names]
        if unknown:
            raise NotApplicable(f"its attribute '{unknown[0]}' is not known, so neither is what it computes")
        if len(node.attrs) > 1:
            raise NotApplicable("it has both alpha and beta; which of them scales the sigmoid is not known")
        value = next(iter(node.attrs.values()), default_alpha(form))
        if not isinstance(value, int | float | AttributeRef):
            raise NotApplicable(f"its attribute '{next(iter(node.attrs))}' is not a number")
        return value

    def call(self, graph: Graph, node: Node, function: Graph) -> Value:
        """What a call of a local function computes of the call's inputs."""
        inputs = [self._argument(graph, node, t) for t in node.inputs]
        given = {k: v for k, v in node.attrs.items() if not isinstance(v, AttributeRef)}
        by_caller = [v.name for v in node.attrs.values() if isinstance(v, AttributeRef)]
        if by_caller:
            reason = (
                f"its factor depends on '{by_caller[0]}', an attribute of the function that it is called in"
            )
            given |= {k: ABSENT for k, v in node.attrs.items() if isinstance(v, AttributeRef)}
            found = self._function(function, inputs, given, 0)
            return replace(found, reason=found.reason and reason)
        return self._function(function, inputs, given, 0)

    def _argument(self, graph: Graph, node: Node, tensor: Tensor) -> Value:
        place = next(n for n, t in enumerate(node.inputs) if t is tensor)  # the first, if it is given twice
        values = graph.value(tensor) if _is_scalar(graph.shape(tensor)) else None
        return Value("scaled", place) if values is None else _const(values)

    def _function(self, function: Graph, inputs: list[Value], given: Mapping[str, Any], depth: int) -> Value:
        if len(function.outputs) != 1:
            return OTHER
        known = dict(zip((id(t) for t in function.inputs), inputs, strict=False))
        defaults = {k: v for k, v in function.gs.attrs.items() if v is not None}
        return self._value(function.outputs[0], Scope(function, known, {**defaults, **given}), depth)

    def _value(self, tensor: Tensor, scope: Scope, depth: int) -> Value:
        if id(tensor) in scope.inputs:
            return scope.inputs[id(tensor)]
        node = scope.graph.producer(tensor)
        if node is None or depth > _DEPTH or node.outputs[0] is not tensor:
            return OTHER
        function = self.functions.called_by(node)
        if function is None and node.op == "Constant" and not domain_of(node):
            return _constant(tensor, node, scope)
        if function is None and node.op not in _UNDERSTOOD and self.operator(scope.graph, node) is None:
            return OTHER
        inputs = [self._value(t, scope, depth + 1) for t in node.inputs]
        if function is not None:
            return self._function(function, inputs, _passed(node, scope), depth + 1)
        return self._operator(node, inputs, scope)

    def _operator(self, node: Node, inputs: list[Value], scope: Scope) -> Value:
        form = self.operator(scope.graph, node)
        if form is not None:
            return self._silu(node, form, inputs, scope)
        if domain_of(node) or not inputs:
            return OTHER
        match node.op:
            case "Identity":
                return inputs[0]
            case "Cast" | "CastLike":
                return _cast(node, inputs[0], scope)
            case "Sigmoid" if inputs[0].kind == "scaled":
                return replace(inputs[0], kind="sigmoid")
            case "Sigmoid":
                return Value("sigmoid", reason="its sigmoid is not of its input times a constant")
            case "Mul" if len(inputs) == 2:
                return _product(*inputs)
        return OTHER

    def _silu(self, node: Node, form: str, inputs: list[Value], scope: Scope) -> Value:
        try:
            alpha = self.alpha(node, form)
        except NotApplicable as error:
            return Value("other", reason=str(error))
        if isinstance(alpha, AttributeRef):
            names = [n for n, v in node.attrs.items() if v is alpha]
            alpha = _resolved(node, names[0], scope)
        x = inputs[0]
        if not isinstance(alpha, int | float) or x.kind != "scaled" or x.scale != 1:
            return Value("other", reason=f"its {node.op} is not of its input with a known factor")
        return replace(x, kind="silu", scale=float(alpha))


_UNDERSTOOD = frozenset({"Identity", "Cast", "CastLike", "Sigmoid", "Mul"})


def default_alpha(form: str) -> float:
    """The factor of a SiLU operator that gives none."""
    return QUICK_GELU_ALPHA if form == "QuickGelu" else 1.0


def _is_standard(op: str, opset: int) -> bool:
    return bool(opset) and onnx.defs.has(op, opset, "")


def _is_scalar(shape: tuple[Any, ...] | None) -> bool:
    return shape is not None and all(d == 1 for d in shape)


def _const(values: np.ndarray[Any, Any]) -> Value:
    number = values.size == 1 and values.dtype != object
    return Value("const", scale=values, rank=values.ndim, dtype=values.dtype) if number else OTHER


def _constant(tensor: Tensor, node: Node, scope: Scope) -> Value:
    values = scope.graph.value(tensor)
    if values is None and len(node.attrs) == 1:
        name = next(iter(node.attrs))
        given = _resolved(node, name, scope)
        if name in ("value_float", "value_int") and isinstance(given, int | float):
            values = np.asarray(given, np.float32 if name == "value_float" else np.int64)
    return OTHER if values is None else _const(values)


def _resolved(node: Node, name: str, scope: Scope) -> Any:
    """The value of an attribute during this call; ABSENT when it is not known."""
    value = attribute(scope.graph, node, name)
    if value is not ABSENT:
        return value
    reference = node.attrs[name].name
    if (
        reference not in scope.attributes
    ):  # left out by the call and without a default: as if the node had none
        domain = domain_of(node)
        return default(node.op, domain, scope.graph.version(domain), name)
    return scope.attributes[reference]


def _passed(node: Node, scope: Scope) -> dict[str, Any]:
    """The attributes that a call inside a function hands on."""
    values = {}
    for name, value in node.attrs.items():
        if not isinstance(value, AttributeRef):
            values[name] = value
        elif value.name in scope.attributes:
            values[name] = scope.attributes[value.name]
    return values


def _cast(node: Node, value: Value, scope: Scope) -> Value:
    """A constant in another dtype; CastLike gives it that of what it goes with, so none of its own."""
    if value.kind != "const":
        return OTHER
    if node.op == "CastLike":
        return replace(value, dtype=None)
    to = _resolved(node, "to", scope)
    try:
        return _const(value.scale.astype(onnx.helper.tensor_dtype_to_np_dtype(to)))
    except (KeyError, TypeError, ValueError):
        return OTHER


def _product(a: Value, b: Value) -> Value:
    """``a * b``: a constant times x, or x times its sigmoid."""
    kinds = {a.kind: a, b.kind: b}
    rank = max(a.rank, b.rank)
    if kinds.keys() == {"const", "scaled"}:
        x, c = kinds["scaled"], kinds["const"]
        if x.scale != 1:
            return OTHER
        return replace(x, scale=float(c.scale.reshape(())), rank=rank, dtype=c.dtype)
    sigmoid = kinds.get("sigmoid")
    if sigmoid is None:
        return OTHER
    x = kinds.get("scaled", OTHER)
    if sigmoid.reason:
        return Value("other", reason=sigmoid.reason) if x.kind == "scaled" else OTHER
    if x.kind != "scaled" or x.of != sigmoid.of:
        return Value(
            "other", reason="a gate: what it multiplies by the sigmoid is not the sigmoid's own input"
        )
    if x.scale != 1:
        return Value("other", reason="what it multiplies by the sigmoid is scaled")
    return replace(sigmoid, kind="silu", rank=rank)
