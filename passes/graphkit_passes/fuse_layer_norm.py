"""The ``fuse-layer-norm`` pass."""

from __future__ import annotations

from graphkit import Graph, Pass, Tally, option
from graphkit_passes._norm_fuse import Fusing, Target

_TARGET = Target("LayerNormalization", opset=17, centred=True)


class FuseLayerNorm(Pass):
    """Fuse a layer normalisation that is written out into one LayerNormalization.

    ## Why
    Exporters below opset 17, hand-written modules, TensorFlow, Keras, Paddle and Flax spell it as
    ReduceMean, Sub, Pow, ReduceMean, Add, Sqrt, Div, Mul, Add, in many orders. In float16 the squares
    overflow from a deviation of 256 on: the mean is infinite and the result 0, or NaN. TensorRT computes the
    one operator in float32 inside, whatever its type, from TensorRT 8.6 on; TensorRT-RTX 1.4 and 1.7 do too.

    | spelling | where |
    |---|---|
    | Pow 2 or Mul by itself, Sqrt, Div | PyTorch, Paddle, BERT; two Subs in PyTorch 1 |
    | Casts to float32 or float64 around the squares | DeBERTa; PyTorch in float16 |
    | Reciprocal, `1 / sqrt`, or a power of -0.5, then Mul | `rsqrt` |
    | `x * inverse + (bias - mean * inverse)` | TensorFlow, by tf2onnx |
    | Max 0 and Min infinity in front of the root | Keras |
    | the scale times the inverse first; the mean of squares less the squared mean | Flax |
    | a ReduceSum over N, keepdims 0 and a Reshape | `var_mean` of PyTorch 2 |
    | `com.microsoft::SkipLayerNormalization` | ONNX Runtime's optimizer: Add, LayerNormalization |

    With and without scale and bias, over one or several last axes, by positive or negative numbers. What was
    computed in float16 or bfloat16, with or without Casts, gets an operator of that type; it is more exact
    than what it replaces.

    `island=true` helps where the operator is not to be had, below opset 17 or over channels: what is all
    float16 is computed in float32, between two Casts.

    `channels=true` brings other axes to the end and back, by two Transposes, as for the LayerNorm2d of
    ConvNeXt and DETRs: TensorRT keeps its precision only when it sees one operator.

    ## Example
    ```
    m = ReduceMean <axes = [-1]> (x)
    d = Sub (x, m)
    s = Pow (d, two)
    v = ReduceMean <axes = [-1]> (s)
    e = Add (v, eps)
    r = Sqrt (e)
    n = Div (d, r)
    w = Mul (n, scale)
    y = Add (w, bias)
    ```
    becomes
    ```
    y = LayerNormalization <axis = -1, epsilon = 1e-05> (x, scale, bias)
    ```

    ## When it refuses
    - The opset is below 17.
    - The axes are not the last ones, and `channels=true` is not given.
    - Their sizes are not known: the operator needs a scale of that size.
    - A tensor in its middle is read elsewhere too, or is an output of the graph.
    - Epsilon is negative, is added to the root instead, or has more dims than the input.
    - What is divided is not the input less its mean, or the variance is unbiased.
    - What multiplies or is added before it is done has not the shape of the axes.
    - It is computed in float64, or the result has another dtype than the input, however it is cast.
    - It is in a local function, which has no shapes: run `inline-functions` first.
    - A SkipLayerNormalization's mean or deviation is used.

    A scale or bias of another shape stays as a node of its own, and the operator gets a scale of ones.

    ## Issues
    [TensorRT#2564](https://github.com/NVIDIA/TensorRT/issues/2564) ·
    [TensorRT#2781](https://github.com/NVIDIA/TensorRT/issues/2781) ·
    [TensorRT#4493](https://github.com/NVIDIA/TensorRT/issues/4493) ·
    [TensorRT#2466](https://github.com/NVIDIA/TensorRT/issues/2466) ·
    [TensorRT#3692](https://github.com/NVIDIA/TensorRT/issues/3692) ·
    [rf-detr#176](https://github.com/roboflow/rf-detr/issues/176)

    ## Source
    [LayerNormalization](https://onnx.ai/onnx/operators/onnx__LayerNormalization.html) ·
    [SkipLayerNormalization](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md) ·
    [Ba et al. 2016](https://arxiv.org/abs/1607.06450)
    """

    name = "fuse-layer-norm"
    group = "mend"

    island: bool = option(
        default=False, help="what is float16 and cannot be fused is computed in float32, between two Casts"
    )

    channels: bool = option(
        default=False, help="fuse over axes that are not the last ones too, between two Transposes"
    )

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Rewrite every layer normalisation in every scope."""
        Fusing(_TARGET, tally, self.island, self.channels).run(graph)
