"""The ``int64-range`` rule."""

from __future__ import annotations

from graphkit.check.pass_rule import PassRule


class Int64Range(PassRule):
    """A constant is beyond the range of int32.

    ## Why
    TensorRT before 10 holds int64 in 32 bits, and the ends of slices are clamped with a warning, or
    wrongly; INT64_MAX as 'to the end' is what exporters write.

    ## Example
    ```
    y = Slice (x, zero, int64_max, axis)
    ```

    ## Mend
    [`clamp-int64`](../passes/clamp-int64.md)

    ## Source
    [TensorRT#1415](https://github.com/NVIDIA/TensorRT/issues/1415) · [onnx-
    tensorrt#633](https://github.com/onnx/onnx-tensorrt/issues/633)
    """

    name = "int64-range"
    severity = "note"
    mend = "clamp-int64"
    says = "a constant is beyond the range of int32, which older versions hold it in"
