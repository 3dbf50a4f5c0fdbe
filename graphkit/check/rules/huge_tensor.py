"""The ``huge-tensor`` rule."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from graphkit.check.rule import Rule
from graphkit.check.subject import Subject
from graphkit.model.graph import Graph, Node, Tensor
from graphkit.report.checks import Finding
from graphkit.rewrite.options import Size, option


class HugeTensor(Rule):
    """A tensor whose size is out of all proportion: few bytes in the file, many when it runs.

    ## Why
    A model is untrusted input. A ConstantOfShape, an Expand or a Tile with large sizes, or a declared input,
    takes gigabytes from whoever runs or folds it: on purpose, or because a size came out wrong.

    ## Example
    ```
    y = Expand (x, shape)        # shape = 1000000x1000000
    ```

    ## Mend
    Look where the size comes from. `limit` says what is still in proportion.
    """

    name = "huge-tensor"

    limit: Size = option(default=Size(8 << 30), help="the largest tensor that is in proportion")

    def check(self, subject: Subject) -> Iterable[Finding]:
        """Inferred sizes of all tensors, and the shapes that constants ask for."""
        for tensor in subject.graph.inputs:
            size = self._bytes(subject, subject.graph.shape(tensor), subject.graph.dtype(tensor))
            if size > self.limit:
                yield self.finding(f"input '{tensor.name}' takes {_gib(size)}", tensor=tensor)
        for graph, node in subject.nodes():
            size = max((self._asked(graph, node), *(self._inferred(subject, t) for t in node.outputs)))
            if size > self.limit:
                yield self.finding(f"makes a tensor of {_gib(size)}", graph=graph, node=node)

    def _inferred(self, subject: Subject, tensor: Tensor) -> int:
        return self._bytes(subject, subject.types.shape(tensor), subject.types.dtype(tensor))

    @staticmethod
    def _bytes(subject: Subject, shape: object, dtype: object) -> int:
        if not isinstance(shape, tuple) or not all(isinstance(d, int) for d in shape):
            return 0
        return int(prod(max(d, 0) for d in shape)) * int(getattr(dtype, "itemsize", 1))

    @staticmethod
    def _asked(graph: Graph, node: Node) -> int:
        """The elements that a constant shape asks for."""
        place = {"ConstantOfShape": 0, "Expand": 1}.get(node.op)
        if place is None or len(node.inputs) <= place or node.domain not in (None, "", "ai.onnx"):
            return 0
        shape = graph.value(node.inputs[place])
        return (
            0 if shape is None or shape.dtype.kind != "i" else prod(max(int(d), 0) for d in shape.reshape(-1))
        )


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.3g} GiB" if size < 1 << 50 else f"about 1e{len(str(size)) - 1} bytes"
