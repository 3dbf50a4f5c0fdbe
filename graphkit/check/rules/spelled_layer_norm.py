"""The ``spelled-layer-norm`` rule."""

from __future__ import annotations

from graphkit.check.pass_rule import PassRule
from graphkit.check.subject import Subject


class SpelledLayerNorm(PassRule):
    """A layer normalization is spelled out in float16.

    ## Why
    Its squares overflow beyond 255, and its sums lose digits; as one operator it accumulates in float32.

    ## Example
    ```
    d = Sub (x, mean)
    v = ReduceMean (Pow (d, two))
    y = Div (d, Sqrt (Add (v, eps)))
    ```

    ## Mend
    [`fuse-layer-norm`](../passes/fuse-layer-norm.md)

    ## Source
    [TensorRT#2564](https://github.com/NVIDIA/TensorRT/issues/2564) ·
    [#2781](https://github.com/NVIDIA/TensorRT/issues/2781) ·
    [#4493](https://github.com/NVIDIA/TensorRT/issues/4493)
    """

    name = "spelled-layer-norm"
    severity = "warning"
    mend = "fuse-layer-norm"
    says = "the squares of this layer normalization overflow in float16"

    def applies(self, subject: Subject) -> bool:
        """Only in float16: in float32 the operators give the same."""
        return any(
            subject.dtype(graph, node.inputs[0]) == "float16"
            for graph, node in subject.nodes("ReduceMean")
            if node.inputs
        )
