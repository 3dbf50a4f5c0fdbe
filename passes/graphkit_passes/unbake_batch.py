"""The ``unbake-batch`` pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphkit import BadOption, Bridge, Graph, NotApplicable, Pass, Tally, option
from graphkit.model.graph import Tensor
from graphkit.model.infer import infer
from graphkit_passes import _batch_moves, _batch_rules, _batch_shapes  # noqa: F401  they declare rules
from graphkit_passes._batch_flow import Walk
from graphkit_passes._lower import drop_unread

Values = Mapping[str, np.ndarray[Any, Any]]


class UnbakeBatch(Pass):
    """Take a batch size out of the constants of a model, and leave it open.

    ## Why
    Code that reads `x.shape[0]` as a Python number bakes the batch of the export into Reshape, Expand, Tile
    and Concat: `reshape would change volume 2 to 16`. With the first dim of the input opened by hand, the
    engine builds, and fails with any other batch.

    The batch is followed from axis 0 of the inputs through every operator, by what it does to the axes, and
    never by its value: a dim of the same size that comes from elsewhere stays.

    | | becomes |
    |---|---|
    | `Reshape` to `[8, 300, 4]` | `[0, 300, 4]`, or -1 where the batch moves or has a dim with others |
    | `Expand` of rows of the batch to `[8, 1, 256]` | `[1, 1, 256]` |
    | a `Tile`, `Expand` or constant of 8 equal rows beside the batch | one row |
    | a constant joined to the batch (a class token), initial states of an LSTM | expanded to the batch |

    ## Example
    `unbake-batch` on
    ```
    (float[2,6] x) => (float[2,2,3] y) <int64[3] s = {2, 2, 3}>
    y = Reshape (x, s)
    ```
    gives
    ```
    (float[N,6] x) => (float[N,2,3] y) <int64[3] s_batch = {0, 2, 3}>
    y = Reshape (x, s_batch)
    ```

    ## When it refuses
    The model stays as it is, and the node is named, when
    - an operator mixes the rows of the batch, or joins, cuts or counts them;
    - a Squeeze takes a batch of 1 away, or a Reshape puts it in a dim with what comes before it;
    - the batch reaches the body of an If, Loop or Scan, a local function, or an operator that is not known;
    - rows beside the batch are not the same, or an output has the batch in a dim with others;
    - the inputs begin with several sizes; `inputs` says which of them have the batch.

    An input whose first dim is open already has no size to look for; `baked=8` says what was baked in.

    ## Issues
    [rf-detr#949](https://github.com/roboflow/rf-detr/issues/949) ·
    [rf-detr#376](https://github.com/roboflow/rf-detr/issues/376)

    ## Source
    [Reshape](https://onnx.ai/onnx/operators/onnx__Reshape.html)
    """

    name = "unbake-batch"
    group = "mend"

    symbol: str = option(default="N", help="the name of the batch from then on")
    inputs: tuple[str, ...] = option(
        default=(),
        help="inputs whose first dim is the batch; all that have dims when left out",
        metavar="a+b",
    )
    baked: int | None = option(
        default=None, help="the size that was baked in, where the inputs do not say it"
    )

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Follow the batch; only when it arrives, change anything."""
        inputs = self._inputs(graph)
        sizes = {t.shape[0] for t in inputs if isinstance(t.shape[0], int) and t.shape[0] >= 0}
        sizes |= set() if self.baked is None else {self.baked}
        if not inputs or not sizes:
            return
        if len(sizes) > 1 or 0 in sizes:
            told = ", ".join(f"'{t.name}' ({t.shape[0]})" for t in inputs)
            tally.refuse(
                graph, inputs[0], f"several sizes could be the batch: {told}; say which with inputs=a+b"
            )
            return
        (size,) = sizes
        was = [list(t.shape) for t in inputs]
        for tensor in inputs:
            tensor.shape = [size, *tensor.shape[1:]]
        try:
            walk = Walk(graph, inputs, size, infer(graph.model))
            axes = self._follow(graph, walk)
        except NotApplicable as error:
            for tensor, shape in zip(inputs, was, strict=True):
                tensor.shape = shape
            tally.refuse(graph, walk.at if walk.at is not None else inputs[0], str(error))
            return
        names = [self.symbol if isinstance(s[0], int) else s[0] for s in was]
        read = [t for n in graph.nodes for t in n.inputs]
        tally.rewrite(walk.edit() + sum(isinstance(s[0], int) for s in was))
        for tensor, name in zip(inputs, names, strict=True):
            tensor.shape = [name, *tensor.shape[1:]]
        if not tally.rewrites:
            return
        drop_unread(graph, read)
        _annotate(graph, walk, names[0])
        rows = Rows([t.name for t in inputs], size, axes)
        says = f"the batch, {size} until now, is open: {names[0]}"
        tally.bridge(Bridge(says=says, feeds=rows.feeds, outputs=rows.expected))

    def _inputs(self, graph: Graph) -> list[Tensor]:
        """The inputs that have the batch."""
        known = {t.name: t for t in graph.inputs}
        for name in self.inputs:
            if name not in known or not known[name].shape:
                raise BadOption(
                    f"{self.name}:inputs={name} is no input with dims; there are {', '.join(known)}"
                )
        return [known[n] for n in self.inputs] or [t for t in graph.inputs if t.shape]

    def _follow(self, graph: Graph, walk: Walk) -> dict[str, int | None]:
        """The axis of every output on which it has the batch."""
        walk.run()
        walk.at = None
        found: dict[str, int | None] = {}
        for output in graph.outputs:
            flow = walk.flow(output)
            if flow is not None and flow.inner != 1:
                raise NotApplicable(f"output '{output.name}' has the batch in a dim with others")
            found[output.name] = None if flow is None else flow.axis
        if all(a is None for a in found.values()):
            raise NotApplicable("no output has the batch")
        return found


def _annotate(graph: Graph, walk: Walk, symbol: str | None) -> None:
    """Let the shapes that the file tells be open where the batch is."""
    for tensor in (*graph.outputs, *(t for n in graph.nodes for t in n.outputs)):
        flow = walk.flow(tensor)
        if flow is None or tensor.shape is None or flow.axis >= len(tensor.shape):
            continue
        dims = list(tensor.shape)
        if isinstance(dims[flow.axis], int):
            dims[flow.axis] = symbol if flow.inner == 1 else None
            tensor.shape = dims


class Rows:
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

    def expected(self, rows: Sequence[Values]) -> Values:
        """Outputs with the batch are joined, without what filled the last up; of others, the first."""
        found = {}
        for name, axis in self._axes.items():
            if axis is None:
                found[name] = rows[0][name]
            else:
                joined = np.concatenate([r[name] for r in rows], axis)
                found[name] = np.take(joined, np.arange(self._count), axis)
        return found
