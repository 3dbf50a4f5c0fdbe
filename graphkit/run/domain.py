"""The values an input may take: an interval, a few choices, or values worked out for one use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Make = Callable[[np.random.Generator, tuple[int, ...]], Any]


@dataclass(frozen=True)
class Domain:
    """Inclusive bounds; ``choices`` or ``make`` (rng, shape -> values) override them.

    ``apart``: no value is nearer to zero than this.
    """

    low: float = -np.inf
    high: float = np.inf
    choices: tuple[Any, ...] = ()
    make: Make | None = None
    apart: float = 0.0

    @property
    def bounded(self) -> bool:
        """Whether any bound is asked for."""
        return self.low != -np.inf or self.high != np.inf

    def meet(self, other: Domain) -> Domain:
        """What satisfies both; exact values win over choices, choices over bounds."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        if low > high:
            low, high = self.low, self.high
        choices, make = self.choices or other.choices, self.make or other.make
        return Domain(low, high, choices, make, max(self.apart, other.apart))


def exactly(values: Any) -> Domain:
    """One value or list of values; scalars are repeated to the input's shape."""

    def make(_: np.random.Generator, shape: tuple[int, ...]) -> Any:
        array = np.asarray(values)
        return array.reshape(shape) if array.size == np.prod(shape, dtype=int) else np.resize(array, shape)

    return Domain(make=make)


def between(low: float, high: float) -> Domain:
    """Any value from ``low`` to ``high``, both included."""
    return Domain(low, max(low, high))


def divisor(least: float, most: float) -> Domain:
    """Either sign, from ``least`` to ``most`` in magnitude."""
    return Domain(-most, most, apart=least)


def one_of(values: Sequence[Any]) -> Domain:
    """One of a few values."""
    return Domain(choices=tuple(values))


def distinct(limit: int) -> Domain:
    """Different whole numbers in [0, limit); wraps when the input has more elements than that."""

    def make(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
        count = int(np.prod(shape, dtype=int))
        return np.resize(rng.permutation(max(limit, 1)), count).reshape(shape)

    return Domain(make=make)


def distinct_along(axis: int, limit: int) -> Domain:
    """Whole numbers in [0, limit) that differ along ``axis``: scattering them has one right answer."""

    def make(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
        if not shape:
            return np.asarray(rng.integers(0, max(limit, 1)))
        size = list(shape)
        size[axis] = max(limit, shape[axis], 1)
        order = np.argsort(rng.random(size), axis=axis)
        return np.take(order, range(shape[axis]), axis=axis) % max(limit, 1)

    return Domain(make=make)
