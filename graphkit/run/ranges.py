"""Which values fit an input, by what reads it: one small rule for each operator input that is particular."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from graphkit.run.domain import Domain, between, distinct, distinct_along, divisor, exactly, one_of
from graphkit.run.sizes import SIZES
from graphkit.run.uses import Use, as_ints

Rule = Callable[[Use], Domain | None]
POSITIVE = between(0.1, 3.0)
SCALE = between(0.02, 0.1)

# plain bounds: (operator, input position) -> where the function is defined and well conditioned
_BOUNDS: dict[tuple[str, int], Domain] = {
    ("Log", 0): POSITIVE,
    ("Sqrt", 0): between(0.0, 4.0),
    ("Pow", 0): between(0.1, 2.5),
    ("Pow", 1): between(0.0, 3.0),
    ("Div", 1): divisor(0.5, 4.0),
    ("Reciprocal", 0): divisor(0.5, 3.0),
    ("Mod", 1): divisor(1.0, 5.0),
    ("Acosh", 0): between(1.0, 4.0),
    ("Acos", 0): between(-0.99, 0.99),
    ("Asin", 0): between(-0.99, 0.99),
    ("Atanh", 0): between(-0.9, 0.9),
    ("Tan", 0): between(-1.2, 1.2),
    ("Exp", 0): between(-4.0, 4.0),
    ("BitShift", 1): between(0, 3),
    ("BatchNormalization", 4): between(0.5, 2.0),
    ("Clip", 1): between(-1.0, 0.0),
    ("Clip", 2): between(0.5, 2.0),
    ("Dropout", 1): between(0.1, 0.5),
    ("Dropout", 2): one_of([False]),
    ("Bernoulli", 0): between(0.0, 1.0),
    ("Trilu", 1): between(-1, 2),
    ("Loop", 0): between(2, 4),
    ("Loop", 1): one_of([True]),
    ("NonMaxSuppression", 2): between(2, 5),
    ("NonMaxSuppression", 3): between(0.4, 0.6),
    ("NonMaxSuppression", 4): between(0.0, 0.1),
    ("GridSample", 1): between(-1.0, 1.0),
    ("QuantizeLinear", 1): SCALE,
    ("DequantizeLinear", 1): SCALE,
    ("QLinearMatMul", 1): SCALE,
    ("QLinearMatMul", 4): SCALE,
    ("QLinearMatMul", 6): SCALE,
    ("QLinearConv", 1): SCALE,
    ("QLinearConv", 4): SCALE,
    ("QLinearConv", 6): SCALE,
    ("SequenceAt", 1): exactly(0),
    ("SequenceInsert", 2): exactly(0),
    ("SequenceErase", 1): exactly(0),
    ("MelWeightMatrix", 0): exactly(8),
    ("MelWeightMatrix", 1): exactly(16),
    ("MelWeightMatrix", 2): exactly(8192),
    ("MelWeightMatrix", 3): exactly(0.0),
    ("MelWeightMatrix", 4): exactly(4096.0),
}


def _axis(use: Use, default: int = 0) -> int | None:
    shape = use.shape(0)
    axis = int(use.attribute("axis", default))
    return axis if shape and -len(shape) <= axis < len(shape) else None


def gather(use: Use) -> Domain | None:
    """Indices into ``data`` along ``axis``."""
    shape, axis = use.shape(0), _axis(use)
    return between(0, 1) if shape is None or axis is None else between(0, shape[axis] - 1)


def scatter(use: Use) -> Domain | None:
    """Indices that hit no element twice, unless the node reduces."""
    shape, axis = use.shape(0), _axis(use)
    return distinct_along(axis, shape[axis]) if shape and axis is not None else None


def gather_nd(use: Use) -> Domain | None:
    """Rows of coordinates into ``data`` after its batch dims, all different where there are enough."""
    shape, batch = use.shape(0), int(use.attribute("batch_dims", 0))
    if shape is None:
        return exactly(0)

    def make(rng: np.random.Generator, wanted: tuple[int, ...]) -> Any:
        limits = shape[batch : batch + (wanted[-1] if wanted else 0)]
        count = int(np.prod(wanted[:-1], dtype=int))
        total = max(int(np.prod(limits, dtype=int)), 1)
        flat = np.resize(rng.permutation(total), count)
        return (
            np.stack(np.unravel_index(flat, limits), axis=-1).reshape(wanted) if limits else np.zeros(wanted)
        )

    return Domain(make=make)


def one_hot_indices(use: Use) -> Domain | None:
    """Class numbers below ``depth``."""
    depth = as_ints(use.value(1))
    return between(0, (depth[0] if depth else 4) - 1)


def axis_number(use: Use) -> Domain | None:
    """Any axis of the first input."""
    shape = use.shape(0)
    return between(0, len(shape) - 1) if shape else exactly(0)


def lengths(use: Use) -> Domain | None:
    """Sequence lengths: from one step to all of them, the longest among them."""
    shape = use.shape(0)
    time = int(use.attribute("time_axis", 0)) if use.node.op_type == "ReverseSequence" else 0
    steps = shape[time] if shape and time < len(shape) else 1

    def make(rng: np.random.Generator, wanted: tuple[int, ...]) -> Any:
        drawn = rng.integers(1, steps + 1, wanted) if steps else np.zeros(wanted)
        if drawn.size:
            drawn.flat[0] = steps
        return drawn

    return Domain(make=make)


def classes(use: Use) -> Domain | None:
    """Target classes of a loss: the second dim of the scores."""
    shape = use.shape(0)
    return between(0, shape[1] - 1) if shape and len(shape) > 1 else between(0, 1)


def equal(use: Use) -> Domain | None:
    """Values a switch is compared with, and one that it is not: every branch gets its turn."""
    other = use.value(1 - use.index)
    if other is None or other.size == 0 or other.dtype.kind not in "iuO":
        return None
    listed = np.atleast_1d(other).ravel()[:4].tolist()
    last = listed[-1]
    if isinstance(last, int) and last not in (0, 1):  # 16000 -> 8000; 0 and 1 are reached by the variants
        listed.append(last // 2)
    return one_of(listed)


def batch_index(use: Use) -> Domain | None:
    """RoiAlign's image numbers."""
    shape = use.shape(0)
    return between(0, shape[0] - 1) if shape else exactly(0)


def rois(use: Use) -> Domain | None:
    """Boxes x1 < x2, y1 < y2."""

    def make(rng: np.random.Generator, wanted: tuple[int, ...]) -> Any:
        boxes = rng.uniform(0, 2, wanted)
        boxes[..., wanted[-1] // 2 :] += 3
        return boxes

    return Domain(make=make)


def unpool(use: Use) -> Domain | None:
    """MaxUnpool's places: all different within the output."""
    shape, out = use.shape(0), use.out_shape()
    if out is None and shape is not None:
        kernel = use.attribute("kernel_shape", [])
        strides = use.attribute("strides", [1] * len(kernel))
        out = shape[:2] + tuple((n - 1) * s + k for n, s, k in zip(shape[2:], strides, kernel, strict=False))
    return distinct(int(np.prod(out, dtype=int))) if out else None


def pool_ids(use: Use) -> Domain | None:
    """TfIdfVectorizer's own n-gram items, so that something is counted."""
    pool = use.attribute("pool_int64s") or use.attribute("pool_strings")
    return one_of(list(pool)) if pool else None


def positions(use: Use) -> Domain | None:
    """Rows of a cache: position ids of a rotary embedding."""
    cache = use.shape(1 if use.node.domain in ("", "ai.onnx") else 2)
    return between(0, cache[0] - 1) if cache else exactly(0)


def zero_point(use: Use) -> Domain | None:
    """int32 data is dequantised about zero only."""
    return exactly(0) if use.facts.elem_type(use.node.input[0]) == 6 else None


def write_index(use: Use) -> Domain | None:
    """TensorScatter: where the update still fits in the cache."""
    cache, update = use.shape(0), use.shape(1)
    axis = int(use.attribute("axis", -2))
    return between(0, cache[axis] - update[axis]) if cache and update else exactly(0)


def valid_lengths(use: Use) -> Domain | None:
    """Attention: how many keys are real, at least one."""
    keys = use.shape(1)
    return between(1, keys[-2]) if keys else exactly(1)


def cast(use: Use) -> Domain | None:
    """Strings that are cast to a number must spell one."""
    if use.facts.elem_type(use.node.input[0]) != 8 or use.attribute("to") == 8:
        return None
    return (
        one_of([b"3.25", b"-1.5", b"0.75", b"12"])
        if use.attribute("to") in (1, 10, 11, 16)
        else one_of(["3"])
    )


RULES: dict[tuple[str, int], Rule] = {
    ("Gather", 1): gather,
    ("GatherElements", 1): gather,
    ("ScatterElements", 1): scatter,
    ("Scatter", 1): scatter,
    ("GatherND", 1): gather_nd,
    ("ScatterND", 1): gather_nd,
    ("OneHot", 0): one_hot_indices,
    ("OneHot", 1): lambda use: _depth(use),
    ("CumSum", 1): axis_number,
    ("CumProd", 1): axis_number,
    ("ReverseSequence", 1): lengths,
    ("LSTM", 4): lengths,
    ("GRU", 4): lengths,
    ("RNN", 4): lengths,
    ("NegativeLogLikelihoodLoss", 1): classes,
    ("SoftmaxCrossEntropyLoss", 1): classes,
    ("Equal", 0): equal,
    ("Equal", 1): equal,
    ("RoiAlign", 1): rois,
    ("RoiAlign", 2): batch_index,
    ("MaxUnpool", 1): unpool,
    ("TfIdfVectorizer", 0): pool_ids,
    ("RotaryEmbedding", 3): positions,
    ("DequantizeLinear", 2): zero_point,
    ("TensorScatter", 2): write_index,
    ("Attention", 6): valid_lengths,
    ("Cast", 0): cast,
    **SIZES,
}

_MICROSOFT: dict[tuple[str, int], Rule] = {
    ("RotaryEmbedding", 1): positions,
    ("EmbedLayerNormalization", 0): lambda use: _rows(use, 2),
    ("EmbedLayerNormalization", 1): lambda use: _rows(use, 4),
    ("EmbedLayerNormalization", 7): lambda use: between(0, 1),
}


def _rows(use: Use, position: int) -> Domain:
    shape = use.shape(position)
    return between(0, shape[0] - 1) if shape else between(0, 1)


def _depth(use: Use) -> Domain | None:
    out, axis = use.out_shape(), int(use.attribute("axis", -1))
    return exactly(out[axis] if out and -len(out) <= axis < len(out) else 5)


def domain(uses: Iterable[Use]) -> Domain:
    """What fits every use; a use without a rule asks for nothing."""
    result = Domain()
    for use in uses:
        asked = _asked(use)
        if asked is not None:
            result = result.meet(asked)
    return result


def _asked(use: Use) -> Domain | None:
    key = (use.node.op_type, use.index)
    if use.node.domain == "com.microsoft" and key in _MICROSOFT:
        return _MICROSOFT[key](use)
    if use.node.domain not in ("", "ai.onnx", "ai.onnx.ml"):
        return None
    return RULES[key](use) if key in RULES else _BOUNDS.get(key)
