"""The ``drop-bias-qdq`` pass beyond its fixtures: the bits of the bias, and a real model."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from graphkit.rewrite.pipeline import rewrite
from graphkit.testing import assert_equivalent, run
from tests.corpus import SHARED

floats = st.floats(2.0**-20, 2.0**10, width=32)
whole = st.integers(-(2**31), 2**31 - 1)


def build(
    values: list[int], scales: list[float], *, axis: int | None = 0, zero: bool = True
) -> onnx.ModelProto:
    """A Gemm whose bias is dequantized, and the bias itself; one scale is a scalar."""
    count = len(values)
    scale = np.array(scales if len(scales) > 1 else scales[0], np.float32)
    tensors = {"b": np.array(values, np.int32), "s": scale, "w": np.ones((2, count), np.float32)}
    if zero:
        tensors["z"] = np.zeros(scale.shape, np.int32)
    attrs = {} if axis is None else {"axis": axis}
    nodes = [
        helper.make_node("DequantizeLinear", ["b", "s", *(["z"] if zero else [])], ["d"], "d", **attrs),
        helper.make_node("Gemm", ["x", "w", "d"], ["y"], "gemm"),
        helper.make_node("Neg", ["d"], ["n"], "neg"),
    ]
    given_ = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 2])]
    ends = [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, count]),
        helper.make_tensor_value_info("n", TensorProto.FLOAT, [count]),
    ]
    values_ = [numpy_helper.from_array(v, n) for n, v in tensors.items()]
    graph = helper.make_graph(nodes, "g", given_, ends, values_)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@settings(max_examples=30)
@given(st.lists(whole, min_size=1, max_size=5), st.data(), st.booleans())
def test_the_bias_has_the_bits_that_onnx_defines(values: list[int], data: st.DataObject, zero: bool) -> None:
    count = data.draw(st.sampled_from([1, len(values)]))
    scales = data.draw(st.lists(floats, min_size=count, max_size=count))
    model = build(values, scales, zero=zero)
    after, report = run("drop-bias-qdq", model)
    assert report.rewrites == 1
    got = next(numpy_helper.to_array(t) for t in after.graph.initializer if t.name == "d")
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (negative,) = session.run(["n"], {"x": np.zeros((3, 2), np.float32)})
    np.testing.assert_array_equal(got.view(np.uint32), (-negative).view(np.uint32))
    assert {t.name for t in after.graph.initializer} == {"d", "w"}
    assert run("drop-bias-qdq", after)[1].rewrites == 0


@settings(max_examples=30)
@given(st.lists(whole, min_size=2, max_size=5), floats)
def test_the_numbers_stay(values: list[int], scale: float) -> None:
    after = assert_equivalent("drop-bias-qdq", build(values, [scale], axis=None))
    onnx.checker.check_model(after, full_check=True)


@pytest.mark.parametrize("dtype", [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)])
def test_a_scale_of_half_precision_gives_the_dtype(dtype: np.dtype) -> None:
    model = build([70000, -3, 1234567], [0.5], axis=None)
    scale = next(t for t in model.graph.initializer if t.name == "s")
    scale.CopyFrom(numpy_helper.from_array(np.array(0.013, dtype), "s"))
    del model.graph.node[1], model.graph.output[0]
    model.graph.output[0].type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(dtype)
    model.opset_import[0].version = 19
    after = assert_equivalent("drop-bias-qdq", model)
    got = next(numpy_helper.to_array(t) for t in after.graph.initializer if t.name == "d")
    wide = np.array([70000, -3, 1234567], np.float32) * np.float32(np.array(0.013, dtype))
    assert got.dtype == dtype
    np.testing.assert_array_equal(got.view(np.uint16), wide.astype(dtype).view(np.uint16))


def test_a_bias_that_an_input_can_override_is_refused() -> None:
    model = build([1, 2], [0.5])
    model.graph.input.append(helper.make_tensor_value_info("b", TensorProto.INT32, [2]))
    after, report = run("drop-bias-qdq", model)
    assert after == model
    assert [r.reason for r in report.refusals] == ["its input 'b' is not constant"]


def test_a_quantized_yolov5_parses_and_builds_where_int8_convolutions_do(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    from tests.tensorrt import verdicts

    path = SHARED / "yolov5n_qdq.onnx"
    if not path.exists():
        pytest.skip("no shared models")
    report = rewrite(path, ["drop-bias-qdq"], tmp_path / "out.onnx", verify=False)  # the sweep verifies it
    assert report.passes[0].rewrites == 60
    said = verdicts({"before": path.read_bytes(), "after": (tmp_path / "out.onnx").read_bytes()})
    assert "model.0.conv.bias_DequantizeLinear" in said["before"]
    # it parses; TensorRT-RTX has convolutions of int8 from 1.7
    assert not said["after"] or said["after"].startswith("IBuilder::buildSerializedNetwork")
