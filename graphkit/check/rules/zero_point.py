"""The ``zero-point`` rule."""

from __future__ import annotations

from graphkit.check.pass_rule import PassRule


class ZeroPoint(PassRule):
    """A Q/DQ pair has a zero point other than 0.

    ## Why
    TensorRT quantizes symmetrically: the zero point has to be 0. uint8 around 128 is int8 around 0,
    exactly; others need another calibration.

    ## Example
    ```
    q = QuantizeLinear (x, scale, zero)          # zero = uint8 128
    y = DequantizeLinear (q, scale, zero)
    ```

    ## Mend
    [`recenter-qdq`](../passes/recenter-qdq.md)

    ## Source
    [TensorRT#2774](https://github.com/NVIDIA/TensorRT/issues/2774) ·
    [#4698](https://github.com/NVIDIA/TensorRT/issues/4698)
    """

    name = "zero-point"
    severity = "warning"
    mend = "recenter-qdq"
    says = "TensorRT takes a zero point of 0 only"
    tells_refusals = True
