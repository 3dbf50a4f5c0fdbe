"""Finds normalisations that are written out: down from the square root to the mean, up to the quotient."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from graphkit import NotApplicable
from graphkit.model.graph import Node, Tensor
from graphkit_passes._looking import Look
from graphkit_passes._norm_forms import Axes, Forms, is_one

_STEPS = 8  # nodes between the root and the quotient


@dataclass
class Norm:
    """``core`` is ``of / sqrt(factor * mean(of ** 2) + epsilon)``, times ``scales``, plus ``bias``.

    ``of`` is ``x`` itself, or with ``centred`` ``x`` less its mean; ``x`` is the tensor before any Casts.
    """

    x: Tensor
    axes: Axes
    centred: bool
    epsilon: float = 0.0
    factor: float = 1.0
    core: Tensor = None
    scales: list[Tensor] = field(default_factory=list)
    bias: Tensor | None = None


class Finder:
    """Recognises the normalisations of one scope."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._forms = Forms(look)

    def roots(self) -> list[Node]:
        """Where a normalisation may be: its square root, or power."""
        powers = [n for n in self._look.nodes("Pow") if self._look.scalar(n.inputs[1]) in (0.5, -0.5)]
        return [*self._look.nodes("Sqrt"), *powers]

    def find(self, root: Node, *, centred: bool) -> Norm | None:
        """The normalisation around a root; None when there is none, or one of the other kind.

        NotApplicable when something divides by this deviation, and it is no normalisation all the same.
        """
        norm = self._below(root)
        if norm is None or norm.centred != centred or not self._divides(root):
            return None
        if norm.epsilon < 0:
            raise NotApplicable(f"its epsilon is {norm.epsilon:g}")
        if not is_one(norm.factor):
            raise NotApplicable("it is scaled before the root, as an unbiased variance is")
        self._climb(norm, root)
        return norm

    def _below(self, root: Node) -> Norm | None:
        """What is under the root: a mean of squares, and epsilon."""
        look = self._look
        variance, epsilon = self._unclipped(look.strip(root.inputs[0])), 0.0
        add = look.maker(variance, "Add")
        if add is not None:
            numbers = [(t, look.scalar(c)) for t, c in (tuple(add.inputs), tuple(add.inputs[::-1]))]
            summand = next(((t, n) for t, n in numbers if n is not None), None)
            if summand is None:
                return None
            variance, epsilon = summand
        norm = self._variance(self._unclipped(look.strip(variance)))
        return None if norm is None else replace(norm, epsilon=epsilon)

    def _variance(self, tensor: Tensor) -> Norm | None:
        """The normalisation that ``tensor`` is the mean square for, or some multiple of it."""
        look, forms = self._look, self._forms
        squares = forms.mean_square(tensor)
        if squares is not None:
            below = forms.centred(squares.of)
            if below is not None and below[1] == squares.axes:
                return Norm(*below, centred=True, factor=squares.factor)
            return Norm(look.origin(squares.of), squares.axes, centred=False, factor=squares.factor)
        apart = look.maker(tensor, "Sub")  # the mean of the squares, less the square of the mean: Flax
        squares = None if apart is None else forms.mean_square(apart.inputs[0])
        root = None if apart is None else forms.square(apart.inputs[1])
        mean = None if root is None else forms.mean(root)
        if squares is None or mean is None or mean.axes != squares.axes:
            return None
        x = look.origin(mean.of)
        exact = is_one(squares.factor) and is_one(mean.factor) and look.origin(squares.of) is x
        return Norm(x, mean.axes, centred=True) if exact else None

    def _unclipped(self, tensor: Tensor) -> Tensor:
        """``tensor`` before it is clipped to what is not negative, as Keras does in front of every root."""
        for _ in range(2):
            node = self._look.maker(tensor, "Max", "Min", "Relu")
            if node is None or (node.op != "Relu" and len(node.inputs) != 2):
                break
            bounds = [self._look.scalar(t) for t in node.inputs]
            neutral = 0.0 if node.op == "Max" else math.inf
            place = 0 if node.op == "Relu" else 1 if bounds[0] == neutral else 0
            if node.op != "Relu" and bounds[1 - place] != neutral:
                break
            tensor = self._look.strip(node.inputs[place])
        return tensor

    def _divides(self, root: Node) -> bool:
        """Whether what reads the root, Casts aside, divides or multiplies by it."""
        waiting, steps = [root.outputs[0]], 0
        while waiting and steps < _STEPS:
            steps += 1
            for node in self._look.readers(waiting.pop()):
                if node.op in ("Div", "Reciprocal", "Mul"):
                    return True
                if node.op in ("Cast", "Add"):
                    waiting.append(node.outputs[0])
        return False

    def _climb(self, norm: Norm, root: Node) -> None:
        """Go up from the root, through what multiplies by its inverse, until the value itself is a factor."""
        at, inverse = root.outputs[0], root.op == "Pow" and self._look.is_scalar(root.inputs[1], -0.5)
        for _ in range(_STEPS):
            if inverse and self._apart(norm, at):
                return
            node = self._look.reader(at)
            if node is None:
                shared = f"'{at.name}' inside the pattern is read elsewhere too"
                raise NotApplicable(_never(norm) if self._look.is_output(at) else shared)
            found = False
            if node.op == "Cast" and self._look.cast_from(node.outputs[0]) is at:
                pass
            elif node.op == "Reciprocal" and not inverse:
                inverse = True
            elif node.op == "Div" and node.inputs[1] is at and not inverse:
                inverse = True
                found = not self._look.is_scalar(node.inputs[0], 1.0) and self._factor(norm, node.inputs[0])
            elif node.op == "Mul" and inverse and node.inputs[0] is not node.inputs[1]:
                found = self._factor(norm, _other(node, at))
            else:
                raise NotApplicable(_astray(norm, at, node))
            at = node.outputs[0]
            if found:
                norm.core = at
                return
        raise NotApplicable(_never(norm))

    def _factor(self, norm: Norm, factor: Tensor) -> bool:
        """Note a factor; whether it is the value that is normalised, or a product with it."""
        if self._is_value(norm, factor):
            return True
        product = self._look.maker(self._look.origin(factor), "Mul")
        pairs = [] if product is None else [tuple(product.inputs), tuple(product.inputs[::-1])]
        for value, scale in pairs:
            if self._is_value(norm, value):
                norm.scales.append(scale)
                return True
        norm.scales.append(factor)
        return False

    def _is_value(self, norm: Norm, tensor: Tensor) -> bool:
        below = self._forms.centred(tensor)
        if norm.centred:
            return below is not None and below[0] is norm.x and below[1] == norm.axes
        return self._look.origin(tensor) is norm.x

    def _apart(self, norm: Norm, inverse: Tensor) -> bool:
        """TensorFlow's way: ``x * inverse + (bias - mean * inverse)``."""
        readers = self._look.readers(inverse)
        if not norm.centred or len(readers) != 2 or any(n.op != "Mul" for n in readers):
            return False
        for value, mean in (readers, readers[::-1]):
            is_value = self._look.origin(_other(value, inverse)) is norm.x
            if is_value and self._is_mean(norm, _other(mean, inverse)):
                return self._joined(norm, value.outputs[0], mean.outputs[0])
        return False

    def _is_mean(self, norm: Norm, tensor: Tensor) -> bool:
        mean = self._forms.mean(tensor)
        same = mean is not None and self._look.origin(mean.of) is norm.x and mean.axes == norm.axes
        return mean is not None and same and is_one(mean.factor)

    def _joined(self, norm: Norm, value: Tensor, mean: Tensor) -> bool:
        """Whether ``value - mean`` is what follows, with or without a bias between them."""
        up = self._look.reader(mean)
        if up is None or up.op not in ("Sub", "Neg"):
            return False
        if up.op == "Sub" and up.inputs[0] is value and up.inputs[1] is mean:
            norm.core = up.outputs[0]
            return self._look.reader(value) is up
        bias = up.inputs[0] if up.op == "Sub" else None
        end, other = self._look.reader(up.outputs[0]), self._look.reader(value)
        if end is None or end.op != "Add" or other is None or other is not end or bias is mean:
            return False
        norm.bias, norm.core = bias, end.outputs[0]
        return True


def _other(product: Node, one: Tensor) -> Tensor:
    """The other factor."""
    a, b = product.inputs
    return b if a is one else a


def _astray(norm: Norm, at: Tensor, node: Node) -> str:
    what = "epsilon is added to the root" if node.op == "Add" else f"the root goes into {node.op}"
    return f"{what} ('{at.name}'), which no normalisation does" if not norm.scales else _never(norm)


def _never(norm: Norm) -> str:
    """What is divided by the deviation is another value than the one whose deviation it is."""
    if norm.centred:
        return f"what it divides is not '{norm.x.name}' less its mean"
    return f"what it divides is not '{norm.x.name}'"
