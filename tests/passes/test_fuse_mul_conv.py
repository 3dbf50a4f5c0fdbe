"""The ``fuse-mul-conv`` pass beyond its fixtures: random operators with arithmetic on either side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from graphkit.testing import run
from tests.passes.arithmetic import Net, fused, ops, values

slowly = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
KINDS = ["one", "none", "channel"]
STEPS = st.tuples(
    st.sampled_from(["Mul", "Div", "Add", "Sub", "Neg"]),
    st.sampled_from(KINDS),
    st.booleans(),
)
Steps = list[tuple[str, str, bool]]


@dataclass(frozen=True)
class Layer:
    """A convolution, and the arithmetic around it."""

    op: str
    dims: int
    group: int
    bias: bool
    pad: int
    before: Steps
    after: Steps
    opset: int
    seed: int


layers = st.builds(
    Layer,
    op=st.sampled_from(["Conv", "ConvTranspose"]),
    dims=st.integers(1, 3),
    group=st.sampled_from([1, 2, 4]),
    bias=st.booleans(),
    pad=st.integers(0, 1),
    before=st.lists(STEPS, max_size=3),
    after=st.lists(STEPS, max_size=3),
    opset=st.sampled_from([9, 13, 17, 22]),
    seed=st.integers(0, 99),
)
IN, OUT = 4, 8


def arithmetic(net: Net, steps: Steps, channels: int, dims: int) -> None:
    shapes = {"none": (), "one": (1, 1), "channel": (1, channels, *[1] * dims)}
    for op, kind, first in steps:
        net.step(op, shapes[kind], first)


@slowly
@given(layers)
def test_random_convolutions(layer: Layer) -> None:
    net = Net([2, IN, *[5] * layer.dims], opset=layer.opset, seed=layer.seed)
    arithmetic(net, layer.before, IN, layer.dims)
    shape = (OUT, IN // layer.group) if layer.op == "Conv" else (IN, OUT // layer.group)
    given_ = [net.random((*shape, *[2] * layer.dims)), *([net.random((OUT,))] if layer.bias else [])]
    net.add(layer.op, *given_, group=layer.group, pads=[layer.pad] * (2 * layer.dims))
    arithmetic(net, layer.after, OUT, layer.dims)
    after = fused("fuse-mul-conv", net.model())
    assert ops(after)[-2:] == [layer.op, "Relu"]
    if all(op in ("Mul", "Div", "Neg") for op, _, _ in layer.before):
        assert ops(after) == [layer.op, "Relu"]


@slowly
@given(
    st.lists(STEPS, max_size=3),
    st.lists(STEPS, max_size=3),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_random_gemms(before: Steps, after: Steps, flip: bool, other: bool, bias: bool, seed: int) -> None:
    net = Net([4, 4], seed=seed)
    arithmetic(net, [s for s in before if not (other and s[1] == "channel")], 4, 0)
    weights = [net.random((8, 4) if flip else (4, 8)), *([net.random((8,))] if bias else [])]
    net.add("Gemm", *weights, transB=int(flip), transA=int(other), alpha=0.5, beta=2.0)
    arithmetic(net, after, 8, 0)
    assert ops(fused("fuse-mul-conv", net.model())) == ["Gemm", "Relu"]


@slowly
@given(st.lists(STEPS, max_size=3), st.lists(STEPS, max_size=3), st.integers(2, 4), st.integers(0, 99))
def test_random_matmuls(before: Steps, after: Steps, rank: int, seed: int) -> None:
    net = Net([2] * (rank - 1) + [4], seed=seed)
    shapes = {"none": (), "one": (1, 1), "channel": (4,)}
    for op, kind, first in before:
        net.step(op, shapes[kind], first)
    net.add("MatMul", net.random((4, 8)))
    for op, kind, first in after:
        net.step(op, (1, 8) if kind == "channel" else shapes[kind], first)
    made = ops(fused("fuse-mul-conv", net.model()))
    assert len(made) - 1 - made.index("MatMul") <= 2  # an Add at most, and the Relu


@slowly
@given(st.lists(STEPS, max_size=3), st.lists(STEPS, max_size=3), st.integers(0, 2), st.integers(0, 99))
def test_random_norms(before: Steps, after: Steps, dims: int, seed: int) -> None:
    net = Net([3, 4, *[2] * dims], seed=seed)
    arithmetic(net, before, 4, dims)
    statistics = [net.random((4,)) for _ in range(3)]
    net.add("BatchNormalization", *statistics, net.constant(net.rng.uniform(0.5, 2, 4)))
    arithmetic(net, after, 4, dims)
    assert ops(fused("fuse-mul-conv", net.model())) == ["BatchNormalization", "Relu"]


def pointwise(*shape: int) -> Net:
    net = Net([1, 2, 3], seed=1)
    net.add("Conv", net.random((4, 2, 1)))
    net.add("Mul", net.random(shape))
    return net


@pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 1, 1), (1, 1, 1, 1)])
def test_a_constant_of_another_axis_is_refused(shape: tuple[int, ...]) -> None:
    model = pointwise(*shape).model()
    after, report = run("fuse-mul-conv", model)
    assert after == model
    assert "is not by channel" in report.refusals[0].reason


@pytest.mark.parametrize("name", ["c0", "c1"])
def test_a_default_that_an_input_can_override_is_no_constant(name: str) -> None:
    model = pointwise(4, 1).model()
    tensor = next(t for t in model.graph.initializer if t.name == name)
    model.graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims)))
    after, _ = run("fuse-mul-conv", model)
    assert after == model


def test_a_picture_that_the_constant_widens_is_refused() -> None:
    net = Net([1, 1, 3], seed=1)  # one channel, which the constant makes four of
    net.add("Mul", net.random((4, 1)))
    net.add("Conv", net.random((2, 4, 1)))
    after, report = run("fuse-mul-conv", net.model())
    assert report.rewrites == 0
    assert "might broadcast it" in report.refusals[0].reason


def test_weights_are_computed_in_float64() -> None:
    net = Net([1, 2, 3], seed=1)
    net.add("Div", net.constant(3.0))
    net.add("Conv", net.random((4, 2, 1)))
    net.add("Mul", net.constant(7.0))
    weights = values(net.model())["c1"]
    after, _ = run("fuse-mul-conv", net.model())
    once = (weights.astype(np.float64) * 7).astype(np.float32).astype(np.float64) / 3
    (got,) = values(after).values()
    np.testing.assert_array_equal(got, once.astype(np.float32))


def test_large_weights_in_a_data_file_stay_there(tmp_path: Path) -> None:
    from graphkit import rewrite

    path = tmp_path / "model.onnx"
    onnx.save(pointwise(4, 1).model(), path, save_as_external_data=True, size_threshold=0, location="weights")
    report = rewrite(path, ["fuse-mul-conv:max-size=16"], tmp_path / "out.onnx")
    assert "lies in a data file" in report.passes[0].refusals[0].reason
    report = rewrite(path, ["fuse-mul-conv"], tmp_path / "out.onnx")
    assert report.passes[0].rewrites == 1


def test_a_norm_of_more_than_matrices_is_not_the_last_axis() -> None:
    net = Net([2, 4, 3], seed=1)
    net.add("MatMul", net.random((3, 4)))
    net.add("Add", net.random((4,)))
    net.add("BatchNormalization", *[net.random((4,)) for _ in range(3)], net.constant(np.ones(4)))
    assert ops(fused("fuse-mul-conv", net.model())) == ["MatMul", "Add", "BatchNormalization", "Relu"]
