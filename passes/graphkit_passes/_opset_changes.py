"""Operators of which more has changed than the types they take and attributes that can be left out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from graphkit import NotApplicable
from graphkit.model.surgeon import Constant
from graphkit_passes._opset_form import Form


def _axes_input(version: int) -> Callable[[Form], None]:
    def adapt(form: Form) -> None:
        if not form.crosses(version):
            return
        axes = form.to_attribute(1, "axes")
        if not axes and form.low.attr("noop_with_empty_axes", 0):
            raise NotApplicable("without axes it does nothing, as its noop_with_empty_axes says")
        form.drop("noop_with_empty_axes", True, "")
        if axes == []:
            del form.attrs["axes"]

    return adapt


def _reduce(form: Form) -> None:
    _axes_input(13 if form.low.node.op == "ReduceSum" else 18)(form)


def _softmax(form: Form) -> None:
    """Before opset 13 the axes from ``axis`` on are one."""
    if form.crosses(13):
        axis, rank = int(form.low.attr("axis")), form.low.rank(form.low.x)
        if axis % rank != rank - 1:
            raise NotApplicable(
                f"its axis {axis} is not the last, and before opset 13 all behind it count too"
            )
        form.attrs["axis"] = rank - 1


def _split(form: Form) -> None:
    if form.crosses(18):
        parts = form.attrs.pop("num_outputs", None)
        if parts is not None:
            _equal_parts(form, int(form.low.attr("num_outputs")))
    if form.crosses(13) and form.input(1) is not None:
        form.to_attribute(1, "split")


def _equal_parts(form: Form, parts: int) -> None:
    """Parts of equal size need no sizes; else the last is smaller."""
    axis = int(form.low.attr("axis"))
    length = form.low.dim(form.low.x, axis)
    if length is None:
        raise NotApplicable(
            f"dim {axis} of '{form.low.x.name}' is not fixed, so neither are its {parts} parts"
        )
    if length % parts:
        size = -(-length // parts)
        form.inputs[1:] = [form.low.ints(*[size] * (parts - 1), length - size * (parts - 1))]


def _reshape(form: Form) -> None:
    if form.crosses(14) and form.low.attr("allowzero"):
        if (form.low.value(form.low.given(1), "shape") == 0).any():
            raise NotApplicable("a 0 in its shape is a dim of 0")
        form.attrs.pop("allowzero")


def _pad(form: Form) -> None:
    low = form.low
    if form.crosses(19) and low.attr("mode") in ("wrap", b"wrap"):
        raise NotApplicable("it wraps around, which Pad does from opset 19 on")
    axes = form.input(3)
    if not form.crosses(18) or axes is None:
        return
    rank, places = low.rank(low.x), [int(a) for a in low.value(axes, "axes").reshape(-1)]
    pads = [int(p) for p in low.value(low.given(1), "pads").reshape(-1)]
    whole = [0] * (2 * rank)
    for n, axis in enumerate(places):
        whole[axis % rank], whole[axis % rank + rank] = pads[n], pads[n + len(places)]
    form.inputs[1] = low.ints(*whole)
    del form.inputs[3:]


_COORDINATES = {
    11: {"half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize"},
    19: {"half_pixel_symmetric"},
}


def _resize(form: Form) -> None:
    low = form.low
    mode = low.attr("coordinate_transformation_mode")
    if (mode.decode() if isinstance(mode, bytes) else mode) not in _COORDINATES[11]:
        raise NotApplicable(f"its coordinate_transformation_mode is {mode}")
    axes = form.attrs.get("axes")
    if form.crosses(18) and axes is not None:
        rank = low.rank(low.x)
        if [a % rank for a in low.attr("axes")] != list(range(rank)):
            _spread(form, [a % rank for a in low.attr("axes")], rank)
        del form.attrs["axes"]
    if form.crosses(13):
        nothing = low.const(np.zeros(0, np.float32), name="none")
        form.inputs += [None] * (3 - len(form.inputs))
        form.inputs[1:3] = [nothing if t is None else t for t in form.inputs[1:3]]


def _spread(form: Form, axes: list[int], rank: int) -> None:
    """Scales or sizes for all axes, from those of some."""
    low = form.low
    if low.input(1) is not None:
        raise NotApplicable("its roi is of some axes only")
    scales, sizes = low.input(2), low.input(3)
    if scales is not None and low.graph.shape(scales) != (0,):
        whole = np.ones(rank, np.float32)
        whole[axes] = low.value(scales, "scales")
        form.inputs[2] = low.const(whole, name="scales")
        return
    dims = [low.dim(low.x, n) for n in range(rank)]
    if sizes is None or any(d is None for n, d in enumerate(dims) if n not in axes):
        raise NotApplicable(
            f"its sizes are of some axes only, and the other dims of '{low.x.name}' not fixed"
        )
    full = np.array([d or 0 for d in dims], np.int64)
    full[axes] = low.value(sizes, "sizes")
    form.inputs[3] = low.ints(*full.tolist())


def _pool(form: Form) -> None:
    """From opset 19 and 22 on, a window that begins in the padding is left out when ceil_mode is set."""
    if form.low.attr("ceil_mode", 0):
        raise NotApplicable("its ceil_mode counts windows in another way")
    dilations = form.low.attr("dilations", [])
    form.drop("dilations", all(d == 1 for d in dilations), f"its dilations are {list(dilations)}")


def _grid_sample(form: Form) -> None:
    if not form.crosses(20):
        return
    if form.low.rank(form.low.x) != 4:
        raise NotApplicable("GridSample before opset 20 takes images of two dims alone")
    mode = form.low.attr("mode")
    names = {"linear": "bilinear", "cubic": "bicubic", "nearest": "nearest"}
    form.attrs["mode"] = names[mode.decode() if isinstance(mode, bytes) else mode]


def _mod(form: Form) -> None:
    floats = form.low.dtype(form.low.x).name.startswith(("float", "bfloat"))
    if form.crosses(28) and floats != bool(form.low.attr("fmod")):
        raise NotApplicable("before opset 28, fmod is 1 for floats and 0 for integers")


def _scatter(form: Form) -> None:
    reduction = form.low.attr("reduction", "none")
    if form.crosses(18) and reduction in ("max", "min", b"max", b"min"):
        raise NotApplicable(f"its reduction is {reduction}, of opset 18")


def _shape(form: Form) -> None:
    if form.crosses(15) and "end" in form.attrs:
        raise NotApplicable("Shape before opset 15 gives all dims")


def _roi_align(form: Form) -> None:
    if form.crosses(16):
        raise NotApplicable("RoiAlign before opset 16 places its samples in another way")


def _quantize(form: Form) -> None:
    """An axis means nothing for one scale; an output_dtype nothing when it is that of the zero point."""
    low = form.low
    scale, zero = low.given(1), low.input(2)
    shape = low.shape(scale)
    form.drop("axis", shape is not None and all(d == 1 for d in shape), "its scales are along an axis")
    kind = low.attr("output_dtype", 0)
    if kind:
        own = zero if low.node.op == "QuantizeLinear" else scale
        same = own is not None and onnx.helper.tensor_dtype_to_np_dtype(kind) == low.dtype(own)
        form.drop("output_dtype", same, "its output_dtype is another one")


def _dropout(form: Form) -> None:
    if form.crosses(12):
        raise NotApplicable("Dropout before opset 12 has an attribute for its ratio")


def _constant(form: Form) -> None:
    """A tensor stands for the plain numbers of opset 12."""
    values = form.low.graph.value(form.low.node.outputs[0])
    if form.crosses(12) and "value" not in form.attrs and values is not None:
        form.attrs = {"value": Constant("", values)}


def _clip(form: Form) -> None:
    if not form.crosses(13):
        return
    least, most = form.input(1), form.input(2)
    if least is None or most is None:
        return
    pair = [form.low.value(t, "bound") for t in (least, most)]
    if (pair[0] > pair[1]).any():
        raise NotApplicable("its min is more than its max")


def _never(form: Form) -> None:
    raise NotApplicable(f"{form.low.node.op} of opset {form.then.since_version} is another operator")


SPECIAL: dict[str, Callable[[Form], None]] = {
    "AveragePool": _pool,
    "BitShift": _never,
    "Clip": _clip,
    "Constant": _constant,
    "DFT": _never,
    "DequantizeLinear": _quantize,
    "Dropout": _dropout,
    "GridSample": _grid_sample,
    "GroupNormalization": _never,
    "Hardmax": _softmax,
    "LogSoftmax": _softmax,
    "LpPool": _pool,
    "MaxPool": _pool,
    "Mod": _mod,
    "OptionalGetElement": _never,
    "OptionalHasElement": _never,
    "Pad": _pad,
    "QuantizeLinear": _quantize,
    "ReduceL1": _reduce,
    "ReduceL2": _reduce,
    "ReduceLogSum": _reduce,
    "ReduceLogSumExp": _reduce,
    "ReduceMax": _reduce,
    "ReduceMean": _reduce,
    "ReduceMin": _reduce,
    "ReduceProd": _reduce,
    "ReduceSum": _reduce,
    "ReduceSumSquare": _reduce,
    "Reshape": _reshape,
    "Resize": _resize,
    "RoiAlign": _roi_align,
    "Scan": _never,
    "ScatterElements": _scatter,
    "ScatterND": _scatter,
    "Shape": _shape,
    "Softmax": _softmax,
    "Split": _split,
    "Squeeze": _axes_input(13),
    "Unsqueeze": _axes_input(13),
}
