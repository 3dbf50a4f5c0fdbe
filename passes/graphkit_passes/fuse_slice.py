"""The ``fuse-slice`` pass."""

from __future__ import annotations

import numpy as np

from graphkit import Graph, NotApplicable, Pass, Tally
from graphkit.model.graph import Node, Tensor
from graphkit.model.operators import domain_of
from graphkit_passes._given import listed
from graphkit_passes._shared import Known, root_of
from graphkit_passes._standing import Standing

_NAMES = ("starts", "ends", "axes", "steps")


class FuseSlice(Pass):
    """Make one Slice of two that cut different axes of a tensor.

    ## Why
    `x[:, ::2, ::2]` is one expression in Python, and a `Slice` for each axis in the file that torch writes.
    Each is a copy.

    ## Example
    ```
    a = Slice (x, [0], [640], [2], [2])     # starts, ends, axes, steps
    y = Slice (a, [1], [640], [3], [2])
    ```
    becomes
    ```
    y = Slice (x, [0, 1], [640, 640], [2, 3], [2, 2])
    ```

    ## When it refuses
    - Both cut the same axis.
    - A bound is not constant, or axes are counted from both ends and the rank is not known.
    - A graph inside has another tensor with the name of the tensor that would be read.

    Where something else than Slices reads the first too, both stay: nothing would be gained.

    ## Source
    [Slice](https://onnx.ai/onnx/operators/onnx__Slice.html)
    """

    name = "fuse-slice"
    group = "simplify"

    def apply(self, graph: Graph, tally: Tally) -> None:
        """In node order, so that a third goes into what became of two."""
        scopes = graph.scopes()
        if not any(_before(s, n) is not None for s in scopes for n in s.nodes if n.op == "Slice"):
            return
        standing = Standing(graph)
        for scope in scopes:
            for node in [n for n in scope.nodes if n.op == "Slice"]:
                first = _before(scope, node)
                if first is None or not _goes(standing, scope, first):
                    continue
                try:
                    _merge(standing, scope, first, node)
                    tally.rewrite()
                except NotApplicable as error:
                    tally.refuse(scope, node, str(error))
        standing.sweep()


def _before(graph: Graph, node: Node) -> Node | None:
    """The Slice in front of a Slice."""
    first = graph.producer(node.inputs[0]) if not domain_of(node) else None
    return first if first is not None and first.op == "Slice" and not domain_of(first) else None


def _goes(standing: Standing, graph: Graph, first: Node) -> bool:
    """Whether only Slices of the same scope read what ``first`` makes, so that nobody does in the end."""
    tensor = first.outputs[0]
    if standing.is_end(tensor) or any(r.inputs[0] is not tensor for r in tensor.outputs):
        return False
    if any(r.op != "Slice" or domain_of(r) for r in tensor.outputs):
        return False
    here = None if graph.parent is None else {id(n) for n in graph.nodes}
    return here is None or all(id(n) in here for n in (first, *tensor.outputs))


def _merge(standing: Standing, graph: Graph, first: Node, node: Node) -> None:
    opset = root_of(graph).opset
    parts = [_bounds(graph, n, opset) for n in (first, node)]
    cut = [_counted(graph, p[2], node.inputs[0], parts) for p in parts]
    if set(cut[0]) & set(cut[1]):
        raise NotApplicable("it cuts an axis that the Slice before it cuts too")
    both = [a + b for a, b in zip(*parts, strict=True)]
    both[2] = cut[0] + cut[1]
    x, last = first.inputs[0], node.outputs[0]
    standing.require_visible(x)
    if opset < 10:
        attrs = dict(zip(_NAMES[:3], both, strict=False))
        (made,) = graph.add("Slice", [x], attrs, before=node, of=[node, first])
    else:
        lists = [graph.constant(np.array(v, np.int64), n) for n, v in zip(_NAMES, both, strict=True)]
        (made,) = graph.add("Slice", [x, *lists], before=node, of=[node, first])
    graph.replace(last, made)
    standing.remove(graph, [node])


def _bounds(graph: Graph, node: Node, opset: int) -> list[list[int]]:
    """Starts, ends, axes and steps, all written out."""
    found = [listed(graph, node, name, place, 10, opset) for place, name in enumerate(_NAMES, 1)]
    if any(v is None for v in found):
        raise NotApplicable(f"a bound of '{node.outputs[0].name}' is not constant")
    starts, ends, axes, steps = (v or [] for v in found)
    return [starts, ends, axes or list(range(len(starts))), steps or [1] * len(starts)]


def _counted(graph: Graph, axes: list[int], tensor: Tensor, parts: list[list[list[int]]]) -> list[int]:
    """Axes in one way of counting for both."""
    every = [a for p in parts for a in p[2]]
    if all(a >= 0 for a in every) or all(a < 0 for a in every):
        return axes
    shape = None if root_of(graph).is_function else Known.of(graph.model).types.shape(tensor)
    if shape is None:
        raise NotApplicable("its axes are counted from the other end, and the rank is not known")
    return [a + len(shape) if a < 0 else a for a in axes]
