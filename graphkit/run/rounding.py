"""An engine's own precision, emulated in ONNX: TF32 operands, and tensors that live in a narrower dtype."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

# which inputs of these operators a tensor core reads as TF32; their biases stay fp32
TF32_INPUTS: Mapping[str, tuple[int, ...]] = {
    "Conv": (0, 1),
    "ConvTranspose": (0, 1),
    "DeformConv": (0, 1),
    "Gemm": (0, 1),
    "MatMul": (0, 1),
    "Einsum": tuple(range(8)),
    "Attention": (0, 1, 2),
    "LSTM": (0, 1, 2, 5),
    "GRU": (0, 1, 2, 5),
    "RNN": (0, 1, 2, 5),
}
_SPLITTER = 8193.0  # 2**13 + 1: of fp32's 24 bits of mantissa, the upper 11 stay, as in TF32


@dataclass(frozen=True)
class Rounding:
    """How the engine rounds.

    ``tf32``: operands of convolutions and matrix products are rounded to TF32 (10 stored bits of mantissa, to
    nearest, ties to even) where they are fp32. ``native``: tensor -> the dtype it has in the engine
    ("float16", "bfloat16", "float8_e4m3fn", …): its values go through that dtype and back, overflow included.
    """

    tf32: bool = False
    native: Mapping[str, str] = field(default_factory=dict)


def tf32(array: NDArray[Any]) -> NDArray[Any]:
    """A float32 array rounded to TF32, to nearest, ties to even; infinities and NaN stay."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0xFFF) + ((bits >> np.uint32(13)) & np.uint32(1))) & np.uint32(0xFFFFE000)
    finite = (bits & np.uint32(0x7F800000)) != np.uint32(0x7F800000)
    return np.where(finite, rounded, bits).view(np.float32).reshape(np.shape(array))


def operands(node: NodeProto) -> Iterator[int]:
    """Places of the inputs that TF32 rounds."""
    if node.domain in ("", "ai.onnx", "com.microsoft"):
        for place in TF32_INPUTS.get(node.op_type, ()):
            if place < len(node.input) and node.input[place]:
                yield place


def split(name: str, out: str) -> list[NodeProto]:
    """Nodes that round a float32 tensor to TF32 by Veltkamp's splitting: c - (c - x) where c = 8193 x.

    Dekker, A floating-point technique for extending the available precision, 1971. Exact up to |x| = 4e34;
    beyond that 8193 x overflows, and the result is NaN.
    """
    factor, scaled, low = (f"{out}.{part}" for part in ("factor", "scaled", "low"))
    value = helper.make_tensor("", TensorProto.FLOAT, [], [_SPLITTER])
    return [
        helper.make_node("Constant", [], [factor], value=value),
        helper.make_node("Mul", [name, factor], [scaled]),
        helper.make_node("Sub", [scaled, name], [low]),
        helper.make_node("Sub", [scaled, low], [out]),
    ]


def through(name: str, out: str, native: str, wide: int) -> list[NodeProto]:
    """Casts of a tensor to its native dtype and back to the one that it is computed in."""
    narrow = f"{out}.narrow"
    to = helper.np_dtype_to_tensor_dtype(np.dtype(_dtype(native)))
    return [
        helper.make_node("Cast", [name], [narrow], to=to),
        helper.make_node("Cast", [narrow], [out], to=wide),
    ]


def _dtype(name: str) -> Any:
    import ml_dtypes

    return getattr(ml_dtypes, name, None) or np.dtype(name)


def is_float(elem_type: int) -> bool:
    """Whether the ONNX dtype is a floating-point one of at least 32 bits."""
    return elem_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
