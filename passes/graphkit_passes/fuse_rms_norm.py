"""The ``fuse-rms-norm`` pass."""

from __future__ import annotations

from graphkit import Graph, Pass, Tally, option
from graphkit_passes._norm_fuse import Fusing, Target

_TARGET = Target("RMSNormalization", opset=23, centred=False)


class FuseRmsNorm(Pass):
    """Fuse an RMS normalisation that is written out into one RMSNormalization, at opset 23 or newer.

    It is `x / sqrt(mean(x ** 2) + epsilon) * scale`: that of LLaMA, T5, Gemma, Qwen.

    ## Why
    In float16 the squares overflow from 256 on, and exporters that know of it put Casts around them: nine
    nodes a layer. The one operator is computed in float32 inside, and says what it is. TensorRT knows it from
    10.15 on, and TensorRT-RTX 1.4 and 1.7 do; older ones refuse it.

    | spelling | where |
    |---|---|
    | Pow 2 or Mul by itself; Div, Reciprocal, `1 / sqrt` or a power of -0.5 | PyTorch's two exporters |
    | Casts to float32 and back, the scale behind them | LLaMA, T5 |
    | the scale in float32, and then the Cast | Gemma, OLMo |
    | the scale times the inverse first | Flax |
    | `SimplifiedLayerNormalization` of com.microsoft or of ONNX's domain | ONNX Runtime, Olive |
    | `com.microsoft::SkipSimplifiedLayerNormalization` | ONNX Runtime's optimizer: Add, RMSNormalization |

    With and without a scale, over one or several last axes. Where the scale is applied in float32, so is the
    operator, and the Casts stay.

    `island=true` helps where the operator is not to be had, below opset 23 for one: what is all float16 is
    computed in float32, between two Casts.

    ## Example
    ```
    wide = Cast <to = 1> (x)                # x is float16
    s = Pow (wide, two)
    v = ReduceMean <axes = [-1]> (s)
    e = Add (v, eps)
    r = Sqrt (e)
    i = Reciprocal (r)
    n = Mul (wide, i)
    narrow = Cast <to = 10> (n)
    y = Mul (scale, narrow)
    ```
    becomes
    ```
    y = RMSNormalization <axis = -1, epsilon = 1e-06> (x, scale)
    ```

    ## When it refuses
    - The opset is below 23.
    - The axes are not the last ones, or their sizes are not known: the operator needs a scale of that size.
    - A tensor in its middle is read elsewhere too, or is an output of the graph.
    - Epsilon is negative, is added to the root instead, or has more dims than the input.
    - What is divided is not the tensor whose squares are summed, or the sum is divided by another number.
    - What multiplies before it is done has not the shape of the axes.
    - It is computed in float64, or the result has another dtype than the input, however it is cast.
    - It is in a local function, which has no shapes: run `inline-functions` first.
    - A further output of an operator of ONNX Runtime is used.

    ## Issues
    [TensorRT#4639](https://github.com/NVIDIA/TensorRT/issues/4639) ·
    [TensorRT#2479](https://github.com/NVIDIA/TensorRT/issues/2479) ·
    [TensorRT#2922](https://github.com/NVIDIA/TensorRT/issues/2922) ·
    [onnx-tensorrt#1046](https://github.com/onnx/onnx-tensorrt/pull/1046)

    ## Source
    [RMSNormalization](https://onnx.ai/onnx/operators/onnx__RMSNormalization.html) ·
    [SkipSimplified…](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md) ·
    [Zhang and Sennrich 2019](https://arxiv.org/abs/1910.07467)
    """

    name = "fuse-rms-norm"
    group = "mend"

    island: bool = option(
        default=False, help="what is float16 and cannot be fused is computed in float32, between two Casts"
    )

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Rewrite every layer normalisation in every scope."""
        Fusing(_TARGET, tally, self.island).run(graph)
