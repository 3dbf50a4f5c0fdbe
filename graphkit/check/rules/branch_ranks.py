"""The ``branch-ranks`` rule."""

from __future__ import annotations

from graphkit.check.pass_rule import PassRule


class BranchRanks(PassRule):
    """An If whose branches give tensors of different rank.

    ## Why
    TensorRT refuses it: the output of a conditional has one rank. PyTorch exports `squeeze` of a dim that
    it does not know that way.

    ## Example
    ```
    y = If (c) <then_branch = { y1 = Squeeze (x) }, else_branch = { y2 = Identity (x) }>
    ```

    ## Mend
    [`align-if-branches`](../passes/align-if-branches.md)

    ## Source
    [TensorRT#1650](https://github.com/NVIDIA/TensorRT/issues/1650) ·
    [#4603](https://github.com/NVIDIA/TensorRT/issues/4603)
    """

    name = "branch-ranks"
    severity = "warning"
    mend = "align-if-branches"
    says = "the branches of an If give tensors of different rank"
    tells_refusals = True
