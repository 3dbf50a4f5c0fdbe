"""An operator with weights that takes in a scale and a shift by channel, behind or in front of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphkit import Graph, NotApplicable
from graphkit.model.graph import Node, Tensor
from graphkit_passes._affine import fits
from graphkit_passes._fusing import Array, Fusing, rounded


@dataclass
class Change:
    """New values, in float64, by the index of the input; ``attrs`` to set, None for one to leave out."""

    values: dict[int, Array] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)


class Linear(ABC):
    """One node. ``rank`` is that of what it reads and makes, None where it is not known.

    Channels are counted along an axis: ``outs`` along ``out_axis`` of what it makes, ``ins`` along
    ``in_axis`` of its first input.
    """

    roles: tuple[str, ...] = ("input", "weight", "bias")
    sliced: tuple[int, ...] = ()

    rank: int | None
    outs: int
    ins: int
    out_axis = 1
    in_axis = 1

    def __init__(self, fusing: Fusing, graph: Graph, node: Node) -> None:
        self.fusing, self.graph, self.node = fusing, graph, node

    def has(self, index: int) -> bool:
        """Whether the node has this optional input."""
        return index < len(self.node.inputs) and bool(self.node.inputs[index].name)

    def values(self, index: int) -> Array:
        """The values of an input in float64; zero for one that is left out. NotApplicable if not constant."""
        if not self.has(index):
            return np.zeros(())
        return self.fusing.values(self.graph, self.node.inputs[index], self.roles[index]).astype(np.float64)

    @property
    def can_scale(self) -> bool:
        """Whether the weights are constant; a shift needs only the bias."""
        return self.graph.is_constant(self.node.inputs[1])

    can_shift_behind = True
    """Whether a shift behind the node goes into it; else it needs an Add."""

    def why_no_shift_in_front(self) -> str | None:
        """Why a shift of the input cannot be taken in; None when it can."""
        return None

    def takes(self, shape: Sequence[int]) -> bool:
        """Whether a constant of ``shape`` beside what the node makes has a value a channel, or one at all."""
        return not shape or (self.rank is not None and fits(shape, self.rank, self.out_axis, self.outs))

    def takes_in_front(self, shape: Sequence[int]) -> bool:
        """The same for what the node reads."""
        return not shape or (self.rank is not None and fits(shape, self.rank, self.in_axis, self.ins))

    def keeps_shape(self, shape: Sequence[int], x: Tensor) -> bool:
        """Whether ``x`` has the shape of the node's input, to which a constant of ``shape`` made it."""
        if all(d == 1 for d in shape) and len(shape) < (self.rank or 1):
            return True
        known = self.fusing.known.types.shape(x)
        if known is None or len(known) < len(shape) or (self.rank is not None and len(known) != self.rank):
            return False
        return all(d == 1 for d in shape) or known[self.in_axis] == self.ins

    @abstractmethod
    def behind(self, scale: Array | None, shift: Array | None) -> Change:
        """``scale * y + shift`` for the y that the node makes; vectors of the ``outs`` channels."""

    @abstractmethod
    def in_front(self, scale: Array | None, shift: Array | None) -> Change:
        """``scale * x + shift`` for the x that it reads; vectors of the ``ins`` channels."""

    def weights(self, change: Change, of: Sequence[Tensor]) -> list[Tensor | None]:
        """The node's inputs with those of ``change``: rounded once, to the dtypes of the old ones."""
        made = {i: self._rounded(i, v) for i, v in change.values.items()}
        inputs = list(self.node.inputs) + [None] * (max(made, default=0) + 1 - len(self.node.inputs))
        for index, values in made.items():
            old = self.node.inputs[index] if self.has(index) else None
            name = old.name if old is not None else f"{self.node.inputs[1].name}_bias"
            inputs[index] = self.graph.constant(values, name, of=[*([] if old is None else [old]), *of])
        return inputs

    def bias(self, values: Array, of: Sequence[Tensor]) -> Tensor:
        """A constant with ``values`` in the dtype of the weights, for an Add behind the node."""
        made = self._rounded(len(self.node.inputs), values)
        return self.graph.constant(made, f"{self.node.inputs[1].name}_bias", of=list(of))

    def _rounded(self, index: int, values: Array) -> Array:
        given = self.node.inputs[index if self.has(index) else 1]
        dtype = self.graph.dtype(given) if self.graph.is_constant(given) else None
        dtype = dtype or self.fusing.known.dtype(self.graph, given)
        if dtype is None:
            raise NotApplicable(f"the dtype of its weight '{given.name}' is not known")
        old = (lambda: self.values(1)) if index == 1 else None
        return rounded(values, dtype, self.roles[min(index, 2)], old, self.sliced)
