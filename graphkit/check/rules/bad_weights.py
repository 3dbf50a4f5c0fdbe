"""The ``bad-weights`` rule."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from graphkit.check.rule import Rule
from graphkit.check.subject import Subject
from graphkit.model.graph import Graph, Tensor
from graphkit.report.checks import Finding
from graphkit.rewrite.options import option

_WIDEST = 65504.0
_TINIEST = 6.2e-5  # below it, float16 loses digits: its smallest normal number is 2**-14


class BadWeights(Rule):
    """A weight holds NaN, infinity, or numbers that float16 cannot hold.

    ## Why
    One NaN in a weight makes a whole channel NaN, in ONNX Runtime as in the engine, and a training run that
    diverged is best found before the build. A float32 weight beyond 65504 becomes infinite when the model is
    converted to float16, and one below 6e-8 becomes 0.

    ## Example
    ```
    <float[2] w = {1.0, nan}>
    ```

    ## Mend
    Export another checkpoint. For float16, keep the nodes that read such a weight in float32.

    ## Source
    [IEEE 754 half precision](https://en.wikipedia.org/wiki/Half-precision_floating-point_format)
    """

    name = "bad-weights"

    half: bool = option(default=True, help="look for what float16 cannot hold in float32 weights")

    def check(self, subject: Subject) -> Iterable[Finding]:
        """Read every float weight once."""
        seen: set[int] = set()
        for graph, node in subject.nodes():
            for tensor in node.inputs:
                if id(tensor) not in seen and graph.is_constant(tensor):
                    seen.add(id(tensor))
                    yield from self._of(graph, tensor)

    def _of(self, graph: Graph, tensor: Tensor) -> Iterator[Finding]:
        dtype = graph.dtype(tensor)
        if dtype is None or dtype.name not in ("float16", "bfloat16", "float32", "float64"):
            return
        values = graph.value(tensor)
        if values is None or not values.size:
            return
        size = np.abs(np.asarray(values, np.float64 if dtype.name == "float64" else np.float32))
        odd = [
            f"{n} {what}"
            for what, n in (("NaN", _count(np.isnan(size))), ("infinite", _count(np.isinf(size))))
            if n
        ]
        if odd and values.size > 1:
            yield self.finding(f"{' and '.join(odd)} of {values.size} values", graph=graph, tensor=tensor)
        elif self.half and dtype.name in ("float32", "float64") and values.size > 1:
            yield from self._half(graph, tensor, size)

    def _half(self, graph: Graph, tensor: Tensor, size: Any) -> Iterator[Finding]:
        large = _count(size > _WIDEST)
        if large:
            yield self.finding(
                f"{large} of {size.size} values are beyond 65504, infinite in float16",
                graph=graph,
                tensor=tensor,
                severity="note",
            )
        tiny = _count((size > 0) & (size < _TINIEST))
        if tiny * 2 > size.size:
            yield self.finding(
                f"{tiny} of {size.size} values are below 6.2e-5, where float16 loses digits",
                graph=graph,
                tensor=tensor,
                severity="note",
            )


def _count(where: Any) -> int:
    return int(np.count_nonzero(where))
