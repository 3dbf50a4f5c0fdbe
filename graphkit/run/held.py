"""Values that pass between sessions: OrtValues over numpy's memory, without a copy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

# numpy's own, which OrtValue takes as they are; every other fixed-size dtype passes as a view of its bytes
_NATIVE = {
    "bool",
    "float16",
    "float32",
    "float64",
    *(f"{u}int{b}" for u in ("", "u") for b in (8, 16, 32, 64)),
}
_PACKED: dict[int, Any] = {
    TensorProto.INT4: ml_dtypes.int4,
    TensorProto.UINT4: ml_dtypes.uint4,
    TensorProto.FLOAT4E2M1: ml_dtypes.float4_e2m1fn,
}


def held(value: Any) -> Any:
    """An OrtValue that shares the array's memory (a list becomes a sequence of tensors; text is copied)."""
    from onnxruntime import OrtValue

    if isinstance(value, OrtValue):
        return value
    if isinstance(value, (list, tuple)):
        return list(value)
    array = np.ascontiguousarray(value).reshape(np.shape(value))  # ascontiguousarray makes scalars 1-d
    if array.dtype.kind in "OUST" or array.dtype.name in _NATIVE:
        return OrtValue.ortvalue_from_numpy(array)
    code = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    if code in _PACKED and array.size:
        return _packed(array, code)
    return OrtValue.ortvalue_from_numpy_with_onnx_type(array, code)


def buffer(shape: Sequence[int], elem_type: int) -> NDArray[Any] | None:
    """Memory for a result, from numpy: it asks the system for huge pages, which a plain malloc does not.

    None when the result is empty, packed or of no fixed size: ONNX Runtime then allocates it.
    """
    if elem_type in _PACKED or elem_type in (TensorProto.STRING, TensorProto.UNDEFINED):
        return None
    if not all(shape):
        return None
    return np.empty(tuple(shape), onnx.helper.tensor_dtype_to_np_dtype(elem_type))


class _Memory:
    """Lends an OrtValue's memory to numpy, and keeps it alive as long as the array lives."""

    def __init__(self, value: Any, shape: tuple[int, ...]) -> None:
        self._value = value
        self.__array_interface__ = {
            "shape": shape,
            "typestr": "|u1",
            "data": (value.data_ptr(), False),
            "version": 3,
        }


def array_of(value: Any) -> NDArray[Any]:
    """The tensor in an OrtValue: a view of its memory, or a copy for text and 4-bit dtypes."""
    if value.data_type() == "tensor(string)":
        return np.asarray(value.numpy())
    code, shape = int(value.element_type()), tuple(value.shape())
    count = math.prod(shape)
    packed = _PACKED.get(code)
    dtype = np.dtype(packed if packed is not None else onnx.helper.tensor_dtype_to_np_dtype(code))
    if count == 0:
        return np.empty(shape, dtype)
    if packed is None:
        return np.asarray(_Memory(value, (count * dtype.itemsize,))).view(dtype).reshape(shape)
    both = np.asarray(_Memory(value, ((count + 1) // 2,)))
    halves = np.stack([both & 15, both >> 4], axis=-1).reshape(-1)[:count]
    signed = code == TensorProto.INT4
    return (
        (((halves ^ 8).astype(np.int8) - 8) if signed else halves).view(np.uint8).view(dtype).reshape(shape)
    )


def _packed(array: NDArray[Any], code: int) -> Any:
    """An OrtValue of a 4-bit dtype, two elements a byte, the first in the lower half."""
    from onnxruntime import OrtValue

    value = OrtValue.ortvalue_from_shape_and_type(list(array.shape), code)
    halves = np.zeros((array.size + 1) // 2 * 2, np.uint8)
    halves[: array.size] = array.reshape(-1).view(np.uint8) & 15
    np.asarray(_Memory(value, (halves.size // 2,)))[:] = halves[::2] | halves[1::2] << 4
    return value


def size_of(shape: Sequence[int], elem_type: int) -> int:
    """Bytes of a tensor of that shape and ONNX dtype; text counts as 64 bytes an element."""
    if elem_type == TensorProto.STRING:
        return math.prod(shape) * 64
    if elem_type in _PACKED:
        return (math.prod(shape) + 1) // 2
    try:
        return math.prod(shape) * int(onnx.helper.tensor_dtype_to_np_dtype(elem_type).itemsize)
    except KeyError:  # a dtype that onnx does not know
        return math.prod(shape) * 8
