"""Sizes that are known by name: products of dims, and what arithmetic and comparison make of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphkit_passes._shapes import computed


@dataclass(frozen=True)
class Sizes:
    """A product of named dims and a positive number: whatever it is, it is no negative number."""

    names: tuple[str, ...]
    factor: int = 1


def better(made: tuple[Any, ...], was: tuple[Any, ...] | None) -> bool:
    """Whether ``made`` says something else than ``was``, and is nowhere less certain."""
    if was is None or len(was) != len(made):
        return was is None
    return made != was and all(certainty(m) >= certainty(w) for m, w in zip(made, was, strict=True))


def certainty(dim: Any) -> int:
    """Of a number, a name of the author's, one that inference made, and nothing."""
    if isinstance(dim, Sizes):
        return 1 if any(n.startswith("unk__") for n in dim.names) else 2
    return 0 if dim is None else 3


def quotient(dims: tuple[Any, ...] | None, others: list[Any]) -> Any:
    """What is left of a tensor of ``dims`` when the other dims of its result are ``others``."""
    whole: Any = None if dims is None else 1
    for dim in dims or ():
        whole = product(whole, dim)
    rest: Any = 1
    for size in others:
        rest = product(rest, size)
    if whole in (None, 0) or rest in (None, 0):
        return None
    above, below = ((Sizes((), v) if isinstance(v, int) else v) for v in (whole, rest))
    names = list(above.names)
    for name in below.names:
        if name not in names:
            return None
        names.remove(name)
    if below.factor <= 0 or above.factor % below.factor:
        return None
    left = Sizes(tuple(names), above.factor // below.factor)
    return left if names else left.factor


def product(x: Any, y: Any) -> Any:
    """A product; None when a factor is not known, or a number below zero meets a name."""
    if x is None or y is None:
        return None
    if isinstance(x, int) and isinstance(y, int):
        return x * y
    if isinstance(y, Sizes) and isinstance(x, int):
        x, y = y, x
    if isinstance(y, int):
        return 0 if y == 0 else Sizes(x.names, x.factor * y) if y > 0 else None
    return Sizes(tuple(sorted((*x.names, *y.names))), x.factor * y.factor)


def result(op: str, x: Any, y: Any) -> Any:
    if isinstance(x, int) and isinstance(y, int):
        return computed(op, x, y)
    if op == "Mul":
        return product(x, y)
    if op in ("Add", "Sub") and y == 0:
        return x
    if op == "Add" and x == 0:
        return y
    if op == "Div" and isinstance(x, Sizes) and isinstance(y, int) and y > 0 and x.factor % y == 0:
        return Sizes(x.names, x.factor // y)
    return None


def agree(x: Any, y: Any) -> bool | None:
    """Whether two elements are equal; None when it depends."""
    if x is None or y is None:
        return None
    if isinstance(x, int) and isinstance(y, int):
        return x == y
    if x == y:
        return True
    number = x if isinstance(x, int) else y if isinstance(y, int) else None
    return False if number is not None and number < 0 else None
