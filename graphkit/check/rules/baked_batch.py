"""The ``baked-batch`` rule."""

from __future__ import annotations

from collections.abc import Iterable

from graphkit.check.pass_rule import PassRule
from graphkit.check.subject import Subject


class BakedBatch(PassRule):
    """The batch is open at an input, and a batch of 1 is written into shapes inside of the model.

    ## Why
    A Reshape to 1x25200x85 fits one image: an engine whose profile allows several fails at it, when it is
    built or when it runs. A model whose inputs say 1 as well is what it says, and is not found.

    ## Example
    ```
    g (float[N,3,8,8] x) => (float[N,192] y) { y = Reshape (x, shape) }     # shape = 1, 192
    ```

    ## Mend
    [`unbake-batch`](../passes/unbake-batch.md)

    ## Source
    [rf-detr#949](https://github.com/roboflow/rf-detr/issues/949) ·
    [#376](https://github.com/roboflow/rf-detr/issues/376)
    """

    name = "baked-batch"
    mend = "unbake-batch"
    says = "a batch of 1 is written into it, and the input's batch is open"

    def applies(self, subject: Subject) -> bool:
        """Only where an input leaves its first dim open."""
        shapes = (t.shape for t in subject.graph.inputs)
        return any(shape and not isinstance(shape[0], int) for shape in shapes)

    def specs(self, subject: Subject) -> Iterable[tuple[str, str]]:
        """The size that was baked in has to be told where inputs leave it open."""
        yield "unbake-batch:baked=1", self.says
