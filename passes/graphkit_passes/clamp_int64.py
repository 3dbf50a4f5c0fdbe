"""The ``clamp-int64`` pass."""

from __future__ import annotations

from graphkit import Graph, Pass, Tally


class ClampInt64(Pass):
    """Write bounds of Slice beyond int32 as numbers that mean the same, and drop bounds that bound nothing.

    ## Why
    Exporters write "to the end" as 9223372036854775807. TensorRT up to 9 has no int64: it clamps every such
    constant to int32, says so each time, and where the number was meant as it is, the result is wrong.
    A step of that size ("only the first") is refused to this day.

    ## Example
    ```
    (float[2,8] x) => (float[2,6] y)
    y = Slice (x, two, most, axis)                  # most is the initializer 9223372036854775807
    ```
    becomes
    ```
    y = Slice (x, two, most_clamped, axis)          # most_clamped is 8, the dim
    ```
    Starts, ends and steps become the dim, or what means the same below it; where the dim is not known, the
    limit of int32, which no dim of TensorRT is beyond. A constant that only gets into bounds of Slice, by way
    of Concat, Where, Unsqueeze and the like, or a ConstantOfShape, is clamped to that limit as well. A Clip
    loses a bound that is the limit of int64 itself, and a Loop with a condition such a trip count.

    ## When it refuses
    - Any other operator reads the constant, as Mul does a factor of a hash: its value matters.
    - A Slice goes backwards to an end of that size, which runtimes take in two ways: for nothing, or for all.
    - A bound of Clip that is beyond int32 and not the limit of int64.
    - A Loop whose trip count is all that ends it.
    - The constant gets into an output of a graph.
    Constants of more than 64 KiB are tables, and not looked at.

    ## Issues
    [TensorRT#1415](https://github.com/NVIDIA/TensorRT/issues/1415) ·
    [onnxsim#120](https://github.com/onnxsim/onnxsim/issues/120) ·
    [onnx-tensorrt#633](https://github.com/onnx/onnx-tensorrt/issues/633)

    ## Source
    [Slice](https://onnx.ai/onnx/operators/onnx__Slice.html)
    """

    name = "clamp-int64"
    group = "mend"

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Clamp what can be clamped; refuse the rest, once for each constant and operator."""
        from graphkit_passes._clamping import Clamping

        Clamping(graph, tally).run()
