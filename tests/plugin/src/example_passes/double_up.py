"""The ``double-up`` pass."""

from __future__ import annotations

from typing import Any

from example_passes._numbers import LARGEST_FACTOR
from graphkit import Graph, Match, PatternPass, option


class DoubleUp(PatternPass):
    """Replace a product with 2 by a sum: ``x * 2`` is ``x + x``.

    ## Why
    An example has to do something.

    ## When it refuses
    When the constant is not the ``factor``; when ``x`` is larger than an example should touch.
    """

    name = "double-up"

    factor: float = option(default=2.0, help="the factor to look for; anything but 2 is refused")

    def pattern(self, op: Any, x: Any) -> Any:
        return op.Mul(x, op.const("c", lambda values: values.size == 1 and abs(values) < LARGEST_FACTOR))

    def check(self, graph: Graph, m: Match) -> None:
        m.require(m.value("c").item() == self.factor, f"the factor is {m.value('c').item():g}")
        m.require(self.factor == 2.0, "only a product with 2 is a sum")

    def rewrite(self, op: Any, m: Match) -> Any:
        return op.Add(m.x, m.x)
