"""Where the batch of an input goes: from its first dim through the operators to the outputs.

A tensor carries the batch on one axis, when each of its rows there depends on that row of the input alone.
Constants play no part: a dim of the same size that comes from elsewhere is another dim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from graphkit import Graph, NotApplicable
from graphkit.model.graph import Node, Shape, Tensor
from graphkit.model.infer import Types
from graphkit.model.operators import ABSENT, attribute, domain_of
from graphkit.model.scopes import ordered, reads
from graphkit.model.surgeon import unlink

Make: TypeAlias = "Callable[[], Tensor]"
"""Makes a tensor once the whole model is known to allow it."""


@dataclass(frozen=True)
class Flow:
    """The axis with the batch; each row of it is ``inner`` elements there, one batch row after the other."""

    axis: int
    inner: int = 1


@dataclass(frozen=True)
class Size:
    """An element of a vector of sizes: a number (None when it is not known), times the batch or not."""

    number: int | None
    batch: bool = False


Rule: TypeAlias = "Callable[[Walk, Node], None]"
RULES: dict[str, Rule] = {}
"""What becomes of the batch in each operator."""


def follows(*ops: str) -> Callable[[Rule], Rule]:
    """Declare the rule of some operators."""

    def declare(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(ops, rule))
        return rule

    return declare


class Walk:
    """One walk over the main graph, for a batch of ``size``; nothing is changed before :meth:`edit`."""

    def __init__(self, graph: Graph, inputs: Sequence[Tensor], size: int, types: Types) -> None:
        self.graph, self.size, self._types = graph, size, types
        self._inputs = list(inputs)
        self.flows: dict[int, Flow] = {id(t): Flow(0) for t in inputs}
        self.vectors: dict[int, tuple[Size, ...]] = {}
        self.edits: list[Callable[[], None]] = []
        self._held: list[Tensor] = []  # so that no identity is given again
        self._count: Tensor | None = None
        self.at: Node | None = None

    def run(self) -> None:
        """Follow the batch to the end. NotApplicable, with ``at``, when it gets lost."""
        for node in ordered(self.graph.nodes):
            touched = [t for t in reads(node) if id(t) in self.flows or self._is_sized(t)]
            if not touched:
                continue
            self.at = node
            rule = RULES.get(node.op)
            if domain_of(node) or rule is None:
                name = f"{node.domain}::{node.op}" if domain_of(node) else node.op
                raise NotApplicable(f"it is not known what {name} does with a batch ('{touched[0].name}')")
            rule(self, node)

    def _is_sized(self, tensor: Tensor) -> bool:
        return any(s.batch for s in self.vectors.get(id(tensor), ()))

    def edit(self) -> int:
        """Make the changes; returns how many."""
        for change in self.edits:
            change()
        return len(self.edits)

    # -- what is known

    def flow(self, tensor: Tensor | None) -> Flow | None:
        """Where a tensor has the batch; None when it has none."""
        return None if tensor is None else self.flows.get(id(tensor))

    def batched(self, tensor: Tensor) -> Flow:
        """The same for one that has to have it."""
        found = self.flow(tensor)
        if found is None:
            raise NotApplicable(f"'{tensor.name}' does not have the batch, and another of its inputs does")
        return found

    def shape(self, tensor: Tensor) -> Shape:
        """The shape with the old batch."""
        found = self.graph.shape(tensor) if self.graph.is_constant(tensor) else self._types.shape(tensor)
        if found is None:
            raise NotApplicable(f"the number of dims of '{tensor.name}' is not known")
        return found

    def fixed(self, tensor: Tensor) -> list[int]:
        """A shape of known numbers."""
        shape = self.shape(tensor)
        if not all(isinstance(d, int) for d in shape):
            raise NotApplicable(f"the shape of '{tensor.name}' is not fixed")
        return [d for d in shape if isinstance(d, int)]

    def rank(self, tensor: Tensor) -> int:
        """The number of dims."""
        return len(self.shape(tensor))

    def attr(self, node: Node, name: str, otherwise: Any = None) -> Any:
        """An attribute or its default."""
        value = attribute(self.graph, node, name)
        return otherwise if value is None or value is ABSENT else value

    def input(self, node: Node, place: int) -> Tensor | None:
        """An input; None when it is left out."""
        return node.inputs[place] if place < len(node.inputs) and node.inputs[place].name else None

    def ints(self, node: Node, place: int, name: str) -> list[int] | None:
        """A list of integers that is a constant input or, in older opsets, an attribute; None: left out."""
        given = self.input(node, place)
        if given is None:
            found = self.attr(node, name)
            return None if found is None else [int(v) for v in found]
        values = self.graph.value(given)
        if values is None:
            raise NotApplicable(f"its {name} '{given.name}' is not constant")
        return [int(v) for v in values.reshape(-1)]

    # -- what comes of it

    def set(self, tensor: Tensor, axis: int, inner: int = 1) -> None:
        """Note where a tensor has the batch."""
        if tensor.name:
            self.flows[id(tensor)] = Flow(axis, inner)
            self._held.append(tensor)

    def sizes(self, tensor: Tensor, found: Sequence[Size]) -> None:
        """Note what is in a vector of sizes."""
        self.vectors[id(tensor)] = tuple(found)
        self._held.append(tensor)

    def only(self, node: Node, *places: int) -> None:
        """Refuse when another input than these has the batch."""
        for place, tensor in enumerate(node.inputs):
            if place not in places and (self.flow(tensor) is not None or self._is_sized(tensor)):
                raise NotApplicable(f"its input '{tensor.name}' depends on the batch")

    # -- edits

    def replace_input(self, node: Node, place: int, make: Make) -> None:
        """Let an input be another tensor, which is made then."""

        def change() -> None:
            old, new = node.inputs[place], make()
            list.__setitem__(node.inputs, place, new)
            unlink(old.outputs, node)
            list.append(new.outputs, node)

        self.edits.append(change)

    def constant(self, values: Sequence[int], near: Tensor) -> Tensor:
        """A new vector of int64, named like one that it comes from."""
        return self.graph.constant(np.array(values, np.int64), f"{near.name}_batch", of=[near])

    def count(self) -> Tensor:
        """The batch as a vector of one element, computed from the first input."""
        if self._count is None:
            first, graph = self.graph.nodes[0], self.graph
            (shape,) = graph.add("Shape", [self._inputs[0]], outputs=["batch_shape"], before=first)
            zero = graph.constant(np.array([0], np.int64), "batch_axis")
            (self._count,) = graph.add("Gather", [shape, zero], {"axis": 0}, outputs=["batch"], before=first)
        return self._count

    def single(self, tensor: Tensor, axis: int) -> Make:
        """``tensor`` with one row on ``axis``, where all of its rows are the same."""
        if self.size == 1:
            return lambda: tensor
        values, maker = self.graph.value(tensor), self.graph.producer(tensor)
        if values is not None:
            row = np.take(values, [0], axis)
            if not np.array_equal(np.broadcast_to(row, values.shape), values):
                raise NotApplicable(f"the rows of the constant '{tensor.name}' are not the same")
            return lambda: self.graph.constant(row, f"{tensor.name}_row", of=[tensor])
        if maker is not None and maker.op in ("Tile", "Expand") and not domain_of(maker):
            return self._unrepeated(maker, tensor, axis)
        raise NotApplicable(f"'{tensor.name}' has {self.size} rows that do not come from the batch")

    def _unrepeated(self, maker: Node, tensor: Tensor, axis: int) -> Make:
        """What a Tile or Expand makes, with 1 in the place of the batch."""
        x, given = maker.inputs
        values, shape = self.graph.value(given), self.shape(x)
        place = axis - (self.rank(tensor) - len(shape))
        if values is None or (place >= 0 and shape[place] != 1):
            raise NotApplicable(f"the rows of '{tensor.name}' are not known to be the same")
        new = [int(v) for v in values]
        new[axis - (self.rank(tensor) - len(new))] = 1

        def make() -> Tensor:
            return self.graph.add(maker.op, [x, self.constant(new, given)], before=maker, of=[maker])[0]

        return make

    def grown(self, tensor: Tensor, axis: int, before: Node) -> Make:
        """``tensor``, whose rows on ``axis`` are the same, with as many as the batch has."""
        single, rank = self.single(tensor, axis), self.rank(tensor)

        def make() -> Tensor:
            graph, row = self.graph, single()
            ones = [graph.constant(np.ones(n, np.int64), "ones") for n in (axis, rank - axis - 1) if n]
            parts = [*(ones[:1] if axis else []), self.count(), *(ones[-1:] if rank - axis - 1 else [])]
            shape = self.count()
            if len(parts) > 1:
                (shape,) = graph.add("Concat", parts, {"axis": 0}, before=before, of=[before])
            return graph.add("Expand", [row, shape], before=before, of=[before])[0]

        return make
