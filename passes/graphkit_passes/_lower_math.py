"""Arithmetic and logic in terms of older operators: https://onnx.ai/onnx/operators/"""

from __future__ import annotations

import numpy as np

from graphkit import NotApplicable
from graphkit.model.graph import Tensor
from graphkit.model.surgeon import numpy_dtype, onnx_dtype
from graphkit_passes._lowering import F32, I64, Lowering, writes
from graphkit_passes._shared import FLOATS

_SIGNED = frozenset({"int8", "int16", "int32", "int64"})


@writes("Mod")
def mod(low: Lowering) -> Tensor:
    """The remainder with the sign of the divisor; of floats, by way of the one with the sign of ``x``."""
    x, y, dtype = low.x, low.given(1), low.dtype(low.x)
    whole = dtype.name not in FLOATS
    if low.attr("fmod"):
        if not whole:
            raise NotApplicable("fmod of floats is exact, which no division of floats is")
        return low("Sub", x, low("Mul", low("Div", x, y), y))
    if whole and dtype.name not in _SIGNED:
        return low("Sub", x, low("Mul", low("Div", x, y), y))
    part = low("Sub", x, low("Mul", low("Div", x, y), y)) if whole else low("Mod", x, y, fmod=1)
    zero = low.like(0, x)
    apart = low("Xor", low("Less", part, zero), low("Less", y, zero))
    unlike = low("And", apart, low("Not", low("Equal", part, zero)))
    return low("Where", unlike, low("Add", part, y), part)


@writes("Clip")
def clip(low: Lowering) -> Tensor:
    """``min(max(x, least), most)``."""
    found = low.x
    for place, op, name in ((1, "Max", "min"), (2, "Min", "max")):
        bound = low.input(place)
        if bound is None and low.graph.opset < 11:
            bound = low.like(float(low.attr(name)), low.x)
        if bound is not None:
            found = low(op, found, bound)
    return found


@writes("Xor")
def xor(low: Lowering) -> Tensor:
    """``(a or b) and not (a and b)``."""
    a, b = low.x, low.given(1)
    return low("And", low("Or", a, b), low("Not", low("And", a, b)))


@writes("IsInf")
def is_inf(low: Lowering) -> Tensor:
    """Whether ``x`` equals one of the infinities."""
    x, below, above = low.x, low.attr("detect_negative"), low.attr("detect_positive")
    if below and above:
        return low("Equal", low("Abs", x), low.like(np.inf, x))
    if not below and not above:
        raise NotApplicable("it detects neither infinity")
    return low("Equal", x, low.like(-np.inf if below else np.inf, x))


@writes("CastLike")
def cast_like(low: Lowering) -> Tensor:
    """Cast to the dtype of the second input."""
    saturate = None if low.attr("saturate", 1) else 0
    if low.attr("round_mode", "up") not in ("up", b"up"):
        raise NotApplicable("it rounds in another way than up")
    return low("Cast", low.x, to=onnx_dtype(low.dtype(low.given(1))), saturate=saturate)


@writes("BitwiseNot")
def bitwise_not(low: Lowering) -> Tensor:
    """``-1 - x`` of signed integers."""
    _require_signed(low)
    return low("Sub", low.like(-1, low.x), low.x)


@writes("BitwiseAnd", "BitwiseOr", "BitwiseXor")
def bitwise(low: Lowering) -> Tensor:
    """With a scalar constant: each run of ones of it is ``x mod 2^high - x mod 2^low``."""
    dtype = _require_signed(low)
    pair = (low.x, low.given(1))
    x, values = next(
        ((a, low.graph.value(b)) for a, b in (pair, pair[::-1]) if low.graph.is_constant(b)), (None, None)
    )
    if x is None or values is None or values.size != 1:
        raise NotApplicable("neither of its inputs is a constant of one element")
    if values.ndim and low.rank(x) < values.ndim:
        raise NotApplicable(f"its constant has {values.ndim} dims, more than '{x.name}'")
    mask = int(values.reshape(()))
    both = _masked(low, x, mask, 8 * dtype.itemsize)
    if low.node.op == "BitwiseAnd":
        return both
    rest = low("Sub", x, both)  # x and not mask
    other = low.like(mask, x)
    return low("Add", rest, other if low.node.op == "BitwiseOr" else low("Sub", other, both))


def _require_signed(low: Lowering) -> np.dtype[np.generic]:
    dtype = low.dtype(low.x)
    if dtype.name not in ("int32", "int64"):
        raise NotApplicable(f"its dtype is {dtype.name}; only int32 and int64 are written with Mod")
    return dtype


def _masked(low: Lowering, x: Tensor, mask: int, bits: int) -> Tensor:
    """``x and mask``: for each run of ones in bits [least, end), ``x mod 2^end - x mod 2^least``."""
    runs = _runs(mask & ((1 << bits) - 1), bits)
    if len(runs) > _RUNS:
        raise NotApplicable(f"its constant has {len(runs)} runs of ones; up to {_RUNS} are written")
    total: Tensor | None = None
    for least, end in runs:
        if end == bits - 1:
            raise NotApplicable(f"2^{end}, which its constant needs, is beyond its dtype")
        upper = x if end == bits else low("Mod", x, low.like(2**end, x))
        part = low("Sub", upper, low("Mod", x, low.like(2**least, x))) if least else upper
        total = part if total is None else low("Add", total, part)
    if total is None:
        return low("Mul", x, low.like(0, x))
    return total


_RUNS = 4


def _runs(mask: int, bits: int) -> list[tuple[int, int]]:
    """The runs of ones of a mask, as [first bit, end)."""
    found: list[tuple[int, int]] = []
    for bit in range(bits):
        if mask >> bit & 1:
            if found and found[-1][1] == bit:
                found[-1] = (found[-1][0], bit + 1)
            else:
                found.append((bit, bit + 1))
    return found


@writes("Range")
def range_(low: Lowering) -> Tensor:
    """Of float16: in float32, rounded at the end."""
    dtype = low.dtype(low.x)
    if dtype.name != "float16":
        raise NotApplicable(f"Range of {dtype.name} is not written in another way")
    return low.cast(low("Range", *(low.cast(low.given(n), F32) for n in range(3))), dtype)


@writes("ReduceMax", "ReduceMin")
def reduce_bool(low: Lowering) -> Tensor:
    """Of booleans: as numbers."""
    dtype = low.dtype(low.x)
    if dtype.name != "bool":
        raise NotApplicable(f"{low.node.op} of {dtype.name} is not written in another way")
    if 0 in low.fixed(low.x):
        raise NotApplicable(f"'{low.x.name}' is empty")
    number = low.cast(low.x, np.dtype(np.int32))
    found = low.reduce(low.node.op, number, low.axes(), keep=bool(low.attr("keepdims")))
    return low.cast(found, dtype)


@writes("EyeLike")
def eye_like(low: Lowering) -> Tensor:
    """1 where the column is ``k`` more than the row; a constant of a fixed shape."""
    to, k = low.attr("dtype", 0), int(low.attr("k"))
    dtype = numpy_dtype(to) if to else low.dtype(low.x)
    if dtype is None:
        raise NotApplicable(f"its dtype {to} is not known")
    rows, columns = (low.dim(low.x, n) for n in (0, 1))
    if rows is not None and columns is not None:
        return low.const(np.eye(rows, columns, k).astype(dtype), name="eye")
    return low.cast(low("Equal", _diagonals(low, low.x), low.const(k, I64, "k")), dtype)


def _diagonals(low: Lowering, x: Tensor) -> Tensor:
    """Column minus row, over the two last dims."""
    rows = low.unsqueeze(low.arange(low.size(x, -2)), 1)
    return low("Sub", low.unsqueeze(low.arange(low.size(x, -1)), 0), rows)


@writes("Trilu")
def trilu(low: Lowering) -> Tensor:
    """``x`` where a mask of the two last dims is set, else 0; the mask is constant for fixed dims."""
    x, given, upper = low.x, low.input(1), bool(low.attr("upper"))
    k = 0 if given is None else int(low.value(given, "k").reshape(()))
    rows, columns = low.dim(x, -2), low.dim(x, -1)
    if rows is not None and columns is not None:
        apart = np.arange(columns)[None] - np.arange(rows)[:, None]
        kept = low.const(apart >= k if upper else apart <= k, name="mask")
    else:
        edge = low.const(k - 1 if upper else k + 1, I64, "edge")
        kept = low("Greater" if upper else "Less", _diagonals(low, x), edge)
    if low.dtype(x).name == "bool":
        return low("And", x, kept)
    return low("Where", kept, x, low.like(0, x))
