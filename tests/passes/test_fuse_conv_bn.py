"""The ``fuse-conv-bn`` pass beyond its fixtures: random convolutions, and weights that others read too."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from graphkit.testing import assert_equivalent, run

slowly = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Layer:
    """One convolution and its norm."""

    op: str = "Conv"
    dims: int = 2
    group: int = 1
    bias: bool = False
    dtype: str = "float32"
    opset: int = 17
    epsilon: float | None = None
    shared: bool = False
    seed: int = 0


layers = st.builds(
    Layer,
    op=st.sampled_from(["Conv", "ConvTranspose"]),
    dims=st.integers(1, 3),
    group=st.sampled_from([1, 2, 4]),
    bias=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
    opset=st.sampled_from([9, 11, 14, 17, 22]),
    epsilon=st.sampled_from([None, 1e-3]),
    shared=st.booleans(),
    seed=st.integers(0, 99),
)
IN, OUT = 4, 8


def build(layer: Layer) -> onnx.ModelProto:
    """Relu, convolution, norm, Relu; with ``shared`` another convolution with those weights and no norm."""
    if layer.op != "Conv":  # onnx's evaluator, which alone runs doubles, has grouped ConvTranspose wrong
        layer = replace(layer, dtype="float32")
    rng = np.random.default_rng(layer.seed)
    shape = (OUT, IN // layer.group) if layer.op == "Conv" else (IN, OUT // layer.group)
    values = {"w": rng.standard_normal((*shape, *([2] * layer.dims)))}
    values |= {name: rng.standard_normal(OUT) for name in ("scale", "shift", "mean", "b")}
    values["var"] = rng.uniform(0.5, 2.0, OUT)
    tensors = [
        numpy_helper.from_array(v.astype(layer.dtype), n) for n, v in values.items() if layer.bias or n != "b"
    ]
    given_ = ["r", "w", "b"] if layer.bias else ["r", "w"]
    epsilon = {} if layer.epsilon is None else {"epsilon": layer.epsilon}
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], "first"),
        helper.make_node(layer.op, given_, ["c"], "conv", group=layer.group, pads=[1] * (2 * layer.dims)),
        helper.make_node(
            "BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["n"], "norm", **epsilon
        ),
        helper.make_node("Relu", ["n"], ["y"], "last"),
    ]
    if layer.shared:
        nodes.append(helper.make_node(layer.op, given_, ["z"], "other", group=layer.group))
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(layer.dtype))
    space = [[f"{n}{i}" for i in range(layer.dims)] for n in "yz"]
    outputs = [
        helper.make_tensor_value_info(n, kind, [2, OUT, *space[n == "z"]])
        for n in (["y", "z"] if layer.shared else ["y"])
    ]
    inputs = [helper.make_tensor_value_info("x", kind, [2, IN, *([5] * layer.dims)])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", layer.opset)], ir_version=8)


@slowly
@given(layers)
def test_random_layers_keep_their_numbers_and_come_to_rest(layer: Layer) -> None:
    model = build(layer)
    after = assert_equivalent("fuse-conv-bn", model)
    assert "BatchNormalization" not in {n.op_type for n in after.graph.node}
    again, second = run("fuse-conv-bn", after)
    assert second.rewrites == 0
    assert again.SerializeToString() == after.SerializeToString()
    onnx.checker.check_model(after, full_check=True)


@slowly
@given(layers)
def test_the_rest_keeps_its_bytes(layer: Layer) -> None:
    model = build(layer)
    after, _ = run("fuse-conv-bn", model)
    kept = {n.SerializeToString() for n in after.graph.node}
    assert all(
        n.SerializeToString() in kept for n in model.graph.node if n.name in ("first", "last", "other")
    )
    tensors = {t.name: t.SerializeToString() for t in after.graph.initializer}
    for tensor in model.graph.initializer:
        stays = layer.shared and tensor.name in ("w", "b")
        assert (tensor.name in tensors) == stays
        assert not stays or tensors[tensor.name] == tensor.SerializeToString()


@slowly
@given(layers, st.sampled_from(["w", "scale", "shift", "mean", "var"]))
def test_a_default_that_an_input_can_override_is_refused(layer: Layer, name: str) -> None:
    model = build(layer)
    tensor = next(t for t in model.graph.initializer if t.name == name)
    model.graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims)))
    after, report = run("fuse-conv-bn", model)
    assert after == model
    assert [r.reason for r in report.refusals if f"'{name}' is not constant" in r.reason]


def test_the_weights_are_computed_in_float64() -> None:
    model = build(Layer(seed=3, epsilon=1e-3))
    values = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    after, _ = run("fuse-conv-bn", model)
    epsilon = float(np.float32(1e-3))
    factor = values["scale"] / np.sqrt(values["var"] + epsilon)
    got = {t.name: numpy_helper.to_array(t) for t in after.graph.initializer}
    wanted = (values["w"] * factor[:, None, None, None]).astype(np.float32)
    np.testing.assert_array_equal(got["w_1"], wanted)
    np.testing.assert_array_equal(
        got["w_bias"], (values["shift"] - values["mean"] * factor).astype(np.float32)
    )


@pytest.mark.parametrize("name", ["group", "epsilon"])
def test_an_attribute_of_the_caller_is_refused(name: str) -> None:
    values = "w = Constant <value = float[1,1,1] {1.0}> () s = Constant <value = float[1] {1.0}> ()"
    conv = "c = Conv <group: int = @a> (v, w)" if name == "group" else "c = Conv (v, w)"
    norm = "o = BatchNormalization <epsilon: float = @a> (c, s, s, s, s)"
    norm = norm if name == "epsilon" else "o = BatchNormalization (c, s, s, s, s)"
    model = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 17, "l": 1]>
        g (float[1,1,2] x) => (float[1,1,2] y) {{ y = l.f <a = 1> (x) }}
        <domain: "l", opset_import: ["": 17]> f <a> (v) => (o) {{ {values} {conv} {norm} }}"""
    )
    after, report = run("fuse-conv-bn", model)
    assert after == model
    assert "is an attribute of the function" in report.refusals[0].reason


def test_a_chain_of_norms_goes_into_one_convolution() -> None:
    model = build(Layer(seed=5))
    second = helper.make_node("BatchNormalization", ["n", "scale", "shift", "mean", "var"], ["m"], "second")
    model.graph.node.insert(3, second)
    model.graph.node[4].input[0] = "m"
    after = assert_equivalent("fuse-conv-bn", model)
    assert [n.op_type for n in after.graph.node] == ["Relu", "Conv", "Relu"]
