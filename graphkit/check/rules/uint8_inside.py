"""The ``uint8-inside`` rule."""

from __future__ import annotations

from graphkit.check.pass_rule import PassRule


class Uint8Inside(PassRule):
    """uint8 is computed with inside of the graph.

    ## Why
    TensorRT takes uint8 at inputs and outputs, next to a Cast; not in between.

    ## Example
    ```
    m = Cast <to = 2> (b)
    y = Mul (m, n)
    ```

    ## Mend
    [`retarget-uint8`](../passes/retarget-uint8.md)

    ## Source
    [TensorRT#1022](https://github.com/NVIDIA/TensorRT/issues/1022) ·
    [#2809](https://github.com/NVIDIA/TensorRT/issues/2809)
    """

    name = "uint8-inside"
    severity = "warning"
    mend = "retarget-uint8"
    says = "TensorRT has uint8 at inputs and outputs only"
    tells_refusals = True
