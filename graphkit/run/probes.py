"""Inputs beyond the ordinary: they straddle a model's thresholds, lean to one sign, have odd sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from onnx import ModelProto

from graphkit.run import outline
from graphkit.run.draw import SPREADS, Spread
from graphkit.run.feeds import Source
from graphkit.run.shapes import PROFILES, Profile, Shape, assignments
from graphkit.run.thresholds import LONGEST, thresholds

FIRST = 1000  # numbers of the draws: far from those of the ordinary feeds
OUTLIER = 16.0  # where nothing says how large a value must be
ODD = Profile(2, 65, 97, 129, past=5)

Draw = tuple[dict[str, Shape], Spread]


def probes(
    model: ModelProto, like: Mapping[str, Shape], *, seed: int = 0, search: bool = False
) -> Iterator[dict[str, Any]]:
    """Candidate inputs that the model may well refuse, in the shapes ``like`` or in ones of their own.

    ``search``: go on to far larger values and to every other size, for a branch that was not taken or an
    output that was always 0.
    """
    slim = outline.outline(model)
    floats, wholes = thresholds(slim)
    source = Source(slim, seed)
    draws = _further(slim, like, floats, wholes) if search else _first(slim, like, floats, wholes)
    for number, (shapes, spread) in enumerate(draws):
        yield source.draw(shapes, spread, FIRST * (2 if search else 1) + number)


def _spreads(floats: Sequence[float], wholes: Sequence[int], gain: float = 1.0) -> list[Spread]:
    """Both signs over all magnitudes, then each sign alone."""
    top = gain * max(OUTLIER, 1.5 * max(floats, default=0.0))
    whole = int(gain * 40) if not wholes else max(40, 2 * max(wholes))
    return [
        Spread(1, top, log=True, whole=(-whole, whole)),
        Spread(0, 4.0 if gain == 1 else top, sign=1, whole=(0, whole)),
        Spread(1, 4.0 if gain == 1 else top, sign=-1, whole=(-whole, 0)),
    ]


def _first(
    model: ModelProto, like: Mapping[str, Shape], floats: Sequence[float], wholes: Sequence[int]
) -> Iterator[Draw]:
    shapes = next(assignments(model, like), {})
    wide, *leaning = _spreads(floats, wholes)
    yield shapes, wide
    odd = next(assignments(model, profiles=[ODD]), shapes)
    if odd != shapes:
        yield odd, SPREADS[1]
    yield from ((shapes, s) for s in leaning)


def _further(
    model: ModelProto, like: Mapping[str, Shape], floats: Sequence[float], wholes: Sequence[int]
) -> Iterator[Draw]:
    shapes = next(assignments(model, like), {})
    lengths = sorted({n + 1 for n in wholes if 1 < n < LONGEST})
    long = [Profile(n, 64, 64, n) for n in (*lengths[-2:], *lengths[:1])]
    sized = assignments(model, profiles=long) if long else ()
    yield from ((s, SPREADS[0]) for s in sized)
    for gain in (1.0, 100.0):
        yield from ((shapes, s) for s in _spreads(floats, wholes, gain))
    yield from ((shapes, s) for s in SPREADS)
    yield from ((s, SPREADS[n % 4]) for n, s in enumerate(assignments(model, profiles=PROFILES)))
