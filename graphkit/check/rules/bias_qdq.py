"""The ``bias-qdq`` rule."""

from __future__ import annotations

from graphkit.check.pass_rule import PassRule


class BiasQdq(PassRule):
    """An int32 bias is dequantized in the model.

    ## Why
    The parser has no DequantizeLinear of int32: quantized exports that keep their biases so do not parse.

    ## Example
    ```
    b = DequantizeLinear (bias_int32, scale)
    y = Conv (x, w, b)
    ```

    ## Mend
    [`drop-bias-qdq`](../passes/drop-bias-qdq.md)
    """

    name = "bias-qdq"
    severity = "warning"
    mend = "drop-bias-qdq"
    says = "int32 cannot be dequantized by TensorRT"
