"""Seeded inputs for any model: shapes that fit, in ranges that fit each input's dtype and use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, TypeProto

from graphkit.run import outline, ranges
from graphkit.run.domain import Domain
from graphkit.run.draw import SPREADS, Spread, value
from graphkit.run.shapes import PROFILES, Shape, assignments, required_inputs, tensor_type
from graphkit.run.uses import Facts, Readers, facts

VARIANTS = len(SPREADS)


def feeds(
    model: ModelProto, *, seed: int = 0, shapes: Mapping[str, Shape] | None = None
) -> Iterator[dict[str, Any]]:
    """Candidate inputs, most telling first: a bounded number, some of which the model may refuse.

    ``model`` needs no weights. Dynamic dims take several sizes in turn (``shapes`` fixes them by input
    name); values differ from one candidate to the next, each switch and each branch getting its turn.
    Values are numpy arrays (ml_dtypes for dtypes numpy lacks; object arrays of str), lists for
    sequences. Inputs that have an initializer get no feed. The same seed gives the same feeds.
    """
    slim = outline.outline(model)
    source = Source(slim, seed)
    choices = list(assignments(slim, shapes))
    for number, (which, variant) in enumerate(_schedule(len(choices))):
        yield source.draw(choices[which], SPREADS[variant], number)


def _schedule(count: int) -> Iterator[tuple[int, int]]:
    """(shape assignment, value variant) pairs: the first three shapes, each with other values, lead."""
    first = [(n, n % VARIANTS) for n in range(count)]
    if count == 1:
        first = [(0, v) for v in range(VARIANTS)]
    yield from first
    rest = [(n, (n + shift) % VARIANTS) for shift in range(1, VARIANTS) for n in range(count)]
    yield from (pair for pair in rest if pair not in first and pair[0] < max(6, len(PROFILES) // 2))


class Source:
    """Draws values for the inputs of one model."""

    def __init__(self, model: ModelProto, seed: int) -> None:
        self._model, self._seed = model, seed
        self._constants = outline.constants(model)
        self._readers = Readers(model)
        self._facts: dict[tuple[tuple[str, Shape], ...], Facts] = {}

    def draw(self, shapes: Mapping[str, Shape], spread: Spread, number: int) -> dict[str, Any]:
        """One feed in these shapes; ``number`` decides its random stream."""
        found = self._known(shapes)
        feed = {}
        for place, info in enumerate(required_inputs(self._model)):
            rng = np.random.default_rng([self._seed, number, place])
            uses = ranges.domain(self._readers.uses(info.name, found))
            asked = _by_name(info.name, info.type).meet(uses) if uses == Domain() else uses
            feed[info.name] = value(info.type, shapes.get(info.name, ()), asked, rng, spread)
        return feed

    def _known(self, shapes: Mapping[str, Shape]) -> Facts:
        key = tuple(shapes.items())
        if key not in self._facts:
            self._facts = {key: facts(self._model, shapes, self._constants)}
        return self._facts[key]


def _by_name(name: str, info: TypeProto) -> Domain:
    """Integer masks and segment ids are 0 or 1, whatever reads them."""
    t = tensor_type(info)
    lower = name.lower()
    if t is not None and t.elem_type in _INTS and ("mask" in lower or "token_type" in lower):
        return Domain(0, 1)
    return Domain()


_INTS = {TensorProto.INT64, TensorProto.INT32, TensorProto.INT16, TensorProto.INT8, TensorProto.UINT8}
