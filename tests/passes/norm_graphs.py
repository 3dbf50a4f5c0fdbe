"""Graphs with normalisations in the spellings of exporters, for the tests of the passes that fuse them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

SHAPE = (2, 3, 8)


@dataclass(frozen=True)
class Norm:
    """One normalisation, between two Relus; ``half``: the graph is float16, ``casts`` where it is not."""

    centred: bool = True
    opset: int = 18
    half: bool = False
    casts: str = "none"  # none, inside (the scale behind them), around (the scale in float32 too)
    square: str = "pow"
    root: str = "div"
    order: str = "after"  # where the scale is applied
    mean: str = "reduce"
    axes: tuple[int, ...] = (-1,)
    scale: bool = True
    bias: bool = True
    epsilon: float | None = 1e-3
    swap: bool = False
    again: bool = False
    """Whether the mean, and what is less the mean, are computed a second time."""
    seed: int = 0


def norms(*, centred: bool, opsets: tuple[int, ...]) -> st.SearchStrategy[Norm]:
    """Any of them."""
    return st.builds(
        Norm,
        centred=st.just(centred),
        opset=st.sampled_from(opsets),
        half=st.booleans(),
        casts=st.sampled_from(["none", "inside", "around"]),
        square=st.sampled_from(["pow", "mul", "sumsquare"]),
        root=st.sampled_from(["div", "reciprocal", "one", "power", "half"]),
        order=st.sampled_from(["after", "inverse", "numerator", "apart"]),
        mean=st.sampled_from(["reduce", "sum", "flat"]),
        axes=st.sampled_from([(-1,), (2,), (-2, -1), (1, 2), (2, -2)]),
        scale=st.booleans(),
        bias=st.booleans(),
        epsilon=st.sampled_from([None, 1e-3, 1e-5]),
        swap=st.booleans(),
        again=st.booleans(),
        seed=st.integers(0, 99),
    )


@dataclass
class Writer:
    """Collects nodes and constants."""

    norm: Norm
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)

    def __call__(self, op: str, *inputs: str, **attrs: Any) -> str:
        made = f"t{len(self.nodes)}"
        given = inputs[::-1] if self.norm.swap and op in ("Add", "Mul") else inputs
        self.nodes.append(helper.make_node(op, given, [made], f"n{len(self.nodes)}", **attrs))
        return made

    def const(self, value: Any, dtype: str) -> str:
        name = f"c{len(self.tensors)}"
        self.tensors[name] = np.asarray(value, dtype)
        return name

    def reduce(self, op: str, x: str, **attrs: Any) -> str:
        """A reduction, its axes where this opset has them."""
        as_input = self.norm.opset >= 18 or (op == "ReduceSum" and self.norm.opset >= 13)
        if as_input:
            return self(op, x, self.const(self.norm.axes, "int64"), **attrs)
        return self(op, x, axes=self.norm.axes, **attrs)

    def mean(self, x: str, dtype: str, op: str = "Mean") -> str:
        """The mean of x, or of its square, in one of the spellings."""
        norm = self.norm
        count = int(np.prod([SHAPE[a] for a in norm.axes]))
        kept = [1 if i in {a % 3 for a in norm.axes} else d for i, d in enumerate(SHAPE)]
        if norm.mean == "flat":
            flat = self.reduce("ReduceMean" if op == "Mean" else "ReduceSumSquare", x, keepdims=0)
            made = self("Reshape", flat, self.const(kept, "int64"))
            return made if op == "Mean" else self("Div", made, self.const(count, dtype))
        if norm.mean == "reduce" and op == "Mean":
            return self.reduce("ReduceMean", x)
        made = self.reduce("ReduceSum" if op == "Mean" else "ReduceSumSquare", x)
        return self("Div", made, self.const(count, dtype))


def build(norm: Norm) -> onnx.ModelProto:
    """The model."""
    w = Writer(norm)
    outer = "float16" if norm.half else "float32"
    inner = "float32" if norm.half and norm.casts != "none" else outer
    x = w("Relu", "x")
    wide = w("Cast", x, to=TensorProto.FLOAT) if inner != outer else x
    last = _normalised(w, wide, inner, outer)
    if inner != outer and norm.casts == "around":
        last = w("Cast", last, to=TensorProto.FLOAT16)
    w.nodes.append(helper.make_node("Relu", [last], ["y"], "last"))
    kind = TensorProto.FLOAT16 if norm.half else TensorProto.FLOAT
    x_info, y_info = (helper.make_tensor_value_info(n, kind, SHAPE) for n in "xy")
    tensors = [numpy_helper.from_array(v, n) for n, v in w.tensors.items()]
    graph = helper.make_graph(w.nodes, "g", [x_info], [y_info], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", norm.opset)], ir_version=8)


def _normalised(w: Writer, x: str, inner: str, outer: str) -> str:
    norm, rng = w.norm, np.random.default_rng(w.norm.seed)
    shape = [SHAPE[a] for a in sorted(a % 3 for a in norm.axes)]
    of, mean = x, ""
    if norm.centred:
        mean = w.mean(x, inner)
        of = w("Sub", x, mean)
    variance = _mean_square(w, of, inner)
    if norm.epsilon is not None:
        variance = w("Add", variance, w.const(norm.epsilon, inner))
    apart = norm.order == "apart" and norm.centred and norm.root != "div"
    if norm.centred and norm.again and not apart:
        of = w("Sub", x, w.mean(x, inner))
    scale, bias = rng.uniform(0.5, 1.5, shape), rng.standard_normal(shape)
    early = norm.scale and norm.order != "after" and (norm.casts != "inside" or inner == outer)
    factor = w.const(scale, inner) if early else None
    quotient = _apart if apart else _quotient
    last = quotient(w, (x if apart else of), mean, variance, factor, inner)
    now = inner
    if inner != outer and norm.casts == "inside":
        last, now = w("Cast", last, to=TensorProto.FLOAT16), outer
    if norm.scale and not early:
        last = w("Mul", last, w.const(scale, now))
    return w("Add", last, w.const(bias, now)) if norm.bias and norm.centred else last


def _mean_square(w: Writer, of: str, dtype: str) -> str:
    if w.norm.square == "sumsquare":
        return w.mean(of, dtype, "SumSquare")
    if w.norm.square == "pow":
        return w.mean(w("Pow", of, w.const(2, dtype)), dtype)
    return w.mean(w("Mul", of, of), dtype)


def _inverse(w: Writer, variance: str, dtype: str) -> str:
    if w.norm.root == "power":
        return w("Pow", variance, w.const(-0.5, dtype))
    root = w("Pow", variance, w.const(0.5, dtype)) if w.norm.root == "half" else w("Sqrt", variance)
    return w("Div", w.const(1, dtype), root) if w.norm.root == "one" else w("Reciprocal", root)


def _quotient(w: Writer, of: str, mean: str, variance: str, factor: str | None, dtype: str) -> str:
    if factor is not None and w.norm.order == "numerator":
        of, factor = w("Mul", factor, of), None
    if w.norm.root == "div":
        last = w("Div", of, w("Sqrt", variance))
        return w("Mul", last, factor) if factor is not None else last
    inverse = _inverse(w, variance, dtype)
    return w("Mul", of, w("Mul", inverse, factor) if factor is not None else inverse)


def _apart(w: Writer, x: str, mean: str, variance: str, factor: str | None, dtype: str) -> str:
    """``x * inverse - mean * inverse``, as TensorFlow has it."""
    inverse = _inverse(w, variance, dtype)
    inverse = w("Mul", inverse, factor) if factor is not None else inverse
    return w("Add", w("Mul", x, inverse), w("Neg", w("Mul", mean, inverse)))


def overflowing(model: onnx.ModelProto) -> dict[str, np.ndarray[Any, Any]]:
    """An input whose squares are beyond float16, though it is not."""
    rng = np.random.default_rng(3)
    dims = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    return {"x": (rng.uniform(0, 1, dims) * 2000).astype(np.float16)}
