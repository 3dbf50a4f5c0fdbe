"""A model run in ONNX Runtime a stretch at a time: every tensor is seen, and few are held."""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TypeProto

from graphkit.errors import BadInput
from graphkit.run.flow import Flow
from graphkit.run.onerun import Asked, Given, Loaded, OneRun, Seen
from graphkit.run.opening import Opener
from graphkit.run.rounding import Rounding
from graphkit.run.segments import Picker
from graphkit.run.tensors import Tensors, skeleton
from graphkit.run.weights import Weights, slim_nodes

__all__ = ["MEMORY", "Given", "Program", "Rounding", "Seen"]

MEMORY = 512 << 20


class Program:
    """A flat main graph, ready to run in segments; graph optimisations are off.

    A run needs at most ``memory`` bytes besides the weights and the feed, as far as shapes can be known
    beforehand, and never less than one node's operands and results. External data is looked for in
    ``folder``, mapped, and never copied. Sessions are kept, so a second run of the same kind loads nothing.
    """

    def __init__(self, model: ModelProto, folder: Path | None = None, *, memory: int = MEMORY) -> None:
        weights = Weights(model, folder, memory)
        nodes = slim_nodes(model.graph.node, weights.constants)
        flow = Flow(nodes)
        inputs = {i.name: i.type for i in model.graph.input if i.name not in weights}
        opener = Opener(model, flow, weights, folder)
        self._loaded = Loaded(flow, weights, Picker(flow, weights, memory), opener, inputs)
        self._skeleton = skeleton(model, weights, nodes)
        self._tensors: dict[Any, Tensors] = {}

    @property
    def loads(self) -> int:
        """How many sessions were made so far."""
        return self._loaded.opener.loads

    def run(
        self,
        feed: Mapping[str, Any],
        seen: Seen,
        *,
        wanted: Container[str] | None = None,
        given: Given | None = None,
        cuts: Container[str] | None = None,
        rounding: Rounding | None = None,
    ) -> None:
        """Compute the wanted node outputs (None: all) and show each to ``seen`` once, in topological order.

        ``given`` answers, for a node's output, with the value that its readers get in place of the computed
        one, or None. It is asked once a tensor, before the node runs; when ``cuts`` says beforehand for which
        tensors it has a value, it is asked for those only, and nothing runs that serves only them. ``seen``
        still gets the computed value; it may keep the array. Values that are no tensors (sequences) are not
        shown. ``rounding`` makes the whole run round as the engine does.

        Raises BadInput for a feed or a given value that does not fit, CannotRun (one line that names the
        node) where ONNX Runtime cannot.
        """
        self._check(feed)
        asked = Asked(feed, seen, wanted, given, cuts, rounding or Rounding())
        OneRun(self._loaded, self.shapes(feed), asked).run()

    def shapes(self, feed: Mapping[str, Any]) -> Tensors:
        """What is known of all tensors when the inputs have this feed's shapes; more after a run."""
        shapes = {n: np.shape(v) for n, v in feed.items() if not isinstance(v, (list, tuple))}
        key = tuple(sorted(shapes.items()))
        if key not in self._tensors:
            self._tensors[key] = Tensors(self._skeleton, shapes)
        return self._tensors[key]

    def _check(self, feed: Mapping[str, Any]) -> None:
        """Every input is there and of a shape that the model allows."""
        for name, kind in self._loaded.inputs.items():
            if name in feed:
                if kind.tensor_type.HasField("shape"):
                    _fits(name, kind, np.shape(feed[name]))
            elif kind.WhichOneof("value") != "optional_type":
                raise BadInput(f"input '{name}' is missing; the model needs {', '.join(self._loaded.inputs)}")


def _fits(name: str, kind: TypeProto, shape: tuple[int, ...]) -> None:
    dims = kind.tensor_type.shape.dim
    # exporters write -1 where they mean any size
    fixed = [int(d.dim_value) if d.HasField("dim_value") and d.dim_value >= 0 else None for d in dims]
    if len(fixed) == len(shape) and all(want in (None, n) for want, n in zip(fixed, shape, strict=True)):
        return
    said = (d.dim_param or "?" if want is None else str(want) for d, want in zip(dims, fixed, strict=True))
    raise BadInput(f"input '{name}' has shape {list(shape)} but the model wants [{', '.join(said)}]")
