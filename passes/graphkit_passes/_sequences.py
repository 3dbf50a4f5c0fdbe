"""What sequences hold, as far as the model says it; and the tensors that stand for their elements."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphkit import Graph
from graphkit.model.operators import attribute, domain_of
from graphkit.model.scopes import ordered
from graphkit.model.surgeon import Node, Tensor
from graphkit_passes._proven import Proven

MOST = 256
"""Pieces that one Split makes; single rows of a longer tensor are gathered."""


@dataclass(frozen=True)
class Given:
    """An element that a node reads: whatever stands in that place when it is asked for."""

    node: Node
    place: int


@dataclass(eq=False)
class Pieces:
    """What a SplitToSequence makes of a tensor; ``sizes`` is None when not even their number is known."""

    graph: Graph
    node: Node
    axis: int
    sizes: list[int] | None
    rows: bool
    squeezed: bool
    why: str = ""
    axes: Tensor | None = None
    made: dict[int, Tensor] = field(default_factory=dict)
    whole: dict[int, Tensor] = field(default_factory=dict)

    def piece(self, index: int) -> Tensor:
        """One piece; the Split is added when the first one is asked for."""
        made = self.made if self.squeezed else self.whole
        if index not in made:
            if index not in self.whole:
                self._split()
            if self.squeezed:
                self.axes = self.axes or axes_of(self.graph, self.axis)
                made[index] = reshaped("Squeeze", self.graph, self.whole[index], self.axes, self.node)
        return made[index]

    def _split(self) -> None:
        sizes = self.sizes or []
        if len(sizes) == 1:
            self.whole[0] = self.node.inputs[0]
            return
        name = self.node.outputs[0].name
        given, attrs = [self.node.inputs[0]], dict[str, Any](axis=self.axis)
        if self.graph.opset < 13:
            attrs["split"] = sizes
        else:
            given.append(self.graph.constant(np.array(sizes, np.int64), "split"))
        names = [f"{name}_{i}" for i in range(len(sizes))]
        outputs = self.graph.add("Split", given, attrs, outputs=names, before=self.node, of=[self.node])
        self.whole.update(enumerate(outputs))

    def moved(self, was: Tensor, now: Tensor) -> None:
        """Note that the node which made ``was`` writes ``now`` instead."""
        for made in (self.made, self.whole):
            made.update({i: now for i, t in made.items() if t is was})


Piece = tuple[Pieces, int]
Elements = list[Given | Piece]


class Sequences:
    """The elements of every sequence of a model, as it is when this is made; nothing is changed."""

    def __init__(self, main: Graph, proven: Proven) -> None:
        self._main = main
        self._proven = proven
        self._known: dict[int, Elements | Pieces | str] = {}
        self._pieces: list[Pieces] = []
        for scope in main.scopes():
            for node in ordered([n for n in scope.nodes if n.op in _RULES and not domain_of(n)]):
                self._known[id(node.outputs[0])] = _RULES[node.op](self, scope, node)

    def known(self, tensor: Tensor) -> Elements | Pieces | str:
        """The elements of a sequence; Pieces of which not even the number is known; or why it has none."""
        found = self._known.get(id(tensor))
        if found is not None:
            return found
        maker = self._main.producer(tensor)
        if maker is None:
            return f"the sequence '{tensor.name}' is an input"
        return f"the sequence '{tensor.name}' comes out of {maker.op}"

    def moved(self, was: Tensor, now: Tensor) -> None:
        """Note that the node which made ``was`` writes ``now`` instead."""
        for pieces in self._pieces:
            pieces.moved(was, now)

    def position(self, graph: Graph, node: Node, place: int) -> int | str | None:
        """A position as a number; None when it is left out; or why it is not known."""
        if len(node.inputs) <= place or not node.inputs[place].name:
            return None
        value = self._proven.value(graph, node.inputs[place])
        if value is None:
            return f"its position is not constant: {self._proven.why(node.inputs[place])}"
        return int(value.reshape(-1)[0]) if value.size == 1 else "its position is no single number"

    # -- one rule an operator

    def _construct(self, graph: Graph, node: Node) -> Elements:
        return [Given(node, i) for i in range(len(node.inputs))] if node.op == "SequenceConstruct" else []

    def _same(self, graph: Graph, node: Node) -> Elements | Pieces | str:
        return self.known(node.inputs[0])

    def _insert(self, graph: Graph, node: Node) -> Elements | str:
        before = self._listed(node.inputs[0])
        where = self.position(graph, node, 2)
        if isinstance(before, str) or isinstance(where, str):
            return before if isinstance(before, str) else str(where)
        place = len(before) if where is None else where + len(before) if where < 0 else where
        if not 0 <= place <= len(before):
            return f"position {where} is not in a sequence of {len(before)}"
        return [*before[:place], Given(node, 1), *before[place:]]

    def _erase(self, graph: Graph, node: Node) -> Elements | str:
        before = self._listed(node.inputs[0])
        where = self.position(graph, node, 1)
        if isinstance(before, str) or isinstance(where, str):
            return before if isinstance(before, str) else str(where)
        place = index(before, -1 if where is None else where)
        return place if isinstance(place, str) else [*before[:place], *before[place + 1 :]]

    def _listed(self, tensor: Tensor) -> Elements | str:
        found = self.known(tensor)
        return found.why if isinstance(found, Pieces) else found

    def _split(self, graph: Graph, node: Node) -> Elements | Pieces | str:
        axis = attribute(graph, node, "axis")
        given = len(node.inputs) > 1 and bool(node.inputs[1].name)
        keeps = 1 if given else attribute(graph, node, "keepdims")
        if not isinstance(axis, int) or not isinstance(keeps, int):
            return "an attribute is given by the function's caller"
        size, why = self._dim(graph, node.inputs[0], axis)
        pieces = Pieces(graph, node, axis, None, not given, not keeps, why)
        self._pieces.append(pieces)
        if given:
            sizes = self._sizes(graph, node, size, why)
            if isinstance(sizes, str):
                return sizes
            pieces.sizes = sizes
        elif size is not None and size <= MOST:
            pieces.sizes = [1] * size
        elif size is not None:
            pieces.why = f"it has {size} elements, and no Split makes more than {MOST}"
        return pieces if pieces.sizes is None else [(pieces, i) for i in range(len(pieces.sizes))]

    def _dim(self, graph: Graph, tensor: Tensor, axis: int) -> tuple[int | None, str]:
        shape = graph.shape(tensor) if graph.is_constant(tensor) else self._proven.types.shape(tensor)
        if shape is None or not -len(shape) <= axis < len(shape):
            return None, f"the number of its elements is not known, nor the shape of '{tensor.name}'"
        dim = shape[axis]
        if isinstance(dim, int):
            return dim, ""
        mend = f"fix-shapes:{dim}=… makes it known" if dim else "fix-shapes may make it known"
        told = f"dim {axis % len(shape)} of '{tensor.name}'" + (f" ({dim})" if dim else "")
        return None, f"the number of its elements follows from {told}; {mend}"

    def _sizes(self, graph: Graph, node: Node, size: int | None, why: str) -> list[int] | str:
        value = self._proven.value(graph, node.inputs[1])
        if value is None:
            return f"the sizes of the pieces are not constant: {self._proven.why(node.inputs[1])}"
        if value.ndim == 0:
            step = int(value)
            if size is None:
                return why
            if step <= 0 or size > MOST * step:
                return f"pieces of {step} make no Split of {size}"
            return [min(step, size - start) for start in range(0, size, step)]
        sizes = [int(v) for v in value.reshape(-1)]
        if len(sizes) > MOST or (size is not None and sum(sizes) != size):
            return f"its {len(sizes)} pieces do not add up to {size}"
        return sizes


_RULES: dict[str, Any] = {
    "Identity": Sequences._same,
    "SequenceConstruct": Sequences._construct,
    "SequenceEmpty": Sequences._construct,
    "SequenceErase": Sequences._erase,
    "SequenceInsert": Sequences._insert,
    "SplitToSequence": Sequences._split,
}


def index(elements: Elements, where: int) -> int | str:
    """The place that a position means, counted from the front."""
    if not -len(elements) <= where < len(elements):
        return f"position {where} is not in a sequence of {len(elements)}"
    return where % len(elements)


def axes_of(graph: Graph, axis: int) -> Tensor:
    """The axis of a Squeeze or Unsqueeze, as a constant."""
    return graph.constant(np.array([axis], np.int64), "axes")


def reshaped(op: str, graph: Graph, tensor: Tensor, axes: Tensor, before: Node) -> Tensor:
    """``tensor`` without a dim of 1 (``op`` is Squeeze), or with one more (Unsqueeze)."""
    if graph.opset < 13:
        listed = axes._values.tolist()
        return graph.add(op, [tensor], {"axes": listed}, before=before, of=[before])[0]
    return graph.add(op, [tensor, axes], before=before, of=[before])[0]
