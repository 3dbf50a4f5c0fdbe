"""What the rules of shape folding know of a model, without folding anything."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from graphkit import Graph
from graphkit.model.infer import Types, infer
from graphkit.model.surgeon import Node, Tensor
from graphkit_passes._placing import Placing
from graphkit_passes._shapes import ShapeFolder

Array = np.ndarray[Any, Any]


class ShapeNotes(ShapeFolder):
    """The rules of shape folding, which only take note here of what they would fold."""

    def __init__(self, main: Graph) -> None:
        self._notes = _Notes()
        super().__init__(main, self._notes)
        self.stale = True  # what other passes knew may be out of date by now
        self.run()
        self.types: Types = getattr(self, "_types", None) or infer(main.model)
        self.values = self._notes.values


class _Notes(Placing):
    """Stands where the folder puts its constants."""

    def __init__(self) -> None:
        self.values: dict[int, tuple[Tensor, Array]] = {}

    def fold(self, graph: Graph, node: Node, values: dict[int, Any]) -> list[Tensor]:
        """Take note of ``values``, and fold nothing."""
        self.values.update((id(t), (t, values[id(t)])) for t in node.outputs if id(t) in values)
        return []

    def remove(self, graph: Graph, nodes: Iterable[Node]) -> None:
        """Remove nothing."""

    def is_end(self, tensor: Tensor) -> bool:
        """Say so of every tensor: its readers are to stay."""
        return True
