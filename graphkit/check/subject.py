"""What a rule looks at: a model, what is inferred of it, and what it is to be built with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from graphkit.model.graph import Graph, Node, Tensor
from graphkit.model.model import Model

if TYPE_CHECKING:
    import numpy as np

    from graphkit.model.infer import Types

__all__ = ["Subject"]


@dataclass(frozen=True)
class Subject:
    """One model under check.

    ``targets`` are compute capabilities as "8.9". ``runtime`` is ``tensorrt_rtx`` or ``tensorrt``, and
    ``version`` its numbers, (1, 4, 0, 76); both are empty where none is installed. ``shapes`` are the
    profile's, by input: (least, usual, greatest). ``feeds`` are inputs to run the model on, if any.
    """

    model: Model
    targets: tuple[str, ...] = ()
    runtime: str = ""
    version: tuple[int, ...] = ()
    shapes: Mapping[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    feeds: Sequence[Mapping[str, np.ndarray[Any, Any]]] = ()

    @property
    def graph(self) -> Graph:
        """The main graph."""
        return self.model.main

    @cached_property
    def scopes(self) -> list[Graph]:
        """The main graph, all graphs below it, and the local functions."""
        return self.model.scopes()

    def nodes(self, *ops: str) -> Iterator[tuple[Graph, Node]]:
        """Nodes of the default domain of any scope, with the scope; all of them, or those of these types."""
        for scope in self.scopes:
            for node in scope.nodes:
                if not ops or (node.op in ops and (node.domain or "") in ("", "ai.onnx")):
                    yield scope, node

    @cached_property
    def types(self) -> Types:
        """Shapes and dtypes as inference finds them; the annotations of the file are not believed."""
        from graphkit.model.infer import infer

        return infer(self.model)

    def dtype(self, graph: Graph, tensor: Tensor) -> str:
        """numpy's name of a tensor's dtype, ml_dtypes included; empty when it is not known."""
        found = graph.dtype(tensor) if graph.is_constant(tensor) else self.types.dtype(tensor)
        return "" if found is None else str(found.name)
