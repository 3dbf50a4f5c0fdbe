"""The ``drop-bias-qdq`` pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from graphkit import Graph, NotApplicable, Pass, Tally
from graphkit.model.graph import Node, Tensor
from graphkit.model.operators import attribute, domain_of
from graphkit.model.surgeon import numpy_dtype
from graphkit_passes._placing import Placing
from graphkit_passes._shared import Known

Array = npt.NDArray[Any]


class DropBiasQdq(Pass):
    """Dequantize int32 constants once: the biases of convolutions and matrix products in quantized models.

    ## Why
    ONNX Runtime's quantizer stores a bias as int32 behind a DequantizeLinear, whose scale is the product of
    those of input and weight. TensorRT takes a DequantizeLinear of 8 bits and fewer only, and stops at the
    first one: "input has type Int32 but must have type FP8, FP4, Int4, or Int8". What it wants is a bias of
    floats. The values are those that ONNX defines, in every bit: int32 to float32, times the scale.

    ## Example
    ```
    b = DequantizeLinear (quantized, scale)           # quantized is an int32 initializer
    y = Conv (x, w, b)
    ```
    becomes
    ```
    y = Conv (x, w, b)                                # b is a float initializer
    ```
    Whatever reads the result, it is the same. Constants of 8 bits, which are weights, stay quantized.

    ## When it refuses
    - The int32 values, the scale or the zero point are not constant.
    - The zero point is not 0, which ONNX does not allow for int32.
    - The scales do not fit the values: another number of them than there are along the axis, or in blocks.
    - The axis or the dtype is an attribute of the function that it is in.

    ## Issues
    [onnx-tensorrt#850](https://github.com/onnx/onnx-tensorrt/issues/850)

    ## Source
    [DequantizeLinear](https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html)
    """

    name = "drop-bias-qdq"
    group = "mend"

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Replace every DequantizeLinear of int32 constants by its result."""
        known, placing = Known(graph.model), Placing(graph)
        for scope in graph.scopes():
            gone: list[Node] = []
            for node in [n for n in scope.nodes if n.op == "DequantizeLinear" and not domain_of(n)]:
                if not _is_wide(scope, node, known):
                    continue
                try:
                    values = _dequantized(scope, node)
                except NotApplicable as error:
                    tally.refuse(scope, node, str(error))
                    continue
                placing.fold(scope, node, {id(node.outputs[0]): values})
                gone.append(node)
            placing.remove(scope, gone)
            tally.rewrite(len(gone))
        placing.sweep()


def _is_wide(graph: Graph, node: Node, known: Known) -> bool:
    """Whether a DequantizeLinear reads int32; inference is asked only where nothing else tells."""
    data = node.inputs[0]
    if graph.is_constant(data):
        return graph.dtype(data) == np.int32
    zero = _input(node, 2)
    if zero is not None and graph.is_constant(zero):
        return graph.dtype(zero) == np.int32
    maker = graph.producer(data)
    if maker is not None and maker.op in ("QuantizeLinear", "DynamicQuantizeLinear"):
        return False
    return known.dtype(graph, data) == np.int32


def _input(node: Node, place: int) -> Tensor | None:
    return node.inputs[place] if len(node.inputs) > place and node.inputs[place].name else None


def _dequantized(graph: Graph, node: Node) -> Array:
    """What the node gives; NotApplicable where that is not known."""
    values, scale = _constant(graph, node, 0, "input"), _constant(graph, node, 1, "scale")
    if _input(node, 2) is not None and _constant(graph, node, 2, "zero point").any():
        raise NotApplicable("its zero point is not 0, which ONNX does not allow for int32")
    dtype = _dtype(graph, node, scale)
    if scale.size != 1:
        scale = _along_axis(graph, node, values, scale)
    wide = values.astype(np.float32) * scale.reshape(scale.shape if scale.size > 1 else ()).astype(np.float32)
    return np.asarray(wide.astype(dtype))


def _constant(graph: Graph, node: Node, place: int, what: str) -> Array:
    tensor = node.inputs[place]
    values = graph.value(tensor)
    if values is None:
        raise NotApplicable(f"its {what} '{tensor.name}' is not constant")
    return values


def _dtype(graph: Graph, node: Node, scale: Array) -> np.dtype[Any]:
    """The dtype of the result: that of the scale, unless an attribute says another."""
    code = node.attrs.get("output_dtype", 0)
    given = numpy_dtype(code) if isinstance(code, int) and code else None
    if not isinstance(code, int) or (code and given is None):
        raise NotApplicable("its output_dtype is an attribute of the function that it is in")
    return given or scale.dtype


def _along_axis(graph: Graph, node: Node, values: Array, scale: Array) -> Array:
    """Scales, one for each index along an axis, in a shape that multiplies the values."""
    axis, block = attribute(graph, node, "axis"), attribute(graph, node, "block_size")
    if not isinstance(axis, int):
        raise NotApplicable("its axis is an attribute of the function that it is in")
    if block or scale.ndim != 1:
        raise NotApplicable("its scales are for blocks of values")
    if not -values.ndim <= axis < values.ndim or values.shape[axis] != scale.size:
        shape = "x".join(map(str, values.shape))
        raise NotApplicable(f"its {scale.size} scales are not one for each index of axis {axis} of {shape}")
    return scale.reshape([-1 if d == axis % values.ndim else 1 for d in range(values.ndim)])
