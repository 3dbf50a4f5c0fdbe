"""A model made ready to be compared with an engine: named, unfolded, in fp32, and cut into atoms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from graphkit.engine.atoms import atoms
from graphkit.engine.mapping import Structure
from graphkit.engine.naming import named
from graphkit.errors import BadInput
from graphkit.model.model import Model
from graphkit.run.precision import upcast, upcast_feed
from graphkit.run.stream import MEMORY, Program
from graphkit.run.unfold import unfold

__all__ = ["Flat", "Flattener"]

Array = NDArray[Any]
_SMALL = 1 << 20  # elements of a constant that is looked at


@dataclass(frozen=True)
class Flat:
    """One model for one feed: what runs it, where its tensors lie, and what the engine may round.

    ``native`` gives the dtype that a tensor has in the model where the reference computes in a wider one,
    ``factors`` are the scalars that the model multiplies or divides by, by name.
    """

    program: Program
    structure: Structure
    feed: Mapping[str, Array]
    native: Mapping[str, str] = field(default_factory=dict)
    factors: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Flattener:
    """Makes Flats of one model file; those of feeds that need nothing unfolded share one."""

    def __init__(self, path: Path | str, *, precision: str = "float32", memory: int = MEMORY) -> None:
        """``precision``: "float32" (half precision is computed in it), or "model": as the model says."""
        if precision not in ("float32", "model"):
            raise BadInput(f"reference precision '{precision}' is not known; choose float32 or model")
        loaded = Model.load(path)
        self.folder = loaded.file.folder
        self._model, _ = named(loaded.to_proto())
        self._precision, self._memory = precision, memory
        self._kept: Flat | None = None
        self._kept_shapes: dict[str, tuple[int, ...]] = {}

    @property
    def model(self) -> onnx.ModelProto:
        """The model with a name of its own for every node."""
        return self._model

    def flat(self, feed: Mapping[str, Array]) -> Flat:
        """The model for this feed. Raises BadInput or CannotRun where ONNX Runtime refuses it."""
        shapes = {name: tuple(np.shape(value)) for name, value in feed.items()}
        if self._kept is not None and shapes == self._kept_shapes:
            return Flat(
                self._kept.program,
                self._kept.structure,
                self._cast(feed),
                self._kept.native,
                self._kept.factors,
                self._kept.notes,
            )
        unfolded = unfold(self._model, feed, self.folder)
        model, native = unfolded.model, dict[str, str]()
        if self._precision != "model":
            model, native = upcast(model, self.folder)
        made = self._made(model, dict(unfolded.labels), native, self._cast(feed), tuple(unfolded.notes))
        if unfolded.model is self._model:
            self._kept, self._kept_shapes = made, shapes
        return made

    def _cast(self, feed: Mapping[str, Array]) -> Mapping[str, Array]:
        return feed if self._precision == "model" else upcast_feed(feed)

    def _made(
        self,
        model: onnx.ModelProto,
        labels: Mapping[str, str],
        native: Mapping[str, str],
        feed: Mapping[str, Array],
        notes: tuple[str, ...],
    ) -> Flat:
        constants = _Constants(model, self.folder)
        ranks = _ranks(Program(model, self.folder, memory=self._memory), model, feed)
        cut = atoms(model, ranks, constants.read)
        program = Program(cut.model, self.folder, memory=self._memory)
        return Flat(program, Structure(cut, labels), feed, native, constants.factors(cut.model), notes)


class _Constants:
    """Values of the constants of a model, the small ones."""

    def __init__(self, model: onnx.ModelProto, folder: Path | None) -> None:
        self._folder = folder
        self._known = {i.name: i for i in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant" and node.output:
                value = next((a.t for a in node.attribute if a.name == "value"), None)
                if value is not None:
                    self._known[node.output[0]] = value

    def read(self, name: str) -> Array | None:
        """The value, or None for what is no constant or a large one."""
        tensor = self._known.get(name)
        if tensor is None or int(np.prod(tensor.dims, dtype=np.int64)) > _SMALL:
            return None
        return numpy_helper.to_array(tensor, str(self._folder or ""))

    def factors(self, model: onnx.ModelProto) -> dict[str, float]:
        """The scalars by which the model multiplies or divides something, by name."""
        found = {}
        for node in model.graph.node:
            for name in node.input if node.op_type in ("Mul", "Div") else ():
                value = self.read(name)
                if value is not None and value.size == 1 and value.dtype.kind == "f":
                    found[name] = float(value.reshape(()))
        return {name: value for name, value in found.items() if np.isfinite(value)}


def _ranks(program: Program, model: onnx.ModelProto, feed: Mapping[str, Array]) -> dict[str, int]:
    shapes = program.shapes(feed)
    names = {n for node in model.graph.node for n in (*node.input, *node.output) if n}
    found = {name: shapes.shape(name) for name in names}
    return {name: len(shape) for name, shape in found.items() if shape is not None}
