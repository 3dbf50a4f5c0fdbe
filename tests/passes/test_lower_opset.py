"""The ``lower-opset`` pass beyond its fixtures: random nodes, and models that must stay as they are."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphkit.errors import BadOption
from graphkit.testing import assert_equivalent, run

slowly = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def parse(opset: int, text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}]>\n{text}')


NODES = {
    "sum": ("y = ReduceSum <keepdims = 0> (x, one)", 13),
    "max": ("y = ReduceMax (x, one)", 18),
    "all": ("y = ReduceMean (x)", 18),
    "squeeze": ("t = Unsqueeze (x, one)  y = Squeeze (t, one)", 13),
    "split": ("y, z = Split <axis = 1, num_outputs = 2> (x)", 18),
    "pad": ("y = Pad (x, pads, , one)", 18),
    "gelu": ("y = Gelu (x)", 20),
    "mish": ("y = Mish (x)", 18),
    "shape": ("s = Shape <start = 1> (x)  y = Cast <to = 1> (s)", 15),
    "cast": ("h = Cast <to = 10> (x)  y = Cast <to = 1> (h)", 19),
    "softmax": ("y = Softmax (x)", 13),
    "norm": ("y = RMSNormalization (x, scale)", 23),
    "swish": ("y = Swish (x)", 24),
    "like": ("y = CastLike (x, x)", 15),
    "clip": ("y = Clip (x, low, high)", 13),
}


@slowly
@given(st.sampled_from(sorted(NODES)), st.integers(0, 3), st.sampled_from([11, 13, 15, 17]))
def test_random_nodes(name: str, later: int, to: int) -> None:
    body, since = NODES[name]
    opset = max(since + later, to + 1)
    constants = (
        "int64[1] one = {1}, int64[2] pads = {1, 2}, float[5] scale = {1, 2, 3, 4, 5}, "
        "float low = {-0.5}, float high = {0.5}"
    )
    model = parse(opset, f"g (float[2,5] x) => (float y) <{constants}> {{ {body} }}")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    after = assert_equivalent(f"lower-opset:to={to}", model)
    assert after.opset_import[0].version == to
    assert run(f"lower-opset:to={to}", after)[0] == after


@pytest.mark.parametrize("to", [7, 10, 99])
def test_opsets_out_of_range(to: int) -> None:
    with pytest.raises(BadOption, match="give an opset from 11"):
        run(f"lower-opset:to={to}", parse(18, "g (float[2] x) => (float[2] y) { y = Relu (x) }"))


def test_one_node_in_the_way_keeps_the_whole_model() -> None:
    model = parse(20, "g (float[2,3] x) => (float[2,3] y, float[2] z) { y = Gelu (x)  z = ReduceMax (y, y) }")
    model.graph.node[1].input[1] = "x"
    after, report = run("lower-opset", model)
    assert after.SerializeToString() == model.SerializeToString()
    assert report.rewrites == 0
    assert ["axes 'x' is not constant" in r.reason for r in report.refusals] == [True]


def test_an_old_model_stays() -> None:
    model = parse(13, "g (float[2] x) => (float[2] y) { y = Relu (x) }")
    assert run("lower-opset:to=17", model)[0] == model


def test_other_domains_and_names_stay() -> None:
    text = '<ir_version: 10, opset_import: ["": 20, "com.microsoft": 1]>\n'
    text += "g (float[2] x) => (float[2] y) { t = com.microsoft.FastGelu (x)  y = Relu (t) }"
    after, _ = run("lower-opset", onnx.parser.parse_model(text))
    assert {o.domain: o.version for o in after.opset_import} == {"": 17, "com.microsoft": 1}
