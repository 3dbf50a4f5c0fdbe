"""For each operator, when it gives back an input as it is: one rule, None when it does not."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphkit import Graph, NotApplicable
from graphkit.model.graph import Node, Tensor
from graphkit.model.operators import attribute, domain_of
from graphkit.model.surgeon import numpy_dtype
from graphkit_passes._given import AXES, listed, present, small
from graphkit_passes._idle import Idle, Rule
from graphkit_passes._idle_shapes import SHAPE_RULES
from graphkit_passes._placing import is_external

_UNITS: dict[str, tuple[Any, bool]] = {
    "Mul": (1, True),
    "Div": (1, False),
    "Pow": (1, False),
    "Add": (0, True),
    "Sub": (0, False),
    "And": (True, True),
    "Or": (False, True),
    "Xor": (False, True),
}
"""What an operand has to be everywhere to leave the other one alone, and whether it may be the first."""
_LONGEST = 4096  # bytes of a constant that is looked at


def _first(idle: Idle, graph: Graph, node: Node) -> Tensor | None:
    return node.inputs[0]


def _only(idle: Idle, graph: Graph, node: Node) -> Tensor | None:
    return node.inputs[0] if len(node.inputs) == 1 and len(node.outputs) == 1 else None


def _unit(idle: Idle, graph: Graph, node: Node) -> Tensor | None:
    unit, either = _UNITS[node.op]
    for x, constant in (node.inputs, node.inputs[::-1])[: 1 + either]:
        values = _values(graph, constant)
        if values is not None and values.size and values.dtype != object and bool(np.all(values == unit)):
            idle.require_fit(graph, x, constant)
            return x
    return None


def _values(graph: Graph, constant: Tensor) -> np.ndarray[Any, Any] | None:
    """A constant that is worth a look: what lies in a data file is a weight, unless it is one number."""
    if not graph.is_constant(constant) or (is_external(constant) and graph.nbytes(constant) > 8):
        return None
    return small(graph, constant, _LONGEST)


def _where(idle: Idle, graph: Graph, node: Node) -> Tensor | None:
    condition = node.inputs[0]
    values = _values(graph, condition)
    if values is None or not values.size or not (values.all() or not values.any()):
        return None
    chosen, other = node.inputs[1:] if values.all() else node.inputs[:0:-1]
    if not idle.keeps_shape(graph, node, chosen):
        idle.require_fit(graph, chosen, condition)
        idle.require_fit(graph, chosen, other)
    return chosen


def _cast(idle: Idle, graph: Graph, node: Node) -> Tensor | None:
    x, to = node.inputs[0], attribute(graph, node, "to")
    source = idle.dtype(graph, x)
    if not isinstance(to, int) or source is None:
        return None
    wanted = numpy_dtype(to)
    if wanted is None:
        return None
    if source == wanted:
        return x
    before = graph.producer(x)
    if before is None or before.op != "Cast" or domain_of(before):
        return None
    first = before.inputs[0]
    narrow = idle.dtype(graph, first)
    if narrow is None or not _holds(narrow, source):
        return None
    if narrow == wanted:
        return first
    if wanted.kind in "iufb":  # not a string, which tells 1 and 1.0 apart
        idle.skip(graph, node, before)
    return None


def _holds(narrow: Any, wide: Any) -> bool:
    """Whether every value of one dtype comes back unchanged from another."""
    if narrow.name == "bool":
        return bool(wide.kind in "iuf")
    exact = {"float16": "float32 float64", "bfloat16": "float32 float64", "float32": "float64"}
    if narrow.name in exact:
        return wide.name in exact[narrow.name].split()
    if narrow.kind not in "iu":
        return False
    if wide.kind in "iu":
        return bool(np.can_cast(narrow, wide))
    return wide.kind == "f" and np.iinfo(narrow).bits < np.finfo(wide).nmant + 2


def _cast_like(idle: Idle, graph: Graph, node: Node) -> Tensor | None:
    own, other = (idle.dtype(graph, t) for t in node.inputs)
    return node.inputs[0] if own is not None and own == other else None


def _dropout(idle: Idle, graph: Graph, node: Node) -> Tensor | None:
    if len(node.outputs) > 1 and idle.is_read(node.outputs[1]):
        raise NotApplicable(f"its mask '{node.outputs[1].name}' is read")
    training = present(node, 2) if idle.opset(graph) >= 12 else None
    if training is not None:
        values = small(graph, training)
        if values is None or values.any():
            raise NotApplicable("it trains, or may train")
    return node.inputs[0]


def _clip(idle: Idle, graph: Graph, node: Node) -> Tensor | None:
    if any(present(node, place) for place in (1, 2)) or any(n in node.attrs for n in ("min", "max")):
        return None
    dtype = idle.dtype(graph, node.inputs[0])
    if dtype is not None and dtype.kind in "iu":
        return node.inputs[0]
    raise NotApplicable("without bounds it makes the largest number of an infinity")


def _pool(idle: Idle, graph: Graph, node: Node) -> Tensor | None:
    """One element goes in and comes out; a mean that counts padding has none here."""
    if len(node.outputs) > 1 and idle.is_read(node.outputs[1]):
        return None
    kernel = attribute(graph, node, "kernel_shape")
    lists = [(attribute(graph, node, name), unit) for name, unit in (("strides", 1), ("pads", 0))]
    if not isinstance(kernel, list) or any(k != 1 for k in kernel):
        return None
    given = [(v, unit) for v, unit in lists if v is not None]
    return node.inputs[0] if all(isinstance(v, list) and set(v) == {u} for v, u in given) else None


def _reduce(idle: Idle, graph: Graph, node: Node) -> Tensor | None:
    if idle.keeps_shape(graph, node, node.inputs[0]):
        return node.inputs[0]
    opset = idle.opset(graph)
    since = AXES.get(node.op)
    if since is None or opset < since or attribute(graph, node, "noop_with_empty_axes") != 1:
        return None
    return node.inputs[0] if listed(graph, node, "axes", 1, since, opset) == [] else None


def _again(idle: Idle, graph: Graph, node: Node) -> Tensor | None:
    """What is done to a result of the same operator changes nothing."""
    before = graph.producer(node.inputs[0])
    return node.inputs[0] if before is not None and before.op == node.op and not domain_of(before) else None


def _undone(idle: Idle, graph: Graph, node: Node) -> Tensor | None:
    before = graph.producer(node.inputs[0])
    if before is None or before.op != node.op or domain_of(before):
        return None
    return before.inputs[0]


RULES: dict[str, Rule] = {
    "Identity": _first,
    **dict.fromkeys(("Concat", "Sum", "Mean", "Max", "Min"), _only),
    **dict.fromkeys(_UNITS, _unit),
    "Where": _where,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Dropout": _dropout,
    "Clip": _clip,
    **dict.fromkeys(("MaxPool", "AveragePool"), _pool),
    **dict.fromkeys((f"Reduce{kind}" for kind in ("Sum", "Mean", "Max", "Min", "Prod")), _reduce),
    **dict.fromkeys(("Relu", "Abs", "Ceil", "Floor", "Round", "Sign"), _again),
    **dict.fromkeys(("Not", "Neg"), _undone),
    **SHAPE_RULES,
}
