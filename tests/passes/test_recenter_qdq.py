"""The ``recenter-qdq`` pass beyond its fixtures: every value of the range, and random moves in between."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from graphkit.testing import assert_equivalent, run
from tests.corpus import SHARED

MOVES = {
    "Reshape": ([np.array([0, -1], np.int64)], {}),
    "Transpose": ([], {}),
    "Slice": ([np.array([0], np.int64), np.array([9], np.int64), np.array([0], np.int64)], {}),
    "Gather": ([np.array([-1, 0, 0, -1, 0], np.int64)], {"axis": 0}),
    "Flatten": ([], {}),
    "Identity": ([], {}),
    "Expand": ([np.array([2, 1, 1], np.int64)], {}),
    "Tile": ([np.array([1, 2], np.int64)], {}),
    "Clip": ([np.array(100, np.uint8), np.array(200, np.uint8)], {}),
    "Pad": ([np.array([1, 0, 0, 1], np.int64), np.array(7, np.uint8)], {}),
    "Concat": ([np.array([[0, 128, 255]], np.uint8)], {"axis": 0}),
    "ReduceMax": ([], {"keepdims": 1}),
}
KEEPING_DIMS = ["Transpose", "Slice", "Gather", "Identity", "Clip", "Pad"]


def build(moves: list[str], *, zero: int = 128, channels: bool = False) -> onnx.ModelProto:
    """x [4, 3] quantized, moved about, and dequantized; beside it a product with quantized weights."""
    tensors = {
        "scale": np.array([0.02, 0.05, 0.1] if channels else 0.05, np.float32),
        "z": np.array([zero] * 3 if channels else zero, np.uint8),
        "one": np.array(0.05, np.float32),
        "zo": np.array(zero, np.uint8),
        "flat": np.array([-1], np.int64),
        "w": np.arange(0, 252, 42, np.uint8).reshape(3, 2),
    }
    nodes = [helper.make_node("QuantizeLinear", ["x", "scale", "z"], ["q"], "q", axis=1)]
    last = "q"
    for n, op in enumerate(moves):
        more, attrs = MOVES[op]
        names = [f"{op}{n}_{i}" for i in range(len(more))]
        tensors |= dict(zip(names, more, strict=True))
        nodes.append(helper.make_node(op, [last, *names], [f"m{n}"], f"m{n}", **attrs))
        last = f"m{n}"
    nodes.append(helper.make_node("DequantizeLinear", [last, "one", "zo"], ["d"], "d"))
    nodes.append(helper.make_node("Reshape", ["d", "flat"], ["y"], "y"))
    nodes.append(helper.make_node("DequantizeLinear", ["w", "one", "zo"], ["wd"], "wd"))
    nodes.append(helper.make_node("MatMul", ["x", "wd"], ["p"], "p"))
    ends = [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("p", TensorProto.FLOAT, [4, 2]),
    ]
    given_ = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 3])]
    values = [numpy_helper.from_array(v, n) for n, v in tensors.items()]
    graph = helper.make_graph(nodes, "g", given_, ends, values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _dtypes(model: onnx.ModelProto) -> set[int]:
    return {t.data_type for t in model.graph.initializer}


@settings(max_examples=25)
@given(st.lists(st.sampled_from(KEEPING_DIMS), max_size=3), st.sampled_from([*MOVES, ""]), st.booleans())
def test_random_stretches_keep_their_numbers_and_come_to_rest(
    moves: list[str], last: str, channels: bool
) -> None:
    model = build([*moves, *([last] if last and not (last == "Concat" and moves) else [])], channels=channels)
    after = assert_equivalent("recenter-qdq", model)
    assert TensorProto.UINT8 not in _dtypes(after)
    again, second = run("recenter-qdq", after)
    assert second.rewrites == 0 and again.SerializeToString() == after.SerializeToString()
    onnx.checker.check_model(after, full_check=True)


@settings(max_examples=25)
@given(st.integers(0, 255).filter(lambda z: z != 128), st.sampled_from(KEEPING_DIMS))
def test_no_other_zero_point_is_touched(zero: int, move: str) -> None:
    model = build([move], zero=zero)
    after, report = run("recenter-qdq", model)
    assert after == model
    assert all(f"zero point {zero}" in r.reason for r in report.refusals) and len(report.refusals) == 2


def test_every_value_dequantizes_to_the_same_bits() -> None:
    steps = np.arange(-600, 600, dtype=np.float32) / 4  # quarters: halves are rounded to even
    scale = np.float32(0.37)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["v"]),
    ]
    given_ = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [len(steps)])]
    ends = [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [len(steps)]),
        helper.make_tensor_value_info("v", TensorProto.FLOAT, [256]),
    ]
    values = {"s": scale, "z": np.uint8(128), "w": np.arange(256, dtype=np.uint8)}
    tensors = [numpy_helper.from_array(np.asarray(v), n) for n, v in values.items()]
    graph = helper.make_graph(nodes, "g", given_, ends, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    after, _ = run("recenter-qdq", model)
    feed = {"x": steps * scale}
    results = [onnxruntime.InferenceSession(m.SerializeToString()).run(None, feed) for m in (model, after)]
    for before, now in zip(*results, strict=True):
        np.testing.assert_array_equal(before.view(np.uint32), now.view(np.uint32))
    assert results[0][0].min() == -128 * scale and results[0][0].max() == 127 * scale


@pytest.mark.parametrize("middle", [8, 3])
def test_weights_of_four_bits(middle: int) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["d"], axis=1, block_size=2),
        helper.make_node("MatMul", ["x", "d"], ["y"]),
    ]
    tensors = [
        helper.make_tensor("w", TensorProto.UINT4, [2, 4], [0, 1, 7, 8, 9, 12, 14, 15]),
        helper.make_tensor("z", TensorProto.UINT4, [2, 2], [middle] * 4),
        numpy_helper.from_array(np.array([[0.1, 0.2], [0.3, 0.4]], np.float32), "s"),
    ]
    given_ = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])]
    ends = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])]
    graph = helper.make_graph(nodes, "g", given_, ends, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    after = assert_equivalent("recenter-qdq", model)
    wanted = TensorProto.INT4 if middle == 8 else TensorProto.UINT4
    assert {t.data_type for t in after.graph.initializer} == {wanted, TensorProto.FLOAT}


def test_a_zero_point_that_an_input_can_override_is_refused() -> None:
    model = build([])
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.UINT8, []))
    after, report = run("recenter-qdq", model)
    assert [n.input[2] for n in after.graph.node if n.name == "q"] == ["z"]
    assert [str(r) for r in report.refusals] == ["QuantizeLinear 'q': its zero point 'z' is not constant"]


def test_what_a_branch_hands_on_is_refused() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[2] x, bool c) => (float[2] y) <float s = {0.1}, uint8 z = {128}>
        {
          i = If (c) <then_branch = a () => (uint8[2] q) { q = QuantizeLinear (x, s, z) },
                      else_branch = b () => (uint8[2] r) { n = Neg (x) r = QuantizeLinear (n, s, z) }>
          y = DequantizeLinear (i, s, z)
        }"""
    )
    after, report = run("recenter-qdq", model)
    assert after == model
    reasons = sorted(r.reason for r in report.refusals)
    assert reasons[0] == "'q' is an output of the graph that it is in"
    assert reasons[-1].startswith("If 'i' makes 'i'")


def test_a_model_that_is_int8_already_keeps_its_bytes() -> None:
    path = SHARED / "yolov5n_qdq.onnx"
    if not path.exists():
        pytest.skip("no shared models")
    model = onnx.load(path)
    after, report = run("recenter-qdq", model)
    assert after.SerializeToString() == model.SerializeToString()
    assert not report.rewrites
