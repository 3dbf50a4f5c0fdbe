"""Passes in a file, as users write them."""

from typing import Any, Literal

import onnx_graphsurgeon as gs

from graphkit import Graph, Pass, PatternPass, Tally, option


class Doubling(PatternPass):
    """Turn ``x * 2`` into ``x + x``."""

    name = "doubling"
    times: Literal[1, 2] = option(default=1, help="how often")

    def pattern(self, op: Any, x: Any) -> Any:
        return op.Mul(x, 2.0)

    def rewrite(self, op: Any, m: Any) -> Any:
        return op.Add(m.x, m.x)


class Wrong(PatternPass):
    """Breaks the numbers: SiLU is not ReLU."""

    name = "wrong"

    def pattern(self, op: Any, x: Any) -> Any:
        return op.Mul(x, op.Sigmoid(x))

    def rewrite(self, op: Any, m: Any) -> Any:
        return op.Relu(m.x)


class Invalid(PatternPass):
    """Leaves an operator that ONNX does not have."""

    name = "invalid"

    def pattern(self, op: Any, x: Any) -> Any:
        return op.Sigmoid(x)

    def rewrite(self, op: Any, m: Any) -> Any:
        return op.NoSuchOperator(m.x)


class Restless(PatternPass):
    """Never ends: its result matches its pattern."""

    name = "restless"

    def pattern(self, op: Any, x: Any, y: Any) -> Any:
        return op.Mul(x, y)

    def rewrite(self, op: Any, m: Any) -> Any:
        return op.Mul(m.y, m.x)


class Cyclic(Pass):
    """Ties a knot."""

    name = "cyclic"

    def apply(self, graph: Graph, tally: Tally) -> None:
        first, second = graph.nodes[0], graph.nodes[1]
        first.inputs[0] = second.outputs[0]
        tally.rewrite()


class Needy(Pass):
    """Has an option that must be given."""

    name = "needy"
    what: str = option(help="what it needs")

    def apply(self, graph: Graph, tally: Tally) -> None:
        tally.note(f"needs {self.what}")


def crash(graph: gs.Graph) -> None:
    raise KeyError("axis")


def leave(graph: gs.Graph) -> None:
    raise SystemExit(3)


def nothing(graph: gs.Graph) -> gs.Graph:
    return graph


def tag(graph: gs.Graph, prefix: str = "n", count: int = 1, **others: str) -> None:
    for index, node in enumerate(graph.nodes[:count]):
        node.name = f"{prefix}{index}" + "".join(f".{k}={v}" for k, v in others.items())


def copied(graph: gs.Graph) -> gs.Graph:
    made = graph.copy()
    made.nodes[0].name = "copied"
    return made


def backwards(graph: gs.Graph) -> None:
    graph.nodes.reverse()


def number(graph: gs.Graph) -> int:
    return 3


value = 3
