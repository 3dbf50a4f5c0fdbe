"""Models cut into atoms: every tensor keeps its name and its numbers, each piece knows its node."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, helper, numpy_helper, parser

from graphkit.engine.atoms import Atoms, atoms
from graphkit.run.stream import Program

FLOAT = onnx.TensorProto.FLOAT


def run(model: ModelProto, feed: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    Program(model).run(feed, found.__setitem__)
    return found


def cut(model: ModelProto, feed: dict[str, Any]) -> Atoms:
    """The atoms, after checking that they are a valid model that computes the same, tensor for tensor."""
    shapes = Program(model).shapes(feed)
    names = {n for node in model.graph.node for n in (*node.input, *node.output) if n}
    ranks = {n: len(s) for n in names if (s := shapes.shape(n)) is not None}
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    found = atoms(model, ranks, constants.get)
    onnx.checker.check_model(found.model, full_check=True)
    expected, got = run(model, feed), run(found.model, feed)
    assert set(expected) <= set(got)
    for name, value in expected.items():
        assert got[name].dtype == value.dtype and got[name].shape == value.shape, name
        scale = float(np.abs(value).max(initial=1e-30))
        assert np.allclose(got[name], value, rtol=1e-5, atol=2e-6 * scale), name
    nodes = [n.name for n in found.model.graph.node]
    assert len(set(nodes)) == len(nodes) and set(nodes) == set(found.owners)
    assert set(found.owners.values()) == {n.name for n in model.graph.node}
    return found


def model_of(
    nodes: list[onnx.NodeProto], x: tuple[int, ...], constants: dict[str, np.ndarray], opset: int = 17
) -> ModelProto:
    for place, node in enumerate(nodes):
        node.name = node.name or f"n{place}"
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, x)],
        [helper.make_tensor_value_info(nodes[-1].output[0], FLOAT, [None] * len(x))],
        [numpy_helper.from_array(v, n) for n, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def ops(found: Atoms) -> list[str]:
    return [n.op_type for n in found.model.graph.node]


SIZES = st.integers(1, 5)


@settings(max_examples=25)
@given(
    spatial=st.lists(st.integers(3, 6), min_size=1, max_size=3),
    group=st.integers(1, 3),
    out=SIZES,
    deconv=...,
)
def test_a_convolution_stops_before_its_bias(spatial: list[int], group: int, out: int, deconv: bool) -> None:
    x = normal(2, 2 * group, *spatial)
    weights = (2 * group, out) if deconv else (out * group, 2)
    constants = {"w": normal(*weights, *[2] * len(spatial)), "b": normal(out * group)}
    op = "ConvTranspose" if deconv else "Conv"
    found = cut(
        model_of([helper.make_node(op, ["x", "w", "b"], ["y"], group=group)], x.shape, constants), {"x": x}
    )
    assert ops(found) == [op, "Add"]
    assert found.model.graph.node[0].output[0] == "y:before_bias"
    assert set(found.owners.values()) == {"n0"}


@settings(max_examples=25)
@given(
    m=SIZES,
    k=SIZES,
    n=SIZES,
    transposed=st.tuples(st.booleans(), st.booleans()),
    factors=st.tuples(st.sampled_from([1.0, 0.5, -2.0]), st.sampled_from([1.0, 0.25])),
    bias=st.sampled_from(["full", "row", "column", "scalar"]),
    opset=st.sampled_from([9, 11, 17]),
)
def test_a_gemm_stops_before_its_bias(
    m: int, k: int, n: int, transposed: tuple[bool, bool], factors: tuple[float, float], bias: str, opset: int
) -> None:
    x = normal(*((k, m) if transposed[0] else (m, k)))
    shape = {"full": (m, n), "row": (n,), "column": (m, 1), "scalar": (1,)}[bias]
    constants = {"w": normal(*((n, k) if transposed[1] else (k, n)), seed=1), "b": normal(*shape, seed=2)}
    node = helper.make_node(
        "Gemm",
        ["x", "w", "b"],
        ["y"],
        transA=transposed[0],
        transB=transposed[1],
        alpha=factors[0],
        beta=factors[1],
    )
    assert ops(cut(model_of([node], x.shape, constants, opset), {"x": x})) == ["Gemm", "Add"]


@settings(max_examples=25)
@given(
    dims=st.lists(SIZES, min_size=2, max_size=4),
    axis=st.integers(-4, 3),
    bias=...,
    opset=st.sampled_from([17, 18, 20]),
)
def test_a_layer_normalization_is_its_formula(dims: list[int], axis: int, bias: bool, opset: int) -> None:
    axis = max(-len(dims), min(axis, len(dims) - 1))
    dims = [*dims[:-1], dims[-1] + 3]  # of one value alone nothing but rounding is left
    x, over = normal(*dims), dims[axis:] if axis < 0 else dims[axis % len(dims) :]
    constants = {"scale": normal(*over, seed=1), "bias": normal(*over, seed=2)}
    inputs = ["x", "scale", "bias"][: 3 if bias else 2]
    node = helper.make_node("LayerNormalization", inputs, ["y"], axis=axis, epsilon=1e-3)
    kept = {n: v for n, v in constants.items() if n in inputs}
    found = cut(model_of([node], x.shape, kept, opset), {"x": x})
    expected = ["ReduceMean", "Sub", "Mul", "ReduceMean", "Add", "Sqrt", "Div", "Mul"]
    assert ops(found) == expected + ["Add"] * bias


@settings(max_examples=25)
@given(batch=SIZES, channels=SIZES, spatial=st.lists(SIZES, max_size=3), opset=st.sampled_from([9, 14, 17]))
def test_a_batch_normalization_is_a_factor_and_a_bias(
    batch: int, channels: int, spatial: list[int], opset: int
) -> None:
    x = normal(batch, channels, *spatial)
    constants = {n: normal(channels, seed=i) for i, n in enumerate(("scale", "bias", "mean", "var"))}
    constants["var"] = np.abs(constants["var"]) + np.float32(0.1)
    node = helper.make_node("BatchNormalization", ["x", *constants], ["y"], epsilon=1e-3)
    found = cut(model_of([node], x.shape, constants, opset), {"x": x})
    assert ops(found) == ["Mul", "Add"]
    assert found.model.graph.node[0].output[0] == "y:before_bias"


@pytest.mark.parametrize("opset", [8, 9, 13, 17])
def test_clip_and_hard_sigmoid_are_a_min_then_a_max(opset: int) -> None:
    x = normal(3, 7) * 4
    constants = {"low": np.float32(-1).reshape(()), "high": np.float32(2).reshape(())}
    clip = (
        helper.make_node("Clip", ["x"], ["c"], min=-1.0, max=2.0)
        if opset < 11
        else helper.make_node("Clip", ["x", "low", "high"], ["c"])
    )
    nodes = [clip, helper.make_node("HardSigmoid", ["c"], ["y"], alpha=0.3, beta=0.4)]
    found = cut(model_of(nodes, x.shape, constants if opset > 10 else {}, opset), {"x": x})
    assert ops(found) == ["Min", "Max", "Mul", "Add", "Min", "Max"]


@pytest.mark.parametrize("bound", ["low", "high"])
def test_a_clip_of_one_bound_stays(bound: str) -> None:
    inputs = ["x", "low"] if bound == "low" else ["x", "", "high"]
    x, constants = normal(3, 7), {bound: np.float32(0.1).reshape(())}
    node = helper.make_node("Clip", inputs, ["y"])
    assert ops(cut(model_of([node], x.shape, constants), {"x": x})) == ["Clip"]


def test_a_bias_comes_after_the_factor_that_follows_it() -> None:
    """(x∗w + b)·s is x∗w·s + b·s: an engine folds s into the weights, and adds b·s in the next kernel."""
    x, w, b, s = normal(1, 2, 4, 4), normal(3, 2, 1, 1), normal(3), normal(3, 1, 1, seed=3)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"]),
        helper.make_node("Mul", ["c", "s"], ["y"]),
    ]
    found = cut(model_of(nodes, x.shape, {"w": w, "b": b, "s": s}), {"x": x})
    got = run(found.model, {"x": x})
    raw = got["c:before_bias"] * s
    assert np.allclose(got["y:before_bias"], raw, rtol=1e-5, atol=1e-6)
    assert np.allclose(got["y"] - raw, (b.reshape(3, 1, 1) * s)[None], rtol=1e-4, atol=1e-5)
    assert found.owners[found.model.graph.node[-1].name] == "n1"


def test_names_that_are_taken_are_left_to_their_owners() -> None:
    x, constants = normal(1, 2, 3, 3), {"w": normal(3, 2, 1, 1), "b": normal(3)}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["y"]),
        helper.make_node("Relu", ["y"], ["y:before_bias"]),
        helper.make_node("Neg", ["y:before_bias"], ["z"]),
    ]
    found = cut(model_of(nodes, x.shape, constants), {"x": x})
    assert ops(found) == ["Conv", "Add", "Relu", "Neg"]


def test_what_is_no_constant_stays() -> None:
    """Weights and biases that are computed or given, and operators of other domains."""
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[1,2,3,3] x, float[3] b) => (float[1,3,3,3] y) <float[3,2,1,1] w = {1,2,3,4,5,6}> {
            [conv] y = Conv (x, w, b)
        }"""
    )
    assert ops(cut(model, {"x": normal(1, 2, 3, 3), "b": normal(3)})) == ["Conv"]
