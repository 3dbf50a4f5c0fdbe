"""Means, mean squares and deviations, in the ways in which exporters spell them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from graphkit.model.graph import Node, Shape, Tensor
from graphkit.model.operators import attribute
from graphkit_passes._looking import Look

Axes = tuple[int, ...]


@dataclass(frozen=True)
class Mean:
    """A tensor is ``factor`` times the mean of ``of``, or of the square of it, over ``axes``.

    ``axes`` count from the end where that is known; those that are not negative do not.
    """

    of: Tensor
    axes: Axes
    factor: float


class Forms:
    """Recognises, from what a tensor is made by, what it is.

    Casts of a result are looked through, be they exact or not; those of what it is made of must be exact.
    """

    def __init__(self, look: Look) -> None:
        self._look = look

    def mean(self, tensor: Tensor) -> Mean | None:
        """``tensor`` as a mean: a ReduceMean, or a ReduceSum and a division by the number of elements.

        Where ``keepdims`` is 0, a Reshape or an Unsqueeze has to give back the dims that are gone.
        """
        return self._mean(tensor, "ReduceMean", "ReduceSum")

    def mean_square(self, tensor: Tensor) -> Mean | None:
        """``tensor`` as a mean of squares: a mean of a product or power, or a ReduceSumSquare."""
        mean = self.mean(tensor)
        if mean is None:
            return self._mean(tensor, "ReduceSumSquare")
        root = self.square(mean.of)
        return None if root is None else replace(mean, of=root)

    def _mean(self, tensor: Tensor, *ops: str) -> Mean | None:
        look, factor, shaped = self._look, 1.0, None
        while True:
            tensor = look.strip(tensor)
            node = look.maker(tensor, *ops, "Mul", "Div", *_SHAPERS)
            if node is None:
                return None
            if node.op in _SHAPERS:
                shaped = shaped or tensor
                tensor = node.inputs[0]
            elif node.op in ("Mul", "Div"):
                found = self._scaled(node)
                if found is None:
                    return None
                tensor, by = found
                factor *= by
            else:
                return self._reduced(node, factor, shaped)

    def _scaled(self, node: Node) -> tuple[Tensor, float] | None:
        """The other operand of a product with, or a division by, a number; and that number's effect."""
        a, b = node.inputs
        number = self._look.scalar(b)
        if node.op == "Div":
            return None if not number else (a, 1 / number)
        if number is None:
            a, number = b, self._look.scalar(a)
        return None if number is None else (a, number)

    def _reduced(self, node: Node, factor: float, shaped: Tensor | None) -> Mean | None:
        of = node.inputs[0]
        axes = self._axes(node)
        if axes is None or attribute(self._look.graph, node, "keepdims") not in (0, 1):
            return None
        keeps = attribute(self._look.graph, node, "keepdims") == 1
        if (shaped is not None or not keeps) and not self._restores(shaped, of, axes):
            return None
        if node.op != "ReduceMean":
            count = self.count(of, axes)
            if count is None:
                return None
            factor *= count
        return Mean(of, axes, factor)

    def _axes(self, node: Node) -> Axes | None:
        """The axes of a reduction, counted from the end if the rank is known; None if they are not."""
        look = self._look
        if len(node.inputs) > 1 and node.inputs[1].name:
            values = look.graph.value(node.inputs[1])
            axes = None if values is None else values.reshape(-1).tolist()
        else:
            axes = attribute(look.graph, node, "axes")
        rank = look.known.rank(look.graph, node.inputs[0])
        if not axes:
            all_of_them = axes is None or axes == []
            empty = attribute(look.graph, node, "noop_with_empty_axes")
            return tuple(range(-rank, 0)) if all_of_them and rank and empty in (None, 0) else None
        if not isinstance(axes, list | tuple):
            return None
        found = {int(a) - rank if rank is not None and a >= 0 else int(a) for a in axes}
        return tuple(sorted(found)) if len(found) == len(axes) else None

    def _restores(self, shaped: Tensor | None, of: Tensor, axes: Axes) -> bool:
        """Whether ``shaped`` has the dims of ``of``, with 1 in the place of ``axes``."""
        if shaped is None:
            return False
        shape, wanted = self.shape(shaped), self.shape(of)
        if shape is None or wanted is None or len(shape) != len(wanted):
            return False
        places = {a % len(wanted) for a in axes}
        kept = [1 if i in places else d for i, d in enumerate(wanted)]
        return all(d is not None and d == w for d, w in zip(shape, kept, strict=True))

    def shape(self, tensor: Tensor) -> Shape | None:
        """The shape of a tensor, as inferred or as a constant has it."""
        graph = self._look.graph
        return graph.shape(tensor) if graph.is_constant(tensor) else self._look.known.types.shape(tensor)

    def dims(self, of: Tensor, axes: Axes) -> tuple[int, ...] | None:
        """The sizes of ``axes``; None unless all are known."""
        shape = self.shape(of)
        if shape is None or any(a >= 0 or -a > len(shape) for a in axes):
            return None
        found = tuple(d for d in (shape[a] for a in axes) if isinstance(d, int))
        return found if len(found) == len(axes) else None

    def count(self, of: Tensor, axes: Axes) -> int | None:
        """How many elements there are along ``axes``."""
        dims = self.dims(of, axes)
        return None if dims is None else math.prod(dims)

    def square(self, tensor: Tensor) -> Tensor | None:
        """What ``tensor`` is the square of."""
        node = self._look.maker(self._look.strip(tensor), "Pow", "Mul")
        if node is None:
            return None
        a, b = node.inputs
        if node.op == "Pow":
            return a if self._look.is_scalar(b, 2.0) else None
        return a if self.same(a, b) else None

    def same(self, a: Tensor, b: Tensor) -> bool:
        """Whether two tensors are one, Casts aside, or both the deviation of one tensor from its mean."""
        a, b = self._look.origin(a), self._look.origin(b)
        if a is b:
            return True
        first, second = self.centred(a), self.centred(b)
        return first is not None and second is not None and first[0] is second[0] and first[1] == second[1]

    def centred(self, tensor: Tensor) -> tuple[Tensor, Axes] | None:
        """What ``tensor`` is, less its own mean; and over which axes."""
        node = self._look.maker(self._look.origin(tensor), "Sub")
        mean = None if node is None else self.mean(node.inputs[1])
        if node is None or mean is None or not is_one(mean.factor):
            return None
        x = self._look.origin(node.inputs[0])
        return (x, mean.axes) if self._look.origin(mean.of) is x else None


_SHAPERS = ("Reshape", "Unsqueeze")


def is_one(factor: float) -> bool:
    """Whether a number that was computed, and perhaps rounded to float16, is 1."""
    return bool(np.isclose(factor, 1.0, rtol=1e-6))
