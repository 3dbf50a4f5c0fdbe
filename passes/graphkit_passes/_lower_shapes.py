"""Operators that move, count or place elements, in terms of older ones: https://onnx.ai/onnx/operators/"""

from __future__ import annotations

import numpy as np

from graphkit import NotApplicable
from graphkit.model.graph import Tensor
from graphkit_passes._lowering import I64, Lowering, writes


@writes("CenterCropPad")
def center_crop_pad(low: Lowering) -> Tensor:
    """A Slice and a Pad, of fixed dims."""
    x, rank = low.x, low.rank(low.x)
    sizes = [int(v) for v in low.value(low.given(1), "shape").reshape(-1)]
    axes = [a % rank for a in low.attr("axes", range(rank))]
    starts, ends, before, after = [], [], [0] * rank, [0] * rank
    for axis, size in zip(axes, sizes, strict=True):
        dim = low.dim(x, axis)
        if dim is None:
            raise NotApplicable(f"dim {axis} of '{x.name}' is not fixed")
        first = max(dim - size, 0) // 2
        starts.append(first)
        ends.append(first + min(dim, size))
        before[axis] = max(size - dim, 0) // 2
        after[axis] = max(size - dim, 0) - before[axis]
    if any(low.dim(x, a) != e - s for a, s, e in zip(axes, starts, ends, strict=True)):
        x = low("Slice", x, low.ints(*starts), low.ints(*ends), low.ints(*axes))
    if any(before + after):
        x = low("Pad", x, low.ints(*before, *after))
    return x


@writes("CumSum", "CumProd")
def cumulated(low: Lowering) -> Tensor:
    """Elements that are 1, 2, 4, … apart combined, step by step, along an axis of fixed length."""
    x, rank, product = low.x, low.rank(low.x), low.node.op == "CumProd"
    axis = int(low.value(low.given(1), "axis").reshape(())) % rank
    length, reverse = low.dim(x, axis), bool(low.attr("reverse"))
    if length is None:
        raise NotApplicable(f"dim {axis} of '{x.name}' is not fixed")
    if length == 0:
        return x
    y = x
    if low.attr("exclusive"):
        kept = low.slice(x, axis, 1, length) if reverse else low.slice(x, axis, 0, length - 1)
        pads = [0] * (2 * rank)
        pads[axis + rank * reverse] = 1
        y = low("Pad", kept, low.ints(*pads), low.like(1 if product else 0, x))
    step, op = 1, "Mul" if product else "Add"
    while step < length:
        left, right = low.slice(y, axis, 0, length - step), low.slice(y, axis, step, length)
        both = low(op, left, right)
        edge = low.slice(y, axis, length - step, length) if reverse else low.slice(y, axis, 0, step)
        y = low("Concat", *((both, edge) if reverse else (edge, both)), axis=axis)
        step *= 2
    return y


@writes("Hardmax")
def hardmax(low: Lowering) -> Tensor:
    """1 where the index is that of the first largest element."""
    x, rank, axis = low.x, low.rank(low.x), int(low.attr("axis"))
    if low.graph.opset < 13 and axis % rank != rank - 1:
        raise NotApplicable(f"Hardmax of opset {low.graph.opset} flattens the axes behind {axis}")
    length = low.dim(x, axis)
    if length is None:
        raise NotApplicable(f"dim {axis} of '{x.name}' is not fixed")
    places = np.arange(length).reshape([length if n == axis % rank else 1 for n in range(rank)])
    largest = low("ArgMax", x, axis=axis % rank, keepdims=1)
    return low.cast(low("Equal", largest, low.const(places, I64, "range")), low.dtype(x))


@writes("OneHot")
def one_hot(low: Lowering) -> Tensor:
    """On where the index, counted from the end if negative, is that of the place; else off."""
    indices, rank = low.x, low.rank(low.x)
    depth = int(low.value(low.given(1), "depth").reshape(()))
    axis = int(low.attr("axis")) % (rank + 1)
    whole = indices if low.dtype(indices) == I64 else low.cast(indices, I64)
    index = low.unsqueeze(whole, axis)
    counted = low("Add", index, low.const(depth, I64, "depth"))
    index = low("Where", low("Less", index, low.const(0, I64, "zero")), counted, index)
    places = np.arange(depth).reshape([depth if n == axis else 1 for n in range(rank + 1)])
    found = low("Equal", index, low.const(places, I64, "range"))
    off, on = (low("Gather", low.given(2), low.const(n, I64, "place"), axis=0) for n in (0, 1))
    return low("Where", found, on, off)


@writes("AffineGrid")
def affine_grid(low: Lowering) -> Tensor:
    """``theta`` times a constant grid, for a constant size."""
    theta, size = low.x, [int(v) for v in low.value(low.given(1), "size").reshape(-1)][2:]
    aligned = bool(low.attr("align_corners"))
    if aligned and 1 in size:
        raise NotApplicable("the corners of a grid with a dim of 1 cannot be aligned")
    lines = [(2 * np.arange(n) / (n - 1) if aligned else (2 * np.arange(n) + 1) / n) - 1 for n in size]
    grid = np.meshgrid(*lines, indexing="ij")
    points = np.stack([*(g.reshape(-1) for g in grid[::-1]), np.ones(int(np.prod(size)))], axis=1)
    base = low.const(points.astype(low.dtype(theta)), name="grid")
    moved = low("MatMul", base, low("Transpose", theta, perm=[0, 2, 1]))
    return low.reshape(moved, 0, *size, len(size))


@writes("Shape")
def shape_part(low: Lowering) -> Tensor:
    """``start`` and ``end`` by a Slice."""
    start, end = int(low.attr("start", 0)), low.attr("end")
    return low.slice(low("Shape", low.x), 0, start, _FAR if end is None else int(end))


_FAR = (1 << 31) - 1


@writes("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp")
def reduced(low: Lowering) -> Tensor:
    """ReduceSum of the absolute values, squares or exponentials, and what comes behind it."""
    x, op, axes = low.x, low.node.op, low.axes()
    inner = x
    if op == "ReduceL1":
        inner = low("Abs", x)
    elif op in ("ReduceL2", "ReduceSumSquare"):
        inner = low("Mul", x, x)
    most = None
    if op == "ReduceLogSumExp":
        most = low.reduce("ReduceMax", x, axes)
        finite = low("Where", low("Equal", low("Abs", most), low.like(np.inf, x)), low.like(0, x), most)
        inner = low("Exp", low("Sub", x, finite))
        keep = bool(low.attr("keepdims"))
        total = low("Log", low.reduce("ReduceSum", inner, axes))
        found = low("Add", total, finite)
        return found if keep else low.squeeze(found, *axes)
    total = low.reduce("ReduceSum", inner, axes, keep=bool(low.attr("keepdims")))
    if op == "ReduceL2":
        return low("Sqrt", total)
    return low("Log", total) if op == "ReduceLogSum" else total
