"""The engine of ``fuse-focus``: slices that stack what is at each offset, and one kernel for all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from graphkit import Graph, NotApplicable, Tally
from graphkit.model.graph import Node, Tensor
from graphkit.model.operators import attribute, domain_of
from graphkit_passes._placing import Placing

_END = (1 << 31) - 1  # an end from here on is that of the axis

Axes = dict[int, tuple[int, int]]  # axis: offset and step


@dataclass(frozen=True)
class Focus:
    """What a Concat stacks: ``x`` at each of the offsets, every ``steps`` rows and columns."""

    x: Tensor
    steps: tuple[int, ...]
    offsets: tuple[tuple[int, ...], ...]


def fuse(main: Graph, tally: Tally) -> None:
    """Fuse every Focus of a model."""
    found = [(s, n) for s in main.scopes() for n in s.nodes if n.op == "Conv" and not domain_of(n)]
    placing: Placing | None = None
    for graph, node in found:
        concat = graph.producer(node.inputs[0]) if node.inputs else None
        if concat is None or concat.op != "Concat" or domain_of(concat):
            continue
        focus = _focus(graph, concat)
        if focus is None:
            continue
        placing = placing or Placing(main)
        try:
            _rewrite(graph, node, focus, placing)
        except NotApplicable as error:
            tally.refuse(graph, node, str(error))
        else:
            tally.rewrite()
    if placing is not None:
        placing.sweep()


# -- finding


def _focus(graph: Graph, concat: Node) -> Focus | None:
    """What a Concat stacks when all its inputs are strided slices of one tensor."""
    if attribute(graph, concat, "axis") != 1 or len(concat.inputs) < 2:
        return None
    found = [_sliced(graph, t) for t in concat.inputs]
    first = found[0]
    if first is None or any(f is None or f[0] is not first[0] for f in found):
        return None
    parts = [axes for f in found if f is not None for axes in [f[1]]]
    spatial = sorted({a for axes in parts for a, (_, step) in axes.items() if step > 1})
    if (
        not spatial
        or spatial[0] < 2
        or any(a not in spatial and axes[a] != (0, 1) for axes in parts for a in axes)
    ):
        return None
    rank = max(spatial) + 1
    steps = {a: {axes.get(a, (0, 1))[1] for axes in parts} for a in range(2, rank)}
    if any(len(s) != 1 for s in steps.values()):
        return None
    offsets = tuple(tuple(axes.get(a, (0, 1))[0] for a in range(2, rank)) for axes in parts)
    return Focus(first[0], tuple(s for a in steps for s in steps[a]), offsets)


def _sliced(graph: Graph, tensor: Tensor) -> tuple[Tensor, Axes] | None:
    """The tensor that a chain of slices reads, and what they take of each axis; None for another chain."""
    axes: Axes = {}
    node = graph.producer(tensor)
    while node is not None and node.op == "Slice" and not domain_of(node):
        found = _slice(graph, node)
        if found is None or any(a in axes and axes[a] != (0, 1) for a in found):
            break
        axes.update(found)
        tensor = node.inputs[0]
        node = graph.producer(tensor)
    return (tensor, axes) if axes else None


def _slice(graph: Graph, node: Node) -> Axes | None:
    """Offset and step by axis; None for slices that end early, go backward or are not known."""
    if graph.opset < 10:
        return None  # there were no steps
    starts, ends, axes, steps = (_numbers(graph, node, place) for place in (1, 2, 3, 4))
    if starts is None or ends is None:
        return None
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    entries = list(zip(starts, ends, axes, steps, strict=True))
    if any(start < 0 or end < _END or axis < 0 or step <= 0 for start, end, axis, step in entries):
        return None
    return {axis: (start, step) for start, _, axis, step in entries}


def _numbers(graph: Graph, node: Node, place: int) -> list[int] | None:
    if place >= len(node.inputs) or not node.inputs[place].name:
        return None
    values = graph.value(node.inputs[place])
    return None if values is None else [int(v) for v in values.reshape(-1)]


# -- rewriting


def _rewrite(graph: Graph, node: Node, focus: Focus, placing: Placing) -> None:
    stacked, weights = node.inputs[0], _weights(graph, node, focus)
    if any(r is not node for r in stacked.outputs) or placing.is_end(stacked):
        raise NotApplicable(f"'{stacked.name}' inside the Focus is read elsewhere too")
    steps = [*focus.steps, *[1] * (weights.ndim - 2 - len(focus.steps))]
    given = {name: attribute(graph, node, name) for name in ("strides", "pads")}
    strides = given["strides"] or [1] * len(steps)
    pads = given["pads"] or [0] * (2 * len(steps))
    made = graph.constant(_spread(weights, focus, steps), node.inputs[1].name, of=[node.inputs[1]])
    placing.lose(node.inputs[1])
    graph.rewire(node, stacked, focus.x)
    graph.rewire(node, node.inputs[1], made)
    placing.lose(stacked)
    node.attrs["kernel_shape"] = list(made.shape[2:])
    node.attrs["strides"] = [a * b for a, b in zip(strides, steps, strict=True)]
    node.attrs["pads"] = [a * b for a, b in zip(pads, steps * 2, strict=True)]
    node.attrs.pop("auto_pad", None)


def _weights(graph: Graph, node: Node, focus: Focus) -> npt.NDArray[Any]:
    """The weights of the convolution; NotApplicable when it cannot read the tensor itself."""
    if len(focus.offsets) != math.prod(focus.steps) or len(set(focus.offsets)) != len(focus.offsets):
        raise NotApplicable("its slices do not take each offset once")
    if any(o >= s for offset in focus.offsets for o, s in zip(offset, focus.steps, strict=True)):
        raise NotApplicable("its slices do not take each offset once")
    if attribute(graph, node, "group") != 1:
        raise NotApplicable("its convolution has groups")
    dilations = attribute(graph, node, "dilations")
    if dilations is not None and (not isinstance(dilations, list) or any(d != 1 for d in dilations)):
        raise NotApplicable("its convolution has dilations")
    if attribute(graph, node, "auto_pad") not in (None, "NOTSET", "VALID"):
        raise NotApplicable("its convolution pads by auto_pad")
    values = graph.value(node.inputs[1]) if graph.is_constant(node.inputs[1]) else None
    if values is None:
        raise NotApplicable(f"its weight '{node.inputs[1].name}' is not constant")
    if values.ndim - 2 < len(focus.steps) or values.shape[1] % len(focus.offsets):
        raise NotApplicable("its weights do not have the channels that the slices stack")
    return values


def _spread(weights: npt.NDArray[Any], focus: Focus, steps: list[int]) -> npt.NDArray[Any]:
    """The same weights [out, offsets * in, …] at the rows and columns that each offset stands for."""
    out, stacked, *kernel = weights.shape
    channels = stacked // len(focus.offsets)
    spread = np.zeros((out, channels, *(k * s for k, s in zip(kernel, steps, strict=True))), weights.dtype)
    for index, offset in enumerate(focus.offsets):
        full = [*offset, *[0] * (len(steps) - len(offset))]
        places = tuple(slice(o, None, s) for o, s in zip(full, steps, strict=True))
        spread[(slice(None), slice(None), *places)] = weights[:, index * channels : (index + 1) * channels]
    return spread
