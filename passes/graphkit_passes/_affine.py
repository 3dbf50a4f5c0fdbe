"""Arithmetic with constants: one node that scales or shifts a tensor, and chains of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphkit import Graph, NotApplicable
from graphkit.model.graph import Node, Shape, Tensor
from graphkit.model.operators import attribute, domain_of
from graphkit_passes._fusing import Array, Fusing
from graphkit_passes._shared import FLOATS

STEPS = ("Mul", "Div", "Add", "Sub", "Neg")
NORM = "BatchNormalization"


@dataclass(frozen=True)
class Step:
    """One node that computes ``scale * x + shift`` of a float tensor ``x``; nothing is read yet.

    ``constant`` is the operand beside ``x``, of ``shape``; None for Neg. ``scales`` and ``shifts`` say what
    the node does; ``c - x`` does both, and so does a norm, whose ``shape`` is that of its statistics.
    """

    node: Node
    x: Tensor
    constant: Tensor | None
    shape: tuple[int, ...]
    scales: bool
    shifts: bool

    @property
    def out(self) -> Tensor:
        """What the node makes."""
        return self.node.outputs[0]

    def parts(self, fusing: Fusing, graph: Graph) -> tuple[Array, Array]:
        """Scale and shift in float64, each of the constant's shape or a scalar."""
        one, zero = np.ones(()), np.zeros(())
        if self.constant is None:
            return -one, zero
        c = fusing.values(graph, self.constant, "constant").astype(np.float64)
        match self.node.op:
            case "BatchNormalization":
                return norm_parts(fusing, graph, self.node)
            case "Mul":
                return c, zero
            case "Div":
                with np.errstate(divide="ignore"):
                    return 1 / c, zero
            case "Add":
                return one, c
            case _:
                return (-one, c) if self.node.inputs[0] is self.constant else (one, -c)


def step(graph: Graph, node: Node | None) -> Step | None:
    """``node`` as a step; None when it is none, or computes with integers."""
    if node is None or node.op not in (*STEPS, NORM) or domain_of(node):
        return None
    if node.op == NORM:
        shape = graph.shape(node.inputs[1]) if infers(graph, node) else None
        return None if shape is None else Step(node, node.inputs[0], node.inputs[1], _ints(shape), True, True)
    if node.op == "Neg":
        return None if len(node.inputs) != 1 else Step(node, node.inputs[0], None, (), True, False)
    if len(node.inputs) != 2:
        return None
    constants = [graph.is_constant(t) for t in node.inputs]
    if constants[0] == constants[1] or (node.op == "Div" and constants[0]) or graph.opset < 7:
        return None  # before opset 7 the operands are aligned by an attribute
    constant, x = node.inputs if constants[0] else node.inputs[::-1]
    dtype, shape = graph.dtype(constant), graph.shape(constant)
    if dtype is None or dtype.name not in FLOATS or shape is None or 0 in shape:
        return None
    scales = node.op in ("Mul", "Div") or (node.op == "Sub" and constants[0])
    return Step(node, x, constant, _ints(shape), scales, node.op in ("Add", "Sub"))


def _ints(shape: Shape) -> tuple[int, ...]:
    return tuple(int(d) for d in shape if d is not None)


def infers(graph: Graph, node: Node) -> bool:
    """Whether a BatchNormalization only scales and shifts by channel, with constants, and makes no more."""
    trains = graph.opset >= 14 and attribute(graph, node, "training_mode") != 0
    by_place = graph.opset < 9 and attribute(graph, node, "spatial") not in (None, 1)
    shapes = {graph.shape(t) if graph.is_constant(t) else None for t in node.inputs[1:]}
    whole = len(node.inputs) == 5 and not any(t.name for t in node.outputs[1:])
    plain = isinstance(attribute(graph, node, "epsilon"), float) and graph.opset >= 7
    return whole and plain and not trains and not by_place and None not in shapes and len(shapes) == 1


def norm_parts(fusing: Fusing, graph: Graph, node: Node) -> tuple[Array, Array]:
    """Scale and shift of a norm; NotApplicable where its variance is not positive."""
    roles = ("scale", "shift", "mean", "variance")
    read = (fusing.values(graph, t, r) for t, r in zip(node.inputs[1:], roles, strict=True))
    scale, shift, mean, variance = (v.astype(np.float64) for v in read)
    variance = variance + float(attribute(graph, node, "epsilon"))
    if not (variance > 0).all():
        raise NotApplicable("a variance is not positive")
    gain = scale / np.sqrt(variance)
    return gain, shift - mean * gain


def after(fusing: Fusing, graph: Graph, tensor: Tensor, *more: str) -> list[Step]:
    """The chain of steps behind ``tensor``, each the only reader of what the one before makes.

    ``more`` are further operators that may be steps of it.
    """
    chain: list[Step] = []
    while (found := step(graph, fusing.reader(graph, tensor, *STEPS, *more))) is not None:
        chain.append(found)
        tensor = found.out
    return chain


def before(fusing: Fusing, graph: Graph, tensor: Tensor) -> list[Step]:
    """The chain of steps that ends in ``tensor``, which has one reader; the step next to it comes first."""
    chain: list[Step] = []
    while fusing.is_private(graph, tensor):
        found = step(graph, fusing.maker(graph, tensor, *STEPS))
        if found is None:
            break
        chain.append(found)
        tensor = found.x
    return chain


def composed(fusing: Fusing, graph: Graph, chain: Sequence[Step]) -> tuple[Array, Array]:
    """Scale and shift of a chain, in the order of the computation."""
    scale, shift = np.ones(()), np.zeros(())
    for one in chain:
        factor, summand = one.parts(fusing, graph)
        with np.errstate(over="ignore", invalid="ignore"):
            scale, shift = scale * factor, shift * factor + summand
    return scale, shift


def fits(shape: Sequence[int], rank: int, axis: int, channels: int | None) -> bool:
    """Whether a constant of ``shape`` beside a tensor of ``rank`` has one value a channel, or one at all.

    ``axis`` is that of the channels; ``channels`` None stands for a number that is not known.
    """
    if len(shape) > rank or rank <= axis:
        return False
    dims = (1,) * (rank - len(shape)) + tuple(shape)
    return all(d == 1 for i, d in enumerate(dims) if i != axis) and dims[axis] in (1, channels)


def activation(graph: Graph, chain_start: Tensor) -> str:
    """What larger function the first step of a chain is the end of; empty when it is none.

    Engine builders know GELU and normalizations by their nodes: to take one out would hide them.
    """
    maker = graph.producer(chain_start)
    if maker is None or domain_of(maker) or maker.op not in ("Mul", "Div"):
        return ""
    for operand in maker.inputs:
        first = graph.producer(operand)
        if first is None:
            continue
        if _is_root(graph, first):
            return "a normalization"
        if first.op == "Add" and any(_makes(graph, t, "Erf", "Tanh") for t in first.inputs):
            return "a GELU"
    return ""


def _is_root(graph: Graph, node: Node) -> bool:
    """A square root, or the inverse of one."""
    if node.op in ("Reciprocal", "Div"):
        return any(_makes(graph, t, "Sqrt") for t in node.inputs)
    return node.op == "Sqrt" and not domain_of(node)


def _makes(graph: Graph, tensor: Tensor, *ops: str) -> bool:
    maker = graph.producer(tensor)
    return maker is not None and maker.op in ops and not domain_of(maker)
