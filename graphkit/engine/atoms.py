"""The model cut finer, so that what an engine keeps between two kernels is a tensor of the graph.

A kernel boundary need not lie on an edge of the ONNX graph: a convolution stops before its bias, a LayerNorm
after its mean. Here the nodes in which that was seen are written out as the smaller ones they mean, with the
same numbers; each piece remembers the node it comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

__all__ = ["Atoms", "atoms"]

Array = NDArray[Any]
Read = Callable[[str], "Array | None"]
"""The value of a small initializer or Constant by name; None when it is neither."""

_FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE}


@dataclass(frozen=True)
class Atoms:
    """``model`` is flat and finer; ``owners`` gives for each of its nodes, by name, the node it was."""

    model: onnx.ModelProto
    owners: Mapping[str, str]


def atoms(model: onnx.ModelProto, ranks: Mapping[str, int], read: Read) -> Atoms:
    """Write out biases, normalizations and clipping of the main graph as nodes of their own.

    ``ranks`` gives the rank of tensors (shape inference), ``read`` the values of constants. Nodes must have
    unique names. Every tensor of the original keeps its name and its value; new ones are called after it.
    """
    maker = _Maker(model, ranks, read)
    nodes = [piece for node in model.graph.node for piece in maker.pieces(node)]
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:]
    made.graph.node.extend(_bias_last(nodes, maker))
    made.graph.initializer.extend(maker.constants)
    return Atoms(made, maker.owners)


class _Maker:
    def __init__(self, model: onnx.ModelProto, ranks: Mapping[str, int], read: Read) -> None:
        self.ranks, self.read = ranks, read
        self.opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
        self.constants: list[onnx.TensorProto] = []
        self.values: dict[str, Array] = {}
        self.owners: dict[str, str] = {}
        self._names = {t for n in model.graph.node for t in (*n.input, *n.output)}
        self._names |= {i.name for i in model.graph.initializer}

    def pieces(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """The nodes that stand for ``node``: itself, when there is nothing to write out."""
        write = _RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        found = write(self, node) if write is not None else None
        if found is None:
            self.owners[node.name] = node.name
            yield node
            return
        for place, piece in enumerate(found):
            piece.name = f"{node.name}/{place}" if place < len(found) - 1 else node.name
            self.owners[piece.name] = node.name
            yield piece

    def fresh(self, hint: str) -> str:
        """A tensor name like ``hint`` that is not taken."""
        name, count = hint, 0
        while name in self._names:
            count += 1
            name = f"{hint}_{count}"
        self._names.add(name)
        return name

    def constant(self, hint: str, value: Array) -> str:
        """A new initializer."""
        name = self.fresh(hint)
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        self.values[name] = value
        return name

    def known(self, name: str) -> Array | None:
        """The value of a constant, of the model or made here."""
        return self.values[name] if name in self.values else self.read(name)

    def mean(self, source: str, out: str, axes: Sequence[int]) -> onnx.NodeProto:
        """A ReduceMean over ``axes`` in the spelling of the model's opset."""
        if self.opset >= 18:
            where = self.constant(out + ":axes", np.array(axes, np.int64))
            return helper.make_node("ReduceMean", [source, where], [out], keepdims=1)
        return helper.make_node("ReduceMean", [source], [out], axes=list(axes), keepdims=1)


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def _conv(maker: _Maker, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    if len(node.input) < 3 or not node.input[2]:
        return None
    bias, weight = maker.known(node.input[2]), maker.known(node.input[1])
    rank = weight.ndim if weight is not None else maker.ranks.get(node.input[1])
    if bias is None or rank is None or bias.dtype.kind != "f":
        return None
    raw = maker.fresh(node.output[0] + ":before_bias")
    bare = onnx.NodeProto()
    bare.CopyFrom(node)
    del bare.input[2:]
    bare.output[0] = raw
    shaped = maker.constant(node.input[2] + ":channels", bias.reshape(-1, *[1] * (rank - 2)))
    return [bare, helper.make_node("Add", [raw, shaped], [node.output[0]])]


def _gemm(maker: _Maker, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    if maker.opset < 7 or len(node.input) < 3 or not node.input[2]:
        return None
    bias = maker.known(node.input[2])
    if bias is None or bias.dtype.kind != "f":
        return None
    raw = maker.fresh(node.output[0] + ":before_bias")
    bare = onnx.NodeProto()
    bare.CopyFrom(node)
    del bare.input[2:]
    bare.output[0] = raw
    if maker.opset < 11:  # where it is not optional
        bare.input.append(maker.constant(node.output[0] + ":nothing", np.zeros((1,), bias.dtype)))
    scaled = (bias * np.asarray(_attribute(node, "beta", 1.0), bias.dtype)).astype(bias.dtype)
    return [
        bare,
        helper.make_node("Add", [raw, maker.constant(node.input[2] + ":beta", scaled)], [node.output[0]]),
    ]


def _batch_norm(maker: _Maker, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    given = [maker.known(name) for name in node.input[1:5]]
    rank = maker.ranks.get(node.input[0])
    if rank is None or rank < 2 or len([o for o in node.output if o]) != 1 or len(given) != 4:
        return None
    if any(g is None or g.dtype.kind != "f" for g in given):
        return None
    scale, bias, mean, var = (np.asarray(g, np.float64) for g in given)
    gain = scale / np.sqrt(var + _attribute(node, "epsilon", 1e-5))
    dtype, shape = given[0].dtype if given[0] is not None else np.float32, (-1, *[1] * (rank - 2))
    raw = maker.fresh(node.output[0] + ":before_bias")
    by = maker.constant(node.output[0] + ":scale", gain.astype(dtype).reshape(shape))
    plus = maker.constant(node.output[0] + ":bias", (bias - mean * gain).astype(dtype).reshape(shape))
    return [
        helper.make_node("Mul", [node.input[0], by], [raw]),
        helper.make_node("Add", [raw, plus], [node.output[0]]),
    ]


def _layer_norm(maker: _Maker, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    rank, scale = maker.ranks.get(node.input[0]), maker.known(node.input[1])
    if rank is None or scale is None or scale.dtype.kind != "f" or any(node.output[1:]):
        return None
    x, out = node.input[0], node.output[0]
    axes = list(range(_attribute(node, "axis", -1) % rank, rank))
    mean, centred, square, var, safe, deviation, unit = (
        maker.fresh(f"{out}:{part}")
        for part in ("mean", "centred", "square", "variance", "safe", "deviation", "unit")
    )
    epsilon = maker.constant(out + ":epsilon", np.asarray(_attribute(node, "epsilon", 1e-5), scale.dtype))
    bias = node.input[2] if len(node.input) > 2 else ""
    scaled = maker.fresh(out + ":before_bias") if bias else out
    found = [
        maker.mean(x, mean, axes),
        helper.make_node("Sub", [x, mean], [centred]),
        helper.make_node("Mul", [centred, centred], [square]),
        maker.mean(square, var, axes),
        helper.make_node("Add", [var, epsilon], [safe]),
        helper.make_node("Sqrt", [safe], [deviation]),
        helper.make_node("Div", [centred, deviation], [unit]),
        helper.make_node("Mul", [unit, node.input[1]], [scaled]),
    ]
    return [*found, helper.make_node("Add", [scaled, bias], [out])] if bias else found


def _clip(maker: _Maker, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    """Least of the upper bound, then greatest of the lower: the order in which engines were seen to clip."""
    if maker.opset < 8:  # Min and Max broadcast from there on
        return None
    if maker.opset < 11:
        low, high = _attribute(node, "min", None), _attribute(node, "max", None)
        bounds = [None if b is None else np.asarray(b, np.float32) for b in (low, high)]
    else:
        bounds = [maker.known(n) if n else None for n in (*node.input[1:3], "", "")[:2]]
    if any(b is None or b.size != 1 or b.dtype.kind != "f" for b in bounds):
        return None
    least, most = (np.asarray(b).reshape(()) for b in bounds)
    return _between(maker, node.input[0], node.output[0], least, most) if least <= most else None


def _hard_sigmoid(maker: _Maker, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    if maker.opset < 8:
        return None
    out = node.output[0]
    alpha = np.asarray(_attribute(node, "alpha", 0.2), np.float32)
    beta = np.asarray(_attribute(node, "beta", 0.5), np.float32)
    scaled, shifted = maker.fresh(out + ":scaled"), maker.fresh(out + ":shifted")
    return [
        helper.make_node("Mul", [node.input[0], maker.constant(out + ":alpha", alpha)], [scaled]),
        helper.make_node("Add", [scaled, maker.constant(out + ":beta", beta)], [shifted]),
        *_between(maker, shifted, out, np.float32(0), np.float32(1)),
    ]


def _between(maker: _Maker, source: str, out: str, least: Any, most: Any) -> list[onnx.NodeProto]:
    below = maker.fresh(out + ":below")
    return [
        helper.make_node("Min", [source, maker.constant(out + ":most", np.asarray(most))], [below]),
        helper.make_node("Max", [below, maker.constant(out + ":least", np.asarray(least))], [out]),
    ]


_RULES: Mapping[str, Callable[[_Maker, onnx.NodeProto], list[onnx.NodeProto] | None]] = {
    "Conv": _conv,
    "ConvTranspose": _conv,
    "Gemm": _gemm,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "HardSigmoid": _hard_sigmoid,
    "LayerNormalization": _layer_norm,
}


def _bias_last(nodes: Sequence[onnx.NodeProto], maker: _Maker) -> list[onnx.NodeProto]:
    """Let a constant factor come before the constant that was added ahead of it: (x + b)·s is x·s + b·s.

    A builder folds the factor into the weights of the convolution and leaves the bias for later.
    """
    added = {n.output[0]: n for n in nodes if n.op_type == "Add" and n.input[0].endswith(":before_bias")}
    found: list[onnx.NodeProto] = []
    for node in nodes:
        first = added.get(node.input[0]) if node.op_type == "Mul" and len(node.input) == 2 else None
        by = maker.known(node.input[1]) if first is not None else None
        bias = maker.known(first.input[1]) if first is not None else None
        if first is None or by is None or bias is None or not _one_a_channel(by, bias):
            found.append(node)
            continue
        raw = maker.fresh(node.output[0] + ":before_bias")
        plus = maker.constant(node.output[0] + ":bias", (bias * by).astype(bias.dtype))
        scale = helper.make_node("Mul", [first.input[0], node.input[1]], [raw], name=node.name + "/scale")
        shift = helper.make_node("Add", [raw, plus], [node.output[0]], name=node.name)
        maker.owners[scale.name] = maker.owners[node.name]
        added[node.output[0]] = shift
        found += [scale, shift]
    return found


def _one_a_channel(by: Array, bias: Array) -> bool:
    """Whether both are constants of one value for each channel, or one for all, of the same dtype."""
    return bool(
        by.dtype == bias.dtype and (by.size == 1 or by.size == bias.size and by.ndim <= bias.ndim + 1)
    )
