"""Which of several passes broke a model: the first after which it is broken, found by bisection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphkit.model.file import ModelFile
    from graphkit.model.model import Model
    from graphkit.report.records import Verification
    from graphkit.rewrite.framework import Pass
    from graphkit.rewrite.touched import Snapshot

    Compare = Callable[[list[bytes | memoryview], Snapshot, Model], Verification]

__all__ = ["Bisection", "first"]


@dataclass(frozen=True)
class Bisection:
    """Runs the first few of some passes on a model again, and looks at what comes of it."""

    file: ModelFile
    passes: Sequence[Pass]

    def culprit(self, broken: Callable[[Model], bool]) -> str:
        """The spec of the first pass after which the model is ``broken``."""
        count = first(len(self.passes), lambda n: broken(self._after(self.fresh(), n)))
        return str(self.passes[count - 1])

    def differing(
        self, found: Verification, compare: Compare, tell: Callable[[int], None]
    ) -> tuple[str, Verification]:
        """The spec of the first pass after which the numbers differ, and what differs there.

        ``found`` is what all passes together led to; ``tell`` hears how many passes are tried.
        """
        seen = {len(self.passes): found}

        def differs(count: int) -> bool:
            if count not in seen:
                tell(count)
                seen[count] = self._compared(count, compare)
            return seen[count].status == "differs"

        count = first(len(self.passes), differs)
        return str(self.passes[count - 1]), seen[count]

    def _compared(self, count: int, compare: Compare) -> Verification:
        """Whether the numbers hold after the first ``count`` passes."""
        from graphkit.rewrite.touched import Snapshot

        model = self.fresh()
        before = Snapshot(model)
        self._after(model, count)
        return compare(model.export(), before, model)

    def _after(self, model: Model, count: int) -> Model:
        for step in self.passes[:count]:
            step.run(model)
        return model

    def fresh(self) -> Model:
        """The model as it was before any pass."""
        from graphkit.model.model import Model

        return Model.from_file(self.file)


def first(count: int, holds: Callable[[int], bool]) -> int:
    """The least n in 1..count for which ``holds``, which does for ``count``, by bisection."""
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high
