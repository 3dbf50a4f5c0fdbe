"""All rules that write an operator in terms of older ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from graphkit import Graph, NotApplicable
from graphkit.model.graph import Node, Tensor
from graphkit_passes import (  # noqa: F401  they declare their rules
    _lower_activations,
    _lower_attention,
    _lower_einsum,
    _lower_grid,
    _lower_math,
    _lower_norms,
    _lower_rotary,
    _lower_shapes,
)
from graphkit_passes._lower_functions import has_body, inlined
from graphkit_passes._lowering import RULES, Lowering, Rule
from graphkit_passes._shared import Known


def rule_for(graph: Graph, node: Node) -> Rule | None:
    """How to write an operator of the default domain; the standard's own function where there is no rule."""
    return RULES.get(node.op) or (inlined if has_body(node.op, graph.opset) else None)


def written(graph: Graph, node: Node, known: Known, opset: int = 0, keeps: Collection[str] = ()) -> Lowering:
    """New nodes in front of ``node`` that do what it does, with the operators of ``opset``.

    NotApplicable when there is no way; see :class:`Lowering` for the rest.
    """
    rule = rule_for(graph, node)
    if rule is None:
        raise NotApplicable(f"there is no way to write {node.op} with older operators")
    lowering = Lowering(graph, node, known, opset, keeps)
    lowering.run(rule)
    return lowering


def drop_unread(main: Graph, tensors: Iterable[Tensor]) -> None:
    """Remove constants among ``tensors`` that nothing reads or returns any more."""
    unread = {id(t): t for t in tensors if t.name and not t.outputs and t.name not in main.model.pinned}
    if not unread:
        return
    scopes = main.scopes()
    ends = {id(t) for s in scopes for t in s.outputs}
    homes = {id(n): s for s in scopes for n in s.nodes if n.op == "Constant"}
    for tensor in unread.values():
        if id(tensor) in ends or not main.is_constant(tensor):
            continue
        if not tensor.inputs:
            main.remove_initializer(tensor)
        elif id(tensor.inputs[0]) in homes:
            homes[id(tensor.inputs[0])].remove([tensor.inputs[0]])
