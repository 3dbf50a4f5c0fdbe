"""A batch size through a whole graph: the inputs, Reshapes that have it baked in, and the annotations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphkit import Graph
from graphkit.model.graph import Node, Tensor
from graphkit.model.infer import Types, infer
from graphkit.model.operators import attribute, domain_of
from graphkit.model.surgeon import Constant
from graphkit_passes._edit import is_tensor, point
from graphkit_passes._reach import downstream, upstream

Dim = int | str | None


def shown(dim: Dim) -> str:
    """A dim for a message."""
    return "open" if dim is None or (isinstance(dim, int) and dim < 0) else str(dim)


class Batch:
    """The change of the batch of ``inputs`` from ``old`` to ``new``."""

    def __init__(self, graph: Graph, inputs: Sequence[Tensor], old: Dim, new: Dim) -> None:
        self._graph, self._inputs, self._old, self._new = graph, inputs, old, new
        self._before: Types = infer(graph.model)
        self._shapes = [(t, t.shape) for t in graph.inputs]
        self._pointed: list[tuple[Node, Tensor]] = []
        self._nodes, self._reached = downstream(graph, inputs)

    @property
    def reshapes(self) -> int:
        """How many Reshapes had the batch in them."""
        return len(self._pointed)

    # -- to and fro

    def set(self) -> None:
        """Change the inputs and the Reshapes; then infer."""
        chosen = {id(t) for t in self._inputs}
        for tensor, shape in self._shapes:
            if shape is not None and isinstance(self._old, str):
                tensor.shape = [self._new if d == self._old else d for d in shape]
            elif shape is not None and id(tensor) in chosen:
                tensor.shape = [self._new, *shape[1:]]
        if isinstance(self._old, int):
            for node in self._nodes:
                if node.op == "Reshape" and not domain_of(node) and len(node.inputs) == 2:
                    self._mend(node)
        self._after: Types = infer(self._graph.model)

    def _mend(self, node: Node) -> None:
        """A constant shape that begins with the batch: 0 copies it from the input, -1 computes it."""
        graph, target = self._graph, node.inputs[1]
        shape = graph.shape(target)
        if shape is None or len(shape) != 1 or not graph.is_constant(target) or not shape[0]:
            return
        values = graph.value(target)
        if values is None or values[0] != self._old or attribute(graph, node, "allowzero") not in (None, 0):
            return
        given = self._before.shape(node.inputs[0])
        copies = given is not None and len(given) > 0 and given[0] == self._old
        if not copies and (-1 in values or 0 in values):
            return
        mended = np.concatenate([[0 if copies else -1], values[1:]]).astype(np.int64)
        self._pointed.append((node, target))
        point(node, 1, graph.constant(mended, f"{target.name}_batch", of=[target]))

    def undo(self) -> None:
        """Put everything back."""
        for tensor, shape in self._shapes:
            tensor.shape = shape
        for node, target in self._pointed:
            point(node, 1, target)

    # -- what came of it

    def lost(self) -> tuple[Node | Tensor, str] | None:
        """A place at which an output loses the batch, and why; None when all keep it, or nothing is known."""
        if self._after.reason and not self._before.reason:
            return self._inputs[0], f"shapes do not fit together with the new batch: {self._after.reason}"
        for output in self._graph.outputs:
            was, now = self._before.shape(output), self._after.shape(output)
            if id(output) not in self._reached or was is None or now is None or len(was) != len(now):
                continue
            changed = [i for i, (a, b) in enumerate(zip(was, now, strict=True)) if a != b]
            if not changed and all(isinstance(d, int) for d in was):
                found = self._culprit(output)
                if found is not None:
                    return found
            elif len(changed) == 1 and changed[0] and (was[changed[0]], now[changed[0]]) != self._both:
                return (
                    output,
                    f"the batch goes into its dim {changed[0]}, which has other things in it; {_UNBAKE}",
                )
        return None

    @property
    def _both(self) -> tuple[Dim, Dim]:
        return self._old, self._new

    def _culprit(self, output: Tensor) -> tuple[Node, str] | None:
        """The last node on the way to ``output`` that is given another size and makes the same.

        None where that is a Shape or Size: what they give is no row of the batch.
        """
        for node in reversed(upstream(self._graph, [output])[0]):
            changed = [t.name for t in node.inputs if t.name and self._differs(t)]
            if changed and not any(self._differs(t) for t in node.outputs if t.name):
                if node.op in ("Shape", "Size") and not domain_of(node):
                    return None
                return node, f"it is given the batch in '{changed[0]}', and what it makes has none; {_UNBAKE}"
        return None

    def _differs(self, tensor: Tensor) -> bool:
        return not isinstance(tensor, Constant) and self._before.shape(tensor) != self._after.shape(tensor)

    def axes(self) -> dict[str, int | None]:
        """For each output, the axis on which it has the batch; None when on none, -1 when nobody knows."""
        return {t.name: self._axis(t) for t in self._graph.outputs}

    def _axis(self, output: Tensor) -> int | None:
        was, now = self._before.shape(output), self._after.shape(output)
        if id(output) not in self._reached or was is None or now is None or len(was) != len(now):
            return -1 if id(output) in self._reached else None
        return next((i for i, (a, b) in enumerate(zip(was, now, strict=True)) if a != b), None)

    def annotate(self) -> None:
        """Bring annotations up to date: what is not known any more is not said, but of outputs."""
        ends = {id(t) for t in self._graph.outputs}
        for scope in self._graph.scopes():
            if _in_function(scope):
                continue
            inner = scope.inputs if scope.parent is not None else []
            made = (t for n in scope.nodes for t in n.outputs if t.name)
            for tensor in {id(t): t for t in (*inner, *made, *scope.outputs)}.values():
                if tensor.shape is not None and not isinstance(tensor, Constant) and is_tensor(tensor):
                    shape = self._annotation(tensor, id(tensor) in ends)
                    if shape != list(tensor.shape or ()) or (shape is None):
                        tensor.shape = shape

    def _annotation(self, tensor: Tensor, is_end: bool) -> list[Dim] | None:
        told = list(tensor.shape)
        was, now = self._before.shape(tensor), self._after.shape(tensor)
        if now is not None and was is not None and len(now) == len(told) == len(was):
            return [_dim(*dims) for dims in zip(told, was, now, strict=True)]
        if isinstance(self._old, str):
            return [self._new if d == self._old else d for d in told]
        if now is not None and len(now) == len(told):
            return [b if isinstance(b, int) else a for a, b in zip(told, now, strict=True)]
        if is_end:
            return [self._new, *told[1:]] if told and told[0] == self._old else told
        return None if self._old in told else told


_UNBAKE = "if a constant shape is to blame, run unbake-batch first"


def _dim(told: Dim, was: Dim, now: Dim) -> Dim:
    """What is known of a dim now; what the file says where nothing changed."""
    if was == now:
        return told
    return now


def _in_function(scope: Graph) -> bool:
    while scope.parent is not None:
        scope = scope.parent
    return scope.is_function
