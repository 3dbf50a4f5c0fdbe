"""A few thousand values of each tensor, always from the same places: enough to tell tensors apart."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FINE", "ROUGH", "Sample", "distance", "distances", "positions", "take"]

Array = NDArray[Any]
ROUGH = 2048  # to find a tensor's partner
FINE = 32768  # to measure how far two tensors are apart
_PRESENT = 0.05  # of the places must be finite in both, else nothing is known


@lru_cache(maxsize=512)
def positions(count: int, most: int = ROUGH) -> Array:
    """Flat places in a tensor of ``count`` elements: all of them when few, else seeded by the count."""
    if count <= most:
        return np.arange(count)
    return np.unique(np.random.default_rng(count).integers(0, count, most))


class Sample:
    """Some values of one tensor: ``values`` float32 at ``positions(count)``, and its dims."""

    __slots__ = ("count", "dims", "values")

    def __init__(self, array: Array) -> None:
        self.dims = tuple(array.shape)
        self.count = int(array.size)
        self.values = take(array)


def take(array: Array, most: int = ROUGH) -> Array:
    """The values of ``array`` at its sample places, as float32 (booleans and integers too)."""
    with np.errstate(over="ignore", invalid="ignore"):
        return array.reshape(-1)[positions(int(array.size), most)].astype(np.float32)


def distances(value: Array, others: Array) -> Array:
    """Rms error of ``value`` [s] against each row of ``others`` [k, s], over the row's rms; or inf.

    Places where either is not finite are left out.
    """
    if value.size == 0:
        return np.full(len(others), np.inf)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        error = others - value[None, :]
        both = np.isfinite(error)
        present = both.mean(axis=1)
        wide = np.where(both, error, 0).astype(np.float64)
        size = np.where(both, others, 0).astype(np.float64)
        error_rms, rms = np.sqrt((wide**2).sum(axis=1)), np.sqrt((size**2).sum(axis=1))
        found = np.where(error_rms == 0, 0.0, error_rms / rms)
    return np.where(present < _PRESENT, np.inf, np.where(np.isnan(found), np.inf, found))


def distance(value: Array, other: Array) -> float:
    """`distances` for one pair of samples."""
    return float(distances(value, other[None, :])[0])


def stacked(samples: Sequence[Sample]) -> Array:
    """The values of samples of one count, [k, s]."""
    return np.stack([s.values for s in samples]) if samples else np.zeros((0, 0), np.float32)
