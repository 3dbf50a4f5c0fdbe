"""The coarsest dtype that a value has passed through: float16 on the way shows in a float32 result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from graphkit.compare.metrics import tolerance
from graphkit.run.flow import Flow

__all__ = ["along", "coarsest", "region"]

DType = np.dtype[Any]


def coarsest(dtypes: Iterable[DType | None]) -> DType | None:
    """The dtype with the largest tolerance; None when none is known."""
    known = [d for d in dtypes if d is not None]
    return max(known, key=lambda d: tolerance(d).error, default=None)


def along(flow: Flow, dtypes: Mapping[str, DType]) -> dict[str, DType | None]:
    """For each tensor of known dtype, the coarsest of all that it is computed from, its own among them."""
    found: dict[str, DType | None] = dict(dtypes)
    for reads, makes in zip(flow.reads, flow.makes, strict=True):
        before = coarsest(found.get(n) for n in reads)
        for name in makes:
            found[name] = coarsest((before, dtypes.get(name)))
    return found


def region(flow: Flow, tensor: str, is_border: Callable[[str], bool]) -> list[int]:
    """Places of the nodes between a tensor and the border tensors, inputs and constants before it."""
    places: set[int] = set()
    waiting = [flow.maker[tensor]]
    while waiting:
        place = waiting.pop()
        if place not in places:
            places.add(place)
            waiting += [flow.maker[n] for n in flow.reads[place] if n in flow.maker and not is_border(n)]
    return sorted(places)
