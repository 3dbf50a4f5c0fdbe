"""The ``float64`` rule."""

from __future__ import annotations

from graphkit.check.pass_rule import PassRule


class Float64(PassRule):
    """The model computes in float64.

    ## Why
    TensorRT has no float64: it refuses such operators, and makes inputs and outputs float32 without a word.

    ## Example
    ```
    y = Cast <to = 11> (x)
    ```

    ## Mend
    [`fp64-to-fp32`](../passes/fp64-to-fp32.md)

    ## Source
    [TensorRT#3124](https://github.com/NVIDIA/TensorRT/issues/3124) · [onnx-
    tensorrt#501](https://github.com/onnx/onnx-tensorrt/issues/501)
    """

    name = "float64"
    severity = "warning"
    mend = "fp64-to-fp32"
    says = "TensorRT has no float64"
