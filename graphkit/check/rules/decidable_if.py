"""The ``decidable-if`` rule."""

from __future__ import annotations

from graphkit.check.pass_rule import PassRule


class DecidableIf(PassRule):
    """An If whose condition can be told from the file.

    ## Why
    TensorRT builds both branches of an If, and asks that their outputs fit together; exporters leave Ifs
    behind that always go one way.

    ## Example
    ```
    c = Equal (d, one)           # d is a dim that is known
    y = If (c) <then_branch = …, else_branch = …>
    ```

    ## Mend
    [`fold-if`](../passes/fold-if.md)

    ## Source
    [TensorRT#1731](https://github.com/NVIDIA/TensorRT/issues/1731) ·
    [#2846](https://github.com/NVIDIA/TensorRT/issues/2846)
    """

    name = "decidable-if"
    severity = "warning"
    mend = "fold-if"
    says = "an If always takes one branch, and TensorRT has to build both"
