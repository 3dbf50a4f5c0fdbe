"""The ``mask-overflow`` rule."""

from __future__ import annotations

from graphkit.check.pass_rule import PassRule


class MaskOverflow(PassRule):
    """An attention mask is beyond the range of float16.

    ## Why
    Masks of -3.4e38, -1e9 or -inf become -inf in float16, and a row that is masked throughout becomes NaN;
    the sum of two such masks overflows.

    ## Example
    ```
    scores = Add (qk, mask)      # mask holds 0 and -3.4e38
    p = Softmax (scores)
    ```

    ## Mend
    [`clamp-masks`](../passes/clamp-masks.md)

    ## Source
    [TensorRT#2466](https://github.com/NVIDIA/TensorRT/issues/2466) ·
    [#1500](https://github.com/NVIDIA/TensorRT/issues/1500) ·
    [#2118](https://github.com/NVIDIA/TensorRT/issues/2118)
    """

    name = "mask-overflow"
    severity = "warning"
    mend = "clamp-masks"
    says = "a mask holds values that float16 cannot"
