"""Whether all that a tensor's values go into is a Softmax, as attention masks do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from graphkit import Graph
from graphkit.model.graph import Node, Tensor
from graphkit.model.operators import attribute, domain_of
from graphkit_passes._looking import cast_to
from graphkit_passes._shared import FLOATS, Known

_FAR = 40
_SHAPERS = dict.fromkeys(
    ("Cast", "Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Tile", "Unsqueeze"), (0,)
)
MOVERS: dict[str, tuple[int, ...] | None] = {
    **_SHAPERS,
    **dict.fromkeys(("Gather", "GatherND", "Slice", "Split", "Transpose", "Trilu"), (0,)),
    **dict.fromkeys(("ScatterElements", "ScatterND"), (0, 2)),
    **dict.fromkeys(("Add", "Concat", "Max", "Mul", "Neg", "Sub", "Sum"), None),
    "Where": (1, 2),
}
"""Operators that pass values on, and by which inputs; None for all."""
_STILL = ("Add", "Sub", "Sum", "Cast", "Identity")


@dataclass(frozen=True)
class Way:
    """Where values go: through ``nodes`` to ``ends``, with these signs.

    ``problem`` says why they may not change; it is empty when they may.
    """

    problem: str = ""
    signs: frozenset[int] = frozenset()
    nodes: tuple[Node, ...] = ()
    ends: tuple[Node, ...] = ()
    multiplied: bool = False
    whole: bool = False
    """Whether they are added, or given to a Softmax, with no element exchanged for another before."""
    exchanged: bool = False
    """Whether some of them may be exchanged for others before."""

    def joined(self, other: Way) -> Way:
        """Both ways."""
        return Way(
            self.problem or other.problem,
            self.signs | other.signs,
            tuple({id(n): n for n in (*self.nodes, *other.nodes)}.values()),
            tuple({id(n): n for n in (*self.ends, *other.ends)}.values()),
            self.multiplied or other.multiplied,
            self.whole or other.whole,
            self.exchanged or other.exchanged,
        )


@dataclass
class Paths:
    """Follows tensors of a model downwards; ``outputs`` are the ids of the outputs of all scopes."""

    main: Graph
    known: Known
    outputs: set[int]
    _ways: dict[int, Way] = field(default_factory=dict)

    def of(self, tensor: Tensor, depth: int = _FAR) -> Way:
        """All ways that the values of ``tensor`` go."""
        if id(tensor) in self._ways:
            return self._ways[id(tensor)]
        if id(tensor) in self.outputs or tensor.name in self.main.model.pinned:
            return Way(f"'{tensor.name}' is a graph output")
        way = Way() if depth and tensor.outputs else Way(f"'{tensor.name}' goes a long way")
        for node in {id(n): n for n in tensor.outputs}.values() if depth else ():
            way = way.joined(self.through(node, tensor, depth))
            if way.problem:
                break
        self._ways[id(tensor)] = way
        return way

    def through(self, node: Node, tensor: Tensor, depth: int = _FAR) -> Way:
        """The ways of what ``node`` makes of ``tensor``."""
        places = {i for i, t in enumerate(node.inputs) if t is tensor}
        if _is_end(node, places):
            return Way(signs=frozenset({1}), ends=(node,), whole=True)
        allowed = MOVERS.get(node.op, ())
        if domain_of(node) or (allowed is not None and not places <= set(allowed)):
            return Way(f"it goes into {node.op}")
        problem = self._problem(node, tensor)
        if problem:
            return Way(problem)
        way = Way(nodes=(node,))
        for made in (t for t in node.outputs if t.name):
            way = way.joined(self.of(made, depth - 1))
        return self._turned(node, places, way)

    def _problem(self, node: Node, tensor: Tensor) -> str:
        """Why the values may not go through this node, for all that its type says."""
        if node.op == "Cast":
            to = cast_to(self.main, node)
            return "" if to is not None and to.name in FLOATS else "it is cast to another type than a float"
        if node.op == "Mul":
            others = [t for t in node.inputs if t is not tensor]
            if len(others) != 1 or not self.is_whole(others[0]):
                name = others[0].name if others else tensor.name
                return f"it is multiplied by '{name}', which may be other than whole numbers"
        return ""

    def _turned(self, node: Node, places: set[int], way: Way) -> Way:
        signs = way.signs
        if node.op == "Neg" or (node.op == "Sub" and places == {1}):
            signs = frozenset(-s for s in signs)
        elif node.op == "Sub" and len(places) == 2:
            return replace(way, problem="it is subtracted from itself")
        elif node.op == "Max":
            signs = signs | {1}  # the larger one must be what is not masked
        multiplied = way.multiplied or node.op == "Mul"
        if node.op not in _SHAPERS:
            adds = node.op in ("Add", "Sub", "Sum")
            way = replace(way, whole=adds, exchanged=not adds)
        return replace(way, signs=signs, multiplied=multiplied)

    def is_whole(self, tensor: Tensor, depth: int = 12) -> bool:
        """Whether all values are known to be whole numbers, because integers or booleans make them."""
        graph = self.main
        values = graph.value(tensor) if graph.nbytes(tensor) <= _SMALL and graph.is_constant(tensor) else None
        if values is not None:
            return values.dtype.kind in "biu" or bool((values == values.round()).all())
        dtype = self.known.types.dtype(tensor)
        if dtype is not None and dtype.kind in "biu":
            return True
        node = graph.producer(tensor)
        if node is None or not depth or domain_of(node) or node.op not in MOVERS:
            return False
        places = MOVERS[node.op]
        inputs = node.inputs if places is None else [node.inputs[i] for i in places]
        return all(self.is_whole(t, depth - 1) for t in inputs)


_SMALL = 4096  # bytes


def _is_end(node: Node, places: set[int]) -> bool:
    """A Softmax, or an Attention that takes the tensor for its mask and returns no scores."""
    if domain_of(node):
        return False
    scores = len(node.outputs) > 3 and bool(node.outputs[3].name)
    return node.op == "Softmax" or (node.op == "Attention" and places == {3} and not scores)


def by_rows(graph: Graph, way: Way) -> bool:
    """Whether all that becomes of the values is a Softmax over the last axis, and nothing moves them."""
    axes = [attribute(graph, n, "axis") for n in way.ends if n.op == "Softmax"]
    last = all(a == -1 for a in axes) or graph.opset < 13  # where all axes from the given one on count
    return last and not way.exchanged and all(n.op in _STILL for n in way.nodes)


def tells_nan(ends: tuple[Node, ...]) -> bool:
    """Whether an IsNaN reads what one of the Softmaxes makes."""
    return any(reader.op == "IsNaN" for n in ends for t in n.outputs for reader in t.outputs)
