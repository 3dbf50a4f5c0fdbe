"""Rules for inputs that say a shape, axes, pads, repeats or limits: read off the shapes around the node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphkit.run.domain import Domain, exactly, one_of
from graphkit.run.uses import Use, as_ints

Rule = Callable[[Use], Domain | None]
WINDOW = 10


def _sized(make: Callable[[int], Any]) -> Domain:
    """Values that depend only on how many are wanted."""

    def draw(_: np.random.Generator, shape: tuple[int, ...]) -> Any:
        count = int(np.prod(shape, dtype=int))
        return np.resize(np.asarray(make(count)), shape)

    return Domain(make=draw)


def reshape(use: Use) -> Domain | None:
    """The declared output shape, else everything in one dim."""
    out = use.out_shape()
    return exactly(out) if out is not None else _sized(lambda n: [-1] + [1] * (n - 1))


def expand(use: Use) -> Domain | None:
    """The declared output shape, else the input's own."""
    shape = use.out_shape() or use.shape(0) or ()
    return _sized(lambda n: ((1,) * n + shape)[-n:] if n else [])


def new_shape(use: Use) -> Domain | None:
    """A shape out of nothing: the declared output's, else small."""
    out = use.out_shape()
    return exactly(out) if out is not None else _sized(lambda n: [2, 3, 4, 2, 2, 2][:n])


def tile(use: Use) -> Domain | None:
    """How often each dim is repeated."""
    shape, out = use.shape(0), use.out_shape()
    if shape is not None and out is not None:
        return exactly([o // n if n else 1 for n, o in zip(shape, out, strict=True)])
    return _sized(lambda n: [1] * (n - 1) + [2])


def scales(use: Use) -> Domain | None:
    """Resize and Upsample: output over input, else as it is."""
    shape, out, axes = use.shape(0), use.out_shape(), use.attribute("axes")
    if shape is None or out is None:
        return exactly(1.0)
    # + a hundredth of an element: floor(n * o / n) must not fall to o - 1
    ratio = [(o + 0.01) / n if o % n else o / n for n, o in zip(shape, out, strict=True)]
    return exactly([ratio[a] for a in axes] if axes else ratio)


def resize_second(use: Use) -> Domain | None:
    """Opset 10's scales, later opsets' region of interest."""
    if use.facts.version < 11:
        return scales(use)
    return _sized(lambda n: [0.1] * (n // 2) + [0.9] * (n - n // 2))


def resize_sizes(use: Use) -> Domain | None:
    """The output's dims along ``axes``."""
    out, axes = use.out_shape() or use.shape(0), use.attribute("axes")
    return exactly([out[a] for a in axes] if axes else out) if out else None


def _open_axes(use: Use, position: int) -> list[int]:
    """The axes that a Slice, Pad or CenterCropPad works on."""
    shape = use.shape(0) or ()
    given = as_ints(use.value(position)) or use.attribute("axes")
    if given:
        return [a % max(len(shape), 1) for a in given]
    listed = use.shape(position)
    if listed:  # axes are an input themselves: those where the shape changes, then the rest
        return _changed(use)[: listed[0]]
    return list(range(len(shape)))


def _changed(use: Use) -> list[int]:
    shape, out = use.shape(0) or (), use.out_shape()
    if out is None or len(out) != len(shape):
        return list(range(len(shape)))
    return sorted(range(len(shape)), key=lambda a: shape[a] == out[a])


def slice_starts(use: Use) -> Domain | None:
    """Every slice starts at the first element."""
    return exactly(0)


def slice_ends(use: Use) -> Domain | None:
    """As many elements as the output declares, else all."""
    shape, out, axes = use.shape(0), use.out_shape(), _open_axes(use, 3)
    if shape is None:
        return exactly(1)
    limits = [shape[a] for a in axes] if out is None else [out[a] for a in axes]
    return _sized(lambda n: limits[:n] or [1])


def slice_axes(use: Use) -> Domain | None:
    """Those axes along which the shape changes."""
    return _sized(lambda n: _changed(use)[:n])


def pads(use: Use) -> Domain | None:
    """Half before and half after, by the declared output shape."""
    shape, out, axes = use.shape(0), use.out_shape(), _open_axes(use, 3)
    if shape is None or out is None:
        return exactly(1)
    extra = [out[a] - shape[a] for a in axes]
    return exactly([e // 2 for e in extra] + [e - e // 2 for e in extra])


def squeezed(use: Use) -> Domain | None:
    """Axes of size one that the output lacks."""
    shape = use.shape(0)
    ones = [a for a, n in enumerate(shape) if n == 1] if shape else [0]
    return _sized(lambda n: ones[:n] or [0])


def unsqueezed(use: Use) -> Domain | None:
    """Axes of size one that the output has more, in the order that fits the input's dims."""
    shape, out = use.shape(0) or (), use.out_shape()
    if out is None:
        return _sized(lambda n: list(range(n)))
    axes: list[int] = []
    place = 0
    for axis, size in enumerate(out):
        if (
            place < len(shape)
            and size == shape[place]
            and len(out) - axis <= len(shape) - place + (len(out) - len(shape) - len(axes))
            and not (size == 1 and len(axes) < len(out) - len(shape))
        ):
            place += 1
        else:
            axes.append(axis)
    return exactly(axes)


def reduced(use: Use) -> Domain | None:
    """Axes that the output lost."""
    shape, out = use.shape(0) or (), use.out_shape()
    if out is None:
        return _sized(lambda n: list(range(n)))
    if len(out) == len(shape) and use.attribute("keepdims", 1):
        axes = [a for a in range(len(shape)) if out[a] != shape[a]]
    else:
        axes = _lost(shape, out)
    return _sized(lambda n: (axes + [a for a in range(len(shape)) if a not in axes])[:n])


def _lost(shape: tuple[int, ...], out: tuple[int, ...]) -> list[int]:
    axes: list[int] = []
    place = 0
    for axis, size in enumerate(shape):
        if place < len(out) and size == out[place] and len(shape) - axis > len(shape) - len(out) - len(axes):
            place += 1
        else:
            axes.append(axis)
    return axes


def top_k(use: Use) -> Domain | None:
    """As many as the output declares, else one."""
    out, axis = use.out_shape(), int(use.attribute("axis", -1))
    return exactly(out[axis] if out and -len(out) <= axis < len(out) else 1)


def limit(use: Use) -> Domain | None:
    """Range: start 0, a few elements, step 1."""
    out = use.out_shape()
    return exactly((0, out[0] if out else 5, 1)[use.index])


def split(use: Use) -> Domain | None:
    """Sizes of the pieces: as declared, else as even as can be."""
    shape, axis = use.shape(0), int(use.attribute("axis", 0))
    pieces = [use.out_shape(n) for n in range(len(use.node.output))]
    if use.node.op_type == "Split" and all(pieces):
        return exactly([p[axis] for p in pieces if p])
    total = shape[axis] if shape else 2

    def sizes(n: int) -> list[int]:
        return [total // n] * (n - 1) + [total - total // n * (n - 1)] if n else []

    count = use.shape(1)
    return exactly(2) if count == () else _sized(sizes)


def spatial(use: Use) -> Domain | None:
    """Col2Im's image: any that gives as many blocks as the input has."""
    out = use.out_shape()
    return exactly(out[2:]) if out else None


def block(use: Use) -> Domain | None:
    """Col2Im's block: its volume is the input's channels over the output's."""
    shape, out = use.shape(0), use.out_shape()
    if not shape or not out:
        return None
    volume = shape[1] // out[1]

    def sizes(n: int) -> list[int]:
        side = round(volume ** (1 / n)) if n else 1
        return [side] * n if side**n == volume else [1] * (n - 1) + [volume]

    return _sized(sizes)


def cropped(use: Use) -> Domain | None:
    """CenterCropPad: the output's dims along the axes."""
    out, axes = use.out_shape() or use.shape(0), use.attribute("axes")
    return exactly([out[a] for a in axes] if axes else out) if out else None


def whole(use: Use) -> Domain | None:
    """AffineGrid, MaxUnpool: the output's shape itself; a grid (N, [D,] H, W, 2) leaves the channels open."""
    out = use.out_shape()
    if out is None:
        return _sized(lambda n: [2, 3, 5, 6, 4][:n])
    return exactly((out[0], 1, *out[1:-1]) if use.node.op_type == "AffineGrid" else out)


def window(use: Use) -> Domain | None:
    """Windows: as long as declared."""
    out = use.out_shape()
    return exactly(out[0] if out else WINDOW)


def dft_length(use: Use) -> Domain | None:
    """DFT: the output's length along its axis."""
    out, axis = use.out_shape(), int(use.attribute("axis", 1))
    return exactly(out[axis]) if out and axis < len(out) else None


def dft_axis(use: Use) -> Domain | None:
    """DFT: the axis whose size changes (one-sided), else any but batch and complex part."""
    shape, out = use.shape(0) or (), use.out_shape()
    if out and len(out) == len(shape):
        changed = [a for a in range(len(shape) - 1) if out[a] != shape[a]]
        if changed:
            return exactly(changed[0])
    return one_of([1]) if len(shape) > 2 else exactly(0)


def frame_step(use: Use) -> Domain | None:
    """STFT: a step that gives the declared number of frames."""
    shape, out, length = use.shape(0), use.out_shape(), _frame(use)
    if not shape or not out or out[1] < 2:
        return exactly(4)
    return exactly(max((shape[1] - length) // (out[1] - 1), 1))


def frame_length(use: Use) -> Domain | None:
    """STFT: by the window, else by the declared number of bins."""
    return exactly(_frame(use))


def _frame(use: Use) -> int:
    taps, out = use.shape(2), use.out_shape()
    if taps:
        return taps[0]
    if not out:
        return 8
    return 2 * (out[2] - 1) if use.attribute("onesided", 1) else out[2]


_REDUCTIONS = ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")
SIZES: dict[tuple[str, int], Rule] = {
    ("Reshape", 1): reshape,
    ("Expand", 1): expand,
    ("ConstantOfShape", 0): new_shape,
    ("Tile", 1): tile,
    ("Upsample", 1): scales,
    ("Resize", 1): resize_second,
    ("Resize", 2): scales,
    ("Resize", 3): resize_sizes,
    ("Slice", 1): slice_starts,
    ("Slice", 2): slice_ends,
    ("Slice", 3): slice_axes,
    ("Slice", 4): lambda use: exactly(1),
    ("Pad", 1): pads,
    ("Pad", 3): slice_axes,
    ("Squeeze", 1): squeezed,
    ("Unsqueeze", 1): unsqueezed,
    **{(f"Reduce{name}", 1): reduced for name in _REDUCTIONS},
    ("TopK", 1): top_k,
    **{("Range", n): limit for n in range(3)},
    ("Split", 1): split,
    ("SplitToSequence", 1): split,
    ("Col2Im", 1): spatial,
    ("Col2Im", 2): block,
    ("CenterCropPad", 1): cropped,
    ("AffineGrid", 1): whole,
    ("MaxUnpool", 2): whole,
    ("DFT", 1): dft_length,
    ("DFT", 2): dft_axis,
    ("STFT", 1): frame_step,
    ("STFT", 3): frame_length,
    **{(f"{name}Window", 0): window for name in ("Hann", "Hamming", "Blackman")},
}
