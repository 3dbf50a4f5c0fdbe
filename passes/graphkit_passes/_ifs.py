"""Deciding an If, and putting the branch that always runs in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from graphkit import Graph
from graphkit.model.graph import Shape
from graphkit.model.infer import Types
from graphkit.model.operators import domain_of
from graphkit.model.surgeon import GsGraph, Node, Surgeon, Tensor
from graphkit_passes._branches import inline_branches
from graphkit_passes._losing import Losing
from graphkit_passes._proven import Proven

Place = tuple[Graph, Node]
_DEEP = 32  # operators of logic between a condition and what it is made of


def all_ifs(main: Graph) -> list[Place]:
    """Every If of the model."""
    return [(s, n) for s in main.scopes() for n in s.nodes if n.op == "If" and not domain_of(n)]


class Decisions:
    """Which branch of each If runs, as far as that is proven; for the model as it is when this is made."""

    def __init__(self, main: Graph, ifs: list[Place]) -> None:
        self.proven = Proven(main)
        asked = [(scope, n.inputs[0]) for scope, n in ifs if n.inputs]
        logic = [(scope, t) for scope, c in asked for t in self._parts(scope, c)]
        self.proven.learn([*asked, *logic])

    def _parts(self, graph: Graph, condition: Tensor) -> Iterator[Tensor]:
        """What And, Or and Not combine into a condition: one part can decide it alone."""
        waiting = [condition]
        for _ in range(_DEEP):
            maker = graph.producer(waiting.pop()) if waiting else None
            if maker is not None and maker.op in ("And", "Or", "Not", "Identity") and not domain_of(maker):
                yield from maker.inputs
                waiting += maker.inputs

    def taken(self, graph: Graph, node: Node) -> bool | None:
        """Whether the then branch of an If always runs, or the else branch; None when neither is proven."""
        return self._truth(graph, node.inputs[0], _DEEP) if len(node.inputs) == 1 else None

    def _truth(self, graph: Graph, tensor: Tensor, depth: int) -> bool | None:
        value = self.proven.value(graph, tensor)
        if value is not None:
            whole = value.size == 1 and value.dtype == np.bool_
            return bool(value.reshape(-1)[0]) if whole else None
        maker = graph.producer(tensor)
        if maker is None or depth == 0 or domain_of(maker) or maker.op not in _LOGIC:
            return None
        return _LOGIC[maker.op]([self._truth(graph, t, depth - 1) for t in maker.inputs])

    def why_not(self, node: Node) -> str:
        """Why no branch of an If is proven to run."""
        return f"its condition is not decided: {self.proven.why(node.inputs[0])}"

    @property
    def types(self) -> Types:
        """What inference says of the model."""
        return self.proven.types


_LOGIC: dict[str, Callable[[list[bool | None]], bool | None]] = {
    "And": lambda parts: False if False in parts else None if None in parts else True,
    "Or": lambda parts: True if True in parts else None if None in parts else False,
    "Not": lambda parts: None if parts[0] is None else not parts[0],
    "Identity": lambda parts: parts[0],
}


def branch(node: Node, then: bool) -> Surgeon | None:
    """One of the two graphs of an If; None when it has none."""
    found = node.attrs.get("then_branch" if then else "else_branch")
    return found if isinstance(found, GsGraph) else None


def keep_branches(main: Graph, decided: list[tuple[Graph, Node, bool]], placing: Losing) -> set[int]:
    """Put the branches that run in the place of their Ifs; returns the ids of the Ifs that went."""
    was: dict[int, Tensor] = {}
    for graph, node, then in decided:
        was[id(node)] = node.inputs[0]
        graph.rewire(node, node.inputs[0], graph.constant(np.array(then), "condition"))
    wanted = {id(node.inputs[0]) for _, node, _ in decided}
    while inline_branches(main, placing, lambda condition: id(condition) in wanted):
        pass
    gone = {id(node) for _, node, _ in decided if not node.outputs}
    for graph, node, _ in decided:
        if id(node) in gone:
            placing.lose(was[id(node)])
        else:
            graph.rewire(node, node.inputs[0], was[id(node)])
    placing.sweep()
    placing.refresh()
    return gone


def contradicted(types: Types, node: Node, then: bool) -> list[tuple[Tensor, Shape]]:
    """The outputs of an If that are declared with a shape which the branch that runs never has."""
    body = branch(node, then)
    pairs = zip(node.outputs, body.outputs if body is not None else (), strict=False)
    told = [(t, types.shape(r)) for t, r in pairs if t.name and t.shape is not None]
    return [(t, found) for t, found in told if found is not None and _differ(t.shape, found)]


def _differ(told: Sequence[int | str | None], found: Shape) -> bool:
    if len(told) != len(found):
        return True
    pairs = zip(told, found, strict=True)
    return any(isinstance(a, int) and isinstance(b, int) and a != b and a >= 0 for a, b in pairs)


def spelled(shape: Sequence[int | str | None]) -> str:
    """A shape as a person reads it."""
    return "x".join("?" if d is None else str(d) for d in shape) or "scalar"
