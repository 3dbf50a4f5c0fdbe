"""How to capture an engine's tensors: the options, checked before any work begins."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphkit.errors import BadInput
from graphkit.model.disk import shown
from graphkit.run.engine_io import POINTS
from graphkit.run.engine_run import STRATEGIES
from graphkit.run.shapes import Shape

LAZY_WARMUP = 3  # runs after which kernels specialized in the background are usually in place


@dataclass(frozen=True)
class CaptureOptions:
    """How to capture; see :func:`graphkit.run.capture.capture`."""

    trt: str = "auto"
    inputs: str | os.PathLike[str] | None = None
    seed: int = 0
    sets: int = 1
    iterations: int = 1
    shapes: str | Sequence[str] | Mapping[str, Shape] | None = None
    memory: int = 512 << 20
    warmup: int | None = None
    specialization: str = "none"
    compress: bool = False
    other_model: bool = False

    def __post_init__(self) -> None:
        if self.specialization not in STRATEGIES:
            said = shown(self.specialization, 30)
            raise BadInput(f"specialization '{said}' is not known; choose {', '.join(STRATEGIES)}")
        wrong = next((p for p in self.points if p not in POINTS), None)
        if wrong is not None:
            raise BadInput(f"'{shown(wrong, 30)}' is no point of a profile; choose {', '.join(POINTS)}")
        if self.inputs is not None and self.shapes is not None:
            raise BadInput("inputs and shapes contradict each other: given inputs have shapes; leave one out")

    @property
    def points(self) -> tuple[str, ...]:
        """The points of the profile to sweep over; none when dims are given, or nothing is."""
        if self.shapes is None or isinstance(self.shapes, Mapping):
            return ()
        return (self.shapes,) if isinstance(self.shapes, str) else tuple(self.shapes)

    @property
    def warmups(self) -> int:
        """Runs before the first that is kept, in each shape."""
        if self.warmup is not None:
            return self.warmup
        return LAZY_WARMUP if self.specialization == "lazy" else 0

    def to_json(self) -> dict[str, Any]:
        """What a capture's meta says of them: no path of this machine."""
        shapes = self.shapes
        return {
            "inputs": None if self.inputs is None else Path(self.inputs).name,
            "seed": self.seed,
            "sets": self.sets,
            "iterations": self.iterations,
            "shapes": {k: list(v) for k, v in shapes.items()}
            if isinstance(shapes, Mapping)
            else [*self.points],
            "warmup": self.warmups,
        }
