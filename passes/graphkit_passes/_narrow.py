"""Making floats of a model's doubles, when nothing is against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphkit import Bridge, Graph, Tally
from graphkit.model.graph import Node, Tensor
from graphkit.model.surgeon import Constant
from graphkit_passes._doubles import DOUBLE, FLOAT, Doubles, attribute_values, is_double
from graphkit_passes._islands import renew

Values = Mapping[str, Any]
_FLOAT32 = np.dtype(np.float32)
_TOLERANCE = 1e-4  # of a tensor's range: what float32 is allowed everywhere


class Narrowing:
    """One run of the pass."""

    def __init__(self, doubles: Doubles, inexact: int, tally: Tally) -> None:
        self._main, self._found, self._tally = doubles.main, doubles, tally
        self._inexact = inexact

    def run(self) -> None:
        """Change everything; what inference knows is asked for before the first change."""
        found = self._found
        inner = [t for n in self._main.nodes for t in n.outputs if t.name and self._is_inner(n, t)]
        inputs, defaults, outputs = found.inputs, found.defaults, found.outputs
        for tensor in [*defaults, *([] if found.io else inputs)]:
            self._cast_behind(tensor)
        for graph, tensor in found.constants.values():
            self._narrow(graph, tensor)
        for graph, node, name in found.chosen:
            _narrow_attribute(graph, node, name)
        for tensor in inner:
            renew(self._main, tensor, f"{tensor.name}_fp32", _FLOAT32)
        self._annotate()
        for tensor in [*inputs, *outputs] if found.io else []:
            tensor.dtype = _FLOAT32
        for tensor in [] if found.io else outputs:
            self._cast_before(tensor)
        self._tally.rewrite(found.count)
        self._tell(inputs, outputs)

    def _is_inner(self, node: Node, tensor: Tensor) -> bool:
        """Whether a tensor of the main graph is a double that no caller knows."""
        if self._found.is_last(node) or any(t is tensor for t in self._main.outputs):
            return False
        return self._found.is_wide(self._main, tensor)

    def _cast_behind(self, tensor: Tensor) -> None:
        """Let all that computes with an input read floats."""
        readers = list(self._found.busy(tensor))
        name = f"{tensor.name}_fp32"
        first = self._main.nodes[0]
        (made,) = self._main.add("Cast", [tensor], {"to": FLOAT}, outputs=[name], name=name, before=first)
        for node in readers:
            self._main.rewire(node, tensor, made)

    def _cast_before(self, tensor: Tensor) -> None:
        """Keep an output of the model double."""
        maker = tensor.inputs[0]
        made = renew(self._main, tensor, f"{tensor.name}_fp32", _FLOAT32)
        (wide,) = self._main.add("Cast", [made], {"to": DOUBLE}, of=[maker])
        self._main.replace(tensor, wide)

    def _narrow(self, graph: Graph, tensor: Tensor) -> None:
        """Make floats of a constant in place, so that its name stays."""
        values = _floats(graph.value(tensor))
        if self._main.model.shell.ir_version >= 4:
            tensor.values = values
            return
        made = graph.constant(values, f"{tensor.name}_fp32", of=[tensor])  # the input beside it stays behind
        for reader in graph.consumers(tensor):
            graph.rewire(reader, tensor, made)

    def _annotate(self) -> None:
        """Change what is said of doubles in bodies and functions."""
        for scope in self._main.scopes():
            if scope is not self._main:
                made = (t for n in scope.nodes for t in n.outputs)
                for tensor in (*scope.inputs, *scope.outputs, *made):
                    if not isinstance(tensor, Constant) and is_double(tensor):
                        tensor.dtype = _FLOAT32

    def _tell(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        self._tally.note("doubles are floats now: expect results to move by about 1e-7 of their size")
        if self._inexact:
            casts = "1 cast" if self._inexact == 1 else f"{self._inexact} casts"
            self._tally.note(f"{casts} of integers to double: exact to 2^24 now, not to 2^53")
        if self._found.io and (inputs or outputs):
            self._tally.bridge(_bridge(self._main, inputs, outputs))
        elif outputs:
            says = f"{_quoted(outputs)} computed in float32, and cast to double"
            self._tally.bridge(Bridge(says=says, tolerance=_TOLERANCE))


def _bridge(main: Graph, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Bridge:
    """Floats at the ends where there were doubles: the old model gets, and gives, the same numbers."""
    given, made = {t.name for t in inputs}, {t.name for t in outputs}
    ends = [t.name for t in main.outputs]

    def widened(feed: Values) -> list[Values]:
        return [{n: v.astype(np.float64) if n in given else v for n, v in feed.items()}]

    def narrowed(rows: Sequence[Values]) -> Values:
        return {n: rows[0][n].astype(np.float32) if n in made else rows[0][n] for n in ends}

    says = f"{_quoted([*inputs, *outputs])} float now, not double"
    return Bridge(says=says, feeds=widened if inputs else None, outputs=narrowed)


def _narrow_attribute(graph: Graph, node: Node, name: str) -> None:
    """A dtype, or the values of a Constant or ConstantOfShape."""
    if name in ("value", "sparse_value"):
        values = graph.value(node.outputs[0]) if node.op == "Constant" else attribute_values(node.attrs[name])
        del node.attrs[name]
        node.attrs["value"] = Constant("", _floats(values))
    else:
        node.attrs[name] = FLOAT


def _floats(values: Any) -> Any:
    with np.errstate(over="ignore"):  # infinities
        return values.astype(np.float32)


def _quoted(tensors: Sequence[Tensor]) -> str:
    names = [f"'{t.name}'" for t in {t.name: t for t in tensors}.values()]
    return ", ".join(names) + (" is" if len(names) == 1 else " are")
