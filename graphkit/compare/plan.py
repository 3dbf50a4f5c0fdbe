"""What a diff runs on: the user's inputs and shapes, read into what models and engines take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graphkit.errors import BadInput
from graphkit.model.disk import shown
from graphkit.model.model import Model
from graphkit.run.inputs import load_inputs
from graphkit.run.shapes import required_inputs

__all__ = ["dims_of", "model_feeds", "points"]

Shape = tuple[int, ...]
Shapes = Sequence[str] | Mapping[str, Shape]


def points(shapes: Shapes) -> list[dict[str, Shape]]:
    """The shape assignments that ``--shapes`` asks for: one, or min, opt and max where an input has three.

    BadInput for what is not ``NAME=1x3x64x64`` or ``NAME=min/opt/max``.
    """
    if isinstance(shapes, Mapping):
        return [dict(shapes)] if shapes else []
    pairs = [dims_of(text) for text in shapes]
    given = dict(pairs)
    twice = next((name for n, (name, _) in enumerate(pairs) if name in dict(pairs[:n])), None)
    if twice is not None:
        raise BadInput(f"--shapes names input '{shown(twice)}' twice; give its min/opt/max once")
    count = max((len(c) for c in given.values()), default=0)
    return [{name: c[min(n, len(c) - 1)] for name, c in given.items()} for n in range(count)]


def dims_of(text: str) -> tuple[str, list[Shape]]:
    """An input's name and its one or three shapes."""
    name, sign, dims = text.rpartition("=")
    try:
        choices = [tuple(int(d) for d in part.split("x")) for part in dims.split("/")]
    except ValueError:
        choices = []
    if not sign or not name or len(choices) not in (1, 3) or any(d < 0 for c in choices for d in c):
        raise BadInput(
            f"--shapes: '{shown(text)}' is not understood; write NAME=1x3x64x64, or NAME=min/opt/max of these"
        )
    return name, choices


def model_feeds(
    model: Path | str, inputs: Sequence[Path | str], seed: int, shapes: Shapes, iterations: int
) -> tuple[list[dict[str, Any]] | None, dict[str, Shape] | None]:
    """(feeds, shapes) for a diff of two models: the user's inputs, or sets made for each asked shape.

    Without inputs and with at most one shape the feeds are left to the diff: (None, shapes).
    """
    asked = points(shapes)
    if not inputs and len(asked) < 2:
        return None, (asked[0] if asked else None)
    proto = Model.load(model).skeleton()
    names = [i.name for i in required_inputs(proto)]
    unknown = next((name for shape in asked for name in shape if name not in names), None)
    if unknown is not None:
        raise BadInput(f"--shapes {shown(unknown)}: the model has no such input; it has {', '.join(names)}")
    if inputs:
        return [dict(feed) for path in inputs for feed in load_inputs(path, proto)], None
    found = []
    for shape in asked:
        found += [dict(f) for f in load_inputs(None, proto, seed=seed, shapes=shape, count=iterations)]
    return found, None
