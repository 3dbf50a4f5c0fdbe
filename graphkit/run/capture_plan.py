"""What a capture runs: given inputs, or seeded ones in the dims that an engine's profile asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from graphkit.errors import BadInput
from graphkit.model.disk import shown
from graphkit.run.capture_options import CaptureOptions
from graphkit.run.engine_io import POINTS, EngineIo, profile_for, shapes_at, sweep
from graphkit.run.inputs import Arrays, load_inputs
from graphkit.run.shapes import Shape


def planned(
    io: Sequence[EngineIo], model: ModelProto, options: CaptureOptions, given: Sequence[Arrays] | None
) -> Iterator[tuple[str, Arrays]]:
    """(label, inputs in the engine's dtypes) of everything to run; ``given`` are the user's inputs, if any.

    BadInput when no profile of the engine allows the dims.
    """
    if given is not None:
        yield from _labelled("", given, io)
        return
    seeds = _Seeds(io, model, options)
    if options.points:
        for point, profile, shapes in sweep(io, options.points):
            name = f"profile {profile} {point}" if profile else point
            yield from _labelled(name, seeds.sets(shapes, point, profile), io)
    else:
        shapes = shapes_at(io, "opt") | _asked(options, io)
        yield from _labelled("", seeds.sets(shapes, "opt", profile_for(io, shapes)), io)


class _Seeds:
    """Makes seeded inputs for one engine."""

    def __init__(self, io: Sequence[EngineIo], model: ModelProto, options: CaptureOptions) -> None:
        self._io, self._model, self._options = io, model, options

    def sets(self, shapes: Mapping[str, Shape], point: str, profile: int) -> list[Arrays]:
        """Sets in these dims; shape tensors get the values that the profile has at ``point``."""
        options = self._options
        found = load_inputs(None, self._model, seed=options.seed, shapes=shapes, count=options.sets)
        for tensor in self._io:
            if tensor.is_input and profile < len(tensor.values):
                values = tensor.values[profile][POINTS.index(point)]
                for feed in found:
                    feed[tensor.name] = np.array(values, tensor.dtype).reshape(feed[tensor.name].shape)
        return found


def _asked(options: CaptureOptions, io: Sequence[EngineIo]) -> dict[str, Shape]:
    """Dims that the user gave, by the names of the engine's inputs."""
    asked = dict(options.shapes) if isinstance(options.shapes, Mapping) else {}
    names = [t.name for t in io if t.is_input]
    for name in asked:
        if name not in names:
            takes = ", ".join(shown(n, 40) for n in names)
            raise BadInput(f"--shapes: '{shown(name, 60)}' is no input of the engine, which takes {takes}")
    return asked


def _labelled(name: str, sets: Sequence[Arrays], io: Sequence[EngineIo]) -> Iterator[tuple[str, Arrays]]:
    for number, feed in enumerate(sets):
        fed = {t.name: _as(feed[t.name], t.dtype) for t in io if t.is_input}
        profile_for(io, {n: a.shape for n, a in fed.items()})
        parts = [name, f"set {number}" if len(sets) > 1 else ""]
        yield " ".join(p for p in parts if p) or "run", fed


def _as(array: NDArray[Any], dtype: str) -> NDArray[Any]:
    """An input in the engine's dtype: TensorRT has no DOUBLE."""
    return array.astype(np.float32) if array.dtype == np.float64 and dtype == "float32" else array
