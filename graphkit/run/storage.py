"""How tensors lie in a capture: dtypes of numpy's own as they are, others as raw bytes of the same bits."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]

_PLAIN = frozenset(
    ("bool", "float16", "float32", "float64", *(f"{u}int{b}" for u in ("", "u") for b in (8, 16, 32, 64)))
)
# One element a byte, or two bytes: numpy sees unsigned integers of the same bits.
_VIEWED = {
    name: (np.dtype(getattr(ml_dtypes, name)), np.dtype(raw))
    for name, raw in (
        ("bfloat16", np.uint16),
        ("float8_e4m3fn", np.uint8),
        ("float8_e4m3fnuz", np.uint8),
        ("float8_e5m2", np.uint8),
        ("float8_e5m2fnuz", np.uint8),
        ("float8_e8m0fnu", np.uint8),
    )
}
# Two elements a byte, the first in the low half, as in ONNX (https://onnx.ai/onnx/technical/int4.html).
_HALVES = {name: np.dtype(getattr(ml_dtypes, name)) for name in ("int4", "uint4", "float4_e2m1fn")}

DTYPES = frozenset(
    (*_PLAIN, *_VIEWED, *_HALVES)
)  # the dtypes a capture can hold, by numpy's or ml_dtypes' name


def nbytes(dtype: str, dims: Shape) -> int:
    """Bytes that ``dims`` elements of ``dtype`` take, packed: as they lie on a device and in a capture."""
    count = math.prod(dims)
    return -(-count // 2) if dtype in _HALVES else count * raw_dtype(dtype).itemsize


def raw_dtype(dtype: str) -> np.dtype[Any]:
    """The numpy dtype that holds ``dtype``'s bits; KeyError for one that a capture cannot hold."""
    if dtype in _PLAIN:
        return np.dtype(dtype)
    return np.dtype(np.uint8) if dtype in _HALVES else _VIEWED[dtype][1]


def raw_shape(dtype: str, dims: Shape) -> Shape:
    """The shape of the raw array: ``dims``, or the bytes in a row where two elements share one."""
    return (nbytes(dtype, dims),) if dtype in _HALVES else dims


def to_raw(array: NDArray[Any]) -> NDArray[Any]:
    """The array of ``raw_dtype`` and ``raw_shape`` with the same bits; no copy unless halves are packed."""
    name = array.dtype.name
    if name in _HALVES:
        bits = np.ascontiguousarray(array).reshape(-1).view(np.uint8) & 0xF
        bits = np.append(bits, np.zeros(bits.size % 2, np.uint8))
        return np.asarray(bits[0::2] | bits[1::2] << 4, np.uint8)
    raw = raw_dtype(name)
    return array if name in _PLAIN else np.asarray(array, order="C").view(raw)


def from_raw(raw: NDArray[Any], dtype: str, dims: Shape) -> NDArray[Any]:
    """The tensor: ``dtype`` (ml_dtypes' where numpy lacks it) in ``dims``; only halves are copied."""
    if dtype in _PLAIN:
        return raw.reshape(dims)
    if dtype in _VIEWED:
        return np.asarray(raw.view(_VIEWED[dtype][0])).reshape(dims)
    both = np.stack((raw & 0xF, raw >> 4), axis=-1).reshape(-1)[: math.prod(dims)]
    return np.asarray(both.view(_HALVES[dtype])).reshape(dims)
