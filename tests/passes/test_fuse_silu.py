"""The ``fuse-silu`` pass beyond its fixtures: random graphs, and that it undoes what ``silu`` does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from graphkit.testing import assert_equivalent, run

DTYPES = {"float": np.float32, "float16": np.float16, "double": np.float64}
slowly = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass
class Random:
    """A model, how many SiLU it has, and the nodes that are part of none."""

    model: onnx.ModelProto
    forms: int
    plain: list[onnx.NodeProto]


@st.composite
def models(draw: st.DrawFn, opset: int = 24) -> Random:
    """1 to 6 steps on an input [2,5]: SiLU in each order, with and without a factor, plain nodes, gates."""
    name = draw(st.sampled_from(list(DTYPES)))
    steps = draw(st.lists(st.sampled_from(["silu", "factor", "gate", "plain"]), min_size=1, max_size=6))
    nodes, plain, factors = list[onnx.NodeProto](), list[onnx.NodeProto](), list[onnx.TensorProto]()
    made = ["x"]
    for number, step in enumerate(steps):
        x, y = draw(st.sampled_from(made)), f"t{number}"
        of = x
        if step == "factor":
            value = draw(st.sampled_from([0.5, 1.0, 1.25, -2.0]))
            shape = draw(st.sampled_from([(), (1,), (1, 1)]))
            factors.append(numpy_helper.from_array(np.full(shape, value, DTYPES[name]), f"k{number}"))
            nodes.append(_node(draw, "Mul", [x, f"k{number}"], f"a{number}"))
            of = f"a{number}"
        if step == "plain":
            nodes.append(helper.make_node(draw(st.sampled_from(["Relu", "Tanh"])), [x], [y], name=y))
        else:
            nodes.append(helper.make_node("Sigmoid", [of], [f"s{number}"], name=f"s{number}"))
            nodes.append(_node(draw, "Mul", ["v" if step == "gate" else x, f"s{number}"], y))
        plain += nodes[-1:] if step == "plain" else nodes[-2:] if step == "gate" else []
        made.append(y)
    outputs = sorted({made[-1], draw(st.sampled_from(made[1:]))})
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(DTYPES[name]))
    inputs = [helper.make_tensor_value_info(n, kind, [2, 5]) for n in ("x", "v")]
    infos = [helper.make_tensor_value_info(o, kind, [2, 5]) for o in outputs]
    graph = helper.make_graph(nodes, "g", inputs, infos, factors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return Random(model, sum(s in ("silu", "factor") for s in steps), plain)


def _node(draw: st.DrawFn, op: str, inputs: list[str], output: str) -> onnx.NodeProto:
    return helper.make_node(op, draw(st.permutations(inputs)), [output], name=output)


@slowly
@given(models())
def test_random_graphs_are_fused_and_keep_their_numbers(one: Random) -> None:
    after = assert_equivalent("fuse-silu", one.model)
    assert sum(n.op_type == "Swish" for n in after.graph.node) == one.forms
    kept = {n.SerializeToString() for n in after.graph.node}
    assert all(n.SerializeToString() in kept for n in one.plain)
    assert not after.graph.initializer
    onnx.checker.check_model(after, full_check=True)


@slowly
@given(models())
def test_it_comes_to_rest_and_silu_undoes_it(one: Random) -> None:
    after, report = run("fuse-silu", one.model)
    assert report.rewrites == one.forms
    again, second = run("fuse-silu", after)
    assert second.rewrites == 0
    assert again.SerializeToString() == after.SerializeToString()
    apart = assert_equivalent("silu", after)
    together, report = run("fuse-silu", apart)
    assert report.rewrites == one.forms
    assert [(n.op_type, list(n.output)) for n in together.graph.node] == [
        (n.op_type, list(n.output)) for n in after.graph.node
    ]


@slowly
@given(models(opset=21))
def test_older_opsets_are_refused_and_keep_their_bytes(one: Random) -> None:
    after, report = run("fuse-silu", one.model)
    assert after.SerializeToString() == one.model.SerializeToString()
    assert sum("opset 21 has no Swish" in r.reason for r in report.refusals) == one.forms


def test_a_factor_that_is_an_input_with_a_default_is_none() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 24]>
        g (float[2] x, float k) => (float[2] y) <float k = {1.5}>
        { a = Mul (x, k) s = Sigmoid (a) y = Mul (x, s) }"""
    )
    if "k" not in {i.name for i in model.graph.input}:
        pytest.skip("this onnx does not parse defaults of inputs")
    after, report = run("fuse-silu", model)
    assert after == model
    assert "a gate" in report.refusals[0].reason


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("factor", "said"),
    [
        (np.float32(np.nan), "its factor 'k' is not a number (NaN)"),
        (np.float64(1e300), "its factor 'k' is a double that the attribute, a float32, cannot hold"),
    ],
)
def test_a_factor_that_is_no_attribute(factor: np.floating[Any], said: str) -> None:
    kind = "float" if factor.dtype == np.float32 else "double"
    text = f'<ir_version: 10, opset_import: ["": 24]>\ng ({kind}[2] x) => ({kind}[2] y)'
    before = onnx.parser.parse_model(text + "{ a = Mul (x, k) s = Sigmoid (a) y = Mul (x, s) }")
    before.graph.initializer.append(numpy_helper.from_array(np.asarray(factor), "k"))
    after, report = run("fuse-silu", before)
    assert after.SerializeToString() == before.SerializeToString()
    assert [r.reason for r in report.refusals] == [said]
