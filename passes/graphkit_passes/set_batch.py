"""The ``set-batch`` pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from graphkit import BadOption, Bridge, Graph, Pass, Tally, option
from graphkit.model.graph import Tensor
from graphkit_passes._batching import Batch, Dim, shown
from graphkit_passes._edit import Names, bare, distinct, is_tensor, quoted

Values = Mapping[str, np.ndarray[Any, Any]]


class SetBatch(Pass):
    """Give a model another batch size, fixed or open, from its inputs to its outputs.

    `set-batch:8` fixes it, `set-batch:N` leaves it open under that name. The batch is the first dim of the
    inputs: of all of them, which must agree, or of those that `inputs` names. Shapes are inferred anew, and
    outputs and inner tensors are annotated accordingly. A Reshape to a constant shape that begins with the
    old batch gets a 0 there, which copies the dim of its input, or a -1: for the old batch that is the same.

    The proof runs the old model once for each of its batches in the new one's input, and compares row by row:
    a model that mixes the rows of a batch does not pass.

    ## Why
    Most models on the web were exported with a batch of 1, and most services want to run more at once.
    Changing the first dim of the inputs alone leaves the Reshapes behind, which then fail at run time.

    ## Example
    `set-batch:N` on
    ```
    (float[1,4,2,2] x) => (float[1,16] y) <int64[2] s = {1, -1}>
    r = Relu (x)
    y = Reshape (r, s)
    ```
    gives
    ```
    (float[N,4,2,2] x) => (float[N,16] y) <int64[2] s_batch = {0, -1}>
    r = Relu (x)
    y = Reshape (r, s_batch)
    ```

    ## When it refuses
    - The rank of an input is not known, or it is no tensor; or one that `inputs` names has no dims, or its
      first is 0.
    - A node is given the batch, and what it makes for an output has none: a reduction over the batch, or a
      Reshape, Expand or Tile in which its size is baked (the pass `unbake-batch` takes it out).
    - The batch of an output lands in a dim with other things in it, or shapes do not fit together any more.

    It stops, with nothing changed, when a name is no input, when the inputs have several first dims, or when
    another dim has the new symbol.

    ## Issues
    [onnx#2182](https://github.com/onnx/onnx/issues/2182) ·
    [TensorRT#1915](https://github.com/NVIDIA/TensorRT/issues/1915) ·
    [onnxruntime#10463](https://github.com/microsoft/onnxruntime/issues/10463) ·
    [rf-detr#949](https://github.com/roboflow/rf-detr/issues/949)

    ## Source
    [Reshape](https://onnx.ai/onnx/operators/onnx__Reshape.html)
    """

    name = "set-batch"
    group = "edit"

    size: str = option(help="the new batch: a number, or a name to leave it open", metavar="8|N")
    inputs: tuple[str, ...] = option(
        default=(), help="inputs whose first dim is the batch; all when left out", metavar="a+b"
    )

    def __post_init__(self) -> None:
        if not self.size.isidentifier() and not (self.size.isdecimal() and int(self.size) > 0):
            raise BadOption(
                f"set-batch:size={self.size} is no batch; write a number above 0, or a name such as N"
            )

    @classmethod
    def from_spec(cls, arguments: str) -> Self:
        """Build from ``size=8``, or ``8`` alone."""
        return super().from_spec(bare(arguments, "size"))

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Build from a recipe's values, where the size may be a number."""
        return super().from_values({k: str(v) if k == "size" else v for k, v in values.items()})

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Set the inputs, mend the Reshapes, look at what comes of it, and annotate."""
        inputs = self._inputs(graph, tally)
        if not inputs:
            return
        old, new = self._old(inputs), int(self.size) if self.size.isdecimal() else self.size
        if old == new:
            return
        others = {d for t in graph.inputs for d in t.shape or () if isinstance(d, str)} - {old}
        if new in others:
            raise BadOption(f"set-batch: another dim is called '{new}' already; choose another name")
        batch = Batch(graph, inputs, old, new)
        batch.set()
        lost = batch.lost()
        if lost is not None:
            batch.undo()
            tally.refuse(graph, *lost)
            return
        tally.rewrite(batch.reshapes + len(inputs))
        batch.annotate()
        if batch.reshapes:
            told = "1 Reshape" if batch.reshapes == 1 else f"{batch.reshapes} Reshapes"
            tally.note(f"{told} had the batch in the shape")
        says = f"the batch of {quoted(t.name for t in inputs)} is {new}, was {shown(old)}"
        if isinstance(old, int):
            rows = _Rows([t.name for t in inputs], old, batch.axes())
            tally.bridge(Bridge(says=says, feeds=rows.feeds, outputs=rows.expected))
        else:
            tally.note(says)

    def _inputs(self, graph: Graph, tally: Tally) -> list[Tensor]:
        """The inputs that have the batch; empty, with a refusal, where that cannot be told."""
        distinct(self.name, self.inputs, "an input")
        names = Names(graph, self.name)
        chosen = [names.end("input", n) for n in self.inputs]
        for tensor in chosen or graph.inputs:
            if not is_tensor(tensor) or tensor.shape is None:
                tally.refuse(graph, tensor, "its rank is not known, or it is no tensor")
                return []
            if tensor.shape and tensor.shape[0] == 0:
                tally.refuse(graph, tensor, "it is empty: its first dim is 0")
                return []
            if self.inputs and not tensor.shape:
                tally.refuse(graph, tensor, "it has no dims")
                return []
        return chosen or [t for t in graph.inputs if t.shape]

    def _old(self, inputs: Sequence[Tensor]) -> Dim:
        """The batch now; BadOption when the inputs have several."""
        found = {shown(t.shape[0]): t.shape[0] for t in inputs}
        if len(found) > 1:
            told = ", ".join(f"'{t.name}' ({shown(t.shape[0])})" for t in inputs)
            raise BadOption(
                f"set-batch: the inputs begin with several dims: {told}; say which with inputs=a+b"
            )
        (old,) = found.values()
        return old if isinstance(old, str) or (isinstance(old, int) and old >= 0) else None


class _Rows:
    """One feed of the new model is several of the old, each of its batch; the last is filled up."""

    def __init__(self, inputs: Sequence[str], size: int, axes: Mapping[str, int | None]) -> None:
        self._inputs, self._size, self._axes = inputs, size, axes
        self._count = 0

    def feeds(self, new: Values) -> list[Values]:
        """The feeds of the old model, in order."""
        self._count = len(new[self._inputs[0]])
        starts = range(0, self._count, self._size)
        return [{n: self._part(v, s) if n in self._inputs else v for n, v in new.items()} for s in starts]

    def _part(self, values: np.ndarray[Any, Any], start: int) -> np.ndarray[Any, Any]:
        part = values[start : start + self._size]
        missing = self._size - len(part)
        return part if not missing else np.concatenate([part, np.repeat(part[-1:], missing, 0)])

    def _likely(self, shape: Sequence[int]) -> int:
        """The axis of the batch where no inference tells: the first one, or the first of its size."""
        return next((i for i, d in enumerate(shape) if d == self._size), 0)

    def expected(self, rows: Sequence[Values]) -> Values:
        """Outputs with a batch are joined, without what filled the last up; of others, the first."""
        from graphkit.run.reference import CannotRun

        found = {}
        for name, axis in self._axes.items():
            if axis is None:
                found[name] = rows[0][name]
                continue
            if not rows[0][name].ndim:
                raise CannotRun(f"'{name}' has no dims: no row of the batch can be held against it")
            axis = self._likely(rows[0][name].shape) if axis < 0 else axis
            sizes = {r[name].shape[:axis] + r[name].shape[axis + 1 :] for r in rows}
            if len(sizes) > 1:
                raise CannotRun(f"the rows of '{name}' differ in size, so none can be held against the batch")
            joined = np.concatenate([r[name] for r in rows], axis)
            wanted = rows[0][name].shape[axis] * self._count // self._size
            found[name] = np.take(joined, np.arange(wanted), axis)
        return found
