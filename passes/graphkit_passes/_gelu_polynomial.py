"""What a few elementwise nodes compute, as a polynomial in one tensor and in a function of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from graphkit.model.graph import Tensor
from graphkit_passes._looking import Look

Polynomial = dict[tuple[int, int], float]
"""Coefficients by the powers of x and of f(x); a power that is not there has none."""

_DEPTH = 12
OPS = ("Add", "Sub", "Mul", "Div", "Neg", "Pow", "Cast", "Identity")


@dataclass
class Expander:
    """Writes tensors as polynomials in ``x`` and ``f``; None for what is no polynomial in them."""

    look: Look
    x: Tensor
    f: Tensor | None = None
    constants: list[Tensor] = field(default_factory=list)
    """The numbers that were met."""

    def expand(self, tensor: Tensor, depth: int = _DEPTH) -> Polynomial | None:
        """The polynomial that ``tensor`` is."""
        if tensor is self.x:
            return {(1, 0): 1.0}
        if tensor is self.f:
            return {(0, 1): 1.0}
        number = self.look.scalar(tensor)
        if number is not None:
            self.constants.append(tensor)
            return {(0, 0): number}
        node = self.look.maker(tensor, *OPS)
        if node is None or not depth or (node.op == "Cast" and self.look.cast_from(tensor) is None):
            return None
        parts = [self.expand(t, depth - 1) for t in node.inputs]
        known = [p for p in parts if p is not None]
        return _apply(node.op, known) if len(known) == len(parts) else None


def _apply(op: str, parts: list[Polynomial]) -> Polynomial | None:
    a = parts[0]
    if len(parts) == 1:
        return times(a, -1.0) if op == "Neg" else a
    b = parts[1]
    if op in ("Add", "Sub"):
        return _sum(a, b if op == "Add" else times(b, -1.0))
    if op == "Mul":
        return _product(a, b)
    number = b.get((0, 0)) if set(b) == {(0, 0)} else None
    if op == "Div":
        return times(a, 1 / number) if number else None
    if number not in (2.0, 3.0):  # a power
        return None
    square = _product(a, a)
    return square if number == 2.0 else _product(square, a)


def _sum(a: Polynomial, b: Polynomial) -> Polynomial:
    total = {powers: a.get(powers, 0.0) + b.get(powers, 0.0) for powers in {**a, **b}}
    return {powers: c for powers, c in total.items() if c}


def times(a: Polynomial, number: float) -> Polynomial:
    """All coefficients times a number."""
    return {powers: c * number for powers, c in a.items() if c * number}


def _product(a: Polynomial, b: Polynomial) -> Polynomial:
    total: Polynomial = {}
    for (i, j), c in a.items():
        total = _sum(total, {(i + k, j + m): c * d for (k, m), d in b.items()})
    return total


def is_near(a: Polynomial, wanted: Polynomial, tolerance: float) -> bool:
    """Whether all coefficients agree to a relative ``tolerance``."""
    return set(a) == set(wanted) and all(abs(a[p] - c) <= tolerance * abs(c) for p, c in wanted.items())
