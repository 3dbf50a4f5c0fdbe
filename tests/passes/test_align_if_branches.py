"""``align-if-branches``: random pairs of branches and readers, run with the condition both ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from graphkit.testing import assert_equivalent, run

SPEC = "align-if-branches"
slowly = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
FLOAT, BOOL, INT = onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL, onnx.TensorProto.INT64
FORMS = {"flat": [8], "row": [1, 8], "rows": [2, 4], "deep": [1, 2, 4], "deeper": [1, 1, 2, 4]}
UNEVEN = [(a, b) for a in FORMS for b in FORMS if len(FORMS[a]) != len(FORMS[b])]
BLIND = ["Reshape", "Flatten", "Size", "ReduceMax", "Add", "Expand"]
RANKS = {"Size": 0, "ReduceMax": 0, "Add": 5, "Expand": 5}
SEEING = ["Transpose", "Shape", "Unsqueeze", "Reshape0", "AddLow", "Softmax"]


def branch(name: str, form: str, plain: bool, opset: int) -> onnx.GraphProto:
    """Gives ``x`` in a form, as it is or negated."""
    source = "x"
    shape = numpy_helper.from_array(np.array(FORMS[form], np.int64))
    nodes = [helper.make_node("Constant", [], [f"{name}_shape"], value=shape)]
    if not plain:
        nodes.append(helper.make_node("Neg", ["x"], [f"{name}_neg"]))
        source = f"{name}_neg"
    nodes.append(helper.make_node("Reshape", [source, f"{name}_shape"], [f"{name}_out"]))
    out = helper.make_tensor_value_info(f"{name}_out", FLOAT, FORMS[form])
    return helper.make_graph(nodes, name, [], [out])


def reader(kind: str, made: str, opset: int, constants: list[Any]) -> onnx.NodeProto:
    def constant(values: Any, dtype: str = "int64") -> str:
        constants.append(numpy_helper.from_array(np.asarray(values, dtype), f"{made}_c"))
        return f"{made}_c"

    if kind == "Reshape":
        return helper.make_node("Reshape", ["r", constant([4, -1])], [made])
    if kind == "Reshape0":
        return helper.make_node("Reshape", ["r", constant([0, -1])], [made])
    if kind == "Flatten":
        return helper.make_node("Flatten", ["r"], [made], axis=0)
    if kind == "ReduceMax":
        return helper.make_node("ReduceMax", ["r"], [made], keepdims=0)
    if kind == "Add":
        return helper.make_node("Add", [constant(np.ones((1, 1, 1, 1, 1)), "float32"), "r"], [made])
    if kind == "AddLow":
        return helper.make_node("Add", ["r", constant(np.ones(1), "float32")], [made])
    if kind == "Expand":
        return helper.make_node("Expand", ["r", constant([2, 1, 1, 1, 1])], [made])
    if kind == "Unsqueeze":
        if opset < 13:
            return helper.make_node("Unsqueeze", ["r"], [made], axes=[0])
        return helper.make_node("Unsqueeze", ["r", constant([0])], [made])
    return helper.make_node(kind, ["r"], [made])


@st.composite
def models(draw: Any, kinds: list[str]) -> onnx.ModelProto:
    opset = draw(st.sampled_from([11, 13, 17]))
    first, second = draw(st.sampled_from(UNEVEN))
    pair = [
        branch(f"{n}_branch", f, draw(st.booleans()), opset) for n, f in (("then", first), ("else", second))
    ]
    constants: list[Any] = []
    nodes = [helper.make_node("If", ["p"], ["r"], then_branch=pair[0], else_branch=pair[1])]
    used = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=3))
    nodes += [reader(kind, f"y{i}", opset, constants) for i, kind in enumerate(used)]
    inputs = [helper.make_tensor_value_info("x", FLOAT, [2, 4]), helper.make_tensor_value_info("p", BOOL, [])]
    dtypes = {"Size": INT, "Shape": INT}
    outputs = []
    for i, kind in enumerate(used):
        dims = [f"d{i}_{axis}" for axis in range(RANKS.get(kind, 2))]
        outputs.append(helper.make_tensor_value_info(f"y{i}", dtypes.get(kind, FLOAT), dims))
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def ran(model: onnx.ModelProto, p: bool) -> list[Any]:
    x = np.arange(-3, 5, dtype=np.float32).reshape(2, 4)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return list(session.run(None, {"x": x, **({"p": np.array(p)} if len(model.graph.input) > 1 else {})}))


@slowly
@given(models(BLIND))
def test_where_no_reader_can_tell_the_branches_get_one_rank(model: onnx.ModelProto) -> None:
    after = assert_equivalent(SPEC, model)
    for p in (False, True):
        for was, now in zip(ran(model, p), ran(after, p), strict=True):
            np.testing.assert_array_equal(was, now)
            assert was.shape == now.shape
    for node in (n for n in after.graph.node if n.op_type == "If"):
        ranks = {len(a.g.output[0].type.tensor_type.shape.dim) for a in node.attribute}
        assert len(ranks) == 1
    again, report = run(SPEC, after)
    assert report.rewrites == 0
    assert again.SerializeToString() == after.SerializeToString()
    onnx.checker.check_model(after, full_check=True)


@slowly
@given(models(SEEING))
def test_a_reader_that_can_tell_is_named(model: onnx.ModelProto) -> None:
    after, report = run(SPEC, model)
    assert after == model
    (refusal,) = report.refusals
    assert "can tell apart; its condition is not decided: it follows from input 'p'" in refusal.reason


@pytest.mark.parametrize("b", [1, 3])
def test_squeeze_of_an_open_dim_gives_the_same_for_every_size(b: int) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 17]>
        g (float[b,4] x) => (float[2,4] y, float[m,2] z)
        <int64[1] zero = {0}, int64 one = {1}, float[1,4] w = {1, 2, 3, 4}, int64[2] pairs = {-1, 2}> {
          s = Shape (x)  d = Gather (s, zero)  c = Equal (d, one)
          r = If (c) <then_branch = t () => (float[4] u) { u = Squeeze (x, zero) },
                      else_branch = e () => (float[b,4] v) { v = Identity (x) }>
          y = Mul (r, w)
          z = Reshape (r, pairs)
        }"""
    )
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "k"
    after, report = run(SPEC, model)
    assert report.rewrites == 1
    x = np.arange(4 * b, dtype=np.float32).reshape(b, 4)
    found = [onnxruntime.InferenceSession(m.SerializeToString()).run(None, {"x": x}) for m in (model, after)]
    for was, now in zip(*found, strict=True):
        np.testing.assert_array_equal(was, now)


def test_equal_ranks_stay_as_they_are() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 17]>
        g (float[2,4] x, bool p) => (float[k,m] y) <int64[2] t = {4, 2}> {
          y = If (p) <then_branch = t () => (float[4,2] u) { u = Reshape (x, t) },
                      else_branch = e () => (float[2,4] v) { v = Identity (x) }>
        }"""
    )
    after, report = run(SPEC, model)
    assert after == model
    assert not report.refusals
