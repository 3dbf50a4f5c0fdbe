"""The ``swap-layout`` pass: a transposed input gives what the input gave."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from graphkit import BadOption
from graphkit.testing import assert_equivalent, run
from tests.passes.named_edits import applied, close, parse, slowly, values


def network(dims: int, kind: str, batch: int | str = "N") -> onnx.ModelProto:
    """A convolution, or something that has no layout of its own, over 3 channels of ``dims`` dims."""
    rng = np.random.default_rng(dims)
    shape = [batch, 3, *range(4, 4 + dims)]
    weights = numpy_helper.from_array(rng.normal(size=(3, 3, *[1] * dims)).astype(np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"])
        if kind == "conv"
        else helper.make_node("Softmax", ["x"], ["h"], axis=1),
        helper.make_node("Exp", ["h"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(n, 1, shape) for n in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weights] if kind == "conv" else [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@slowly
@given(
    st.integers(1, 3),
    st.sampled_from(["conv", "other"]),
    st.sampled_from(["x=nhwc", "y=nhwc", "x=nhwc,y=nhwc", "x=nhwc,y=nchw"]),
    st.sampled_from([2, "N"]),
)
def test_random_networks(dims: int, kind: str, ends: str, batch: int | str) -> None:
    model = network(dims, kind, batch)
    got = assert_equivalent(f"swap-layout:{ends}", model)
    onnx.checker.check_model(got, full_check=True)
    x = np.random.default_rng(0).normal(size=(2, 3, *range(4, 4 + dims))).astype(np.float32)
    before = values(model, {"x": x}, ["y"])["y"]
    after = values(got, {"x": np.moveaxis(x, 1, -1) if "x=nhwc" in ends else x}, ["y"])["y"]
    if "y=nhwc" in ends:
        after = np.moveaxis(after, -1, 1)
    elif "y=nchw" in ends:  # it was NHWC by what is asked
        after = np.moveaxis(after, 1, -1)
    close({"y": after}, {"y": before})


def test_there_and_back_is_what_the_caller_had() -> None:
    once = applied("swap-layout:x=nhwc", network(2, "other"))
    twice, report = run("swap-layout:x=nchw", once)
    assert report.rewrites == 1
    assert [d.dim_value for d in twice.graph.input[0].type.tensor_type.shape.dim[1:]] == [3, 4, 5]


def test_bytes_are_cast_first() -> None:
    """TensorRT takes no uint8 into a Transpose."""
    model = network(2, "conv")
    both = applied("swap-layout:x=nhwc", applied("set-dtype:x=uint8", model))
    other = applied("set-dtype:x=uint8", applied("swap-layout:x=nhwc", model))
    for got in (both, other):
        assert [n.op_type for n in got.graph.node[:3]] == ["Cast", "Transpose", "Conv"]
    assert_equivalent("swap-layout:x=nhwc", applied("set-dtype:x=uint8,y=float16", model))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("", "names no input or output"),
        ("x=nwhc", "x=nwhc is no layout; did you mean nhwc or nchw?"),
        ("q=nhwc", "there is no input or output 'q'; the inputs and outputs are y, x"),
    ],
)
def test_what_cannot_be(spec: str, said: str) -> None:
    with pytest.raises(BadOption) as caught:
        run(f"swap-layout:{spec}", parse("g (float[1,2,3] x) => (float[1,2,3] y) { y = Abs (x) }"))
    assert said in str(caught.value)
