"""The ``silu`` pass beyond its fixtures: random graphs, byte identity, and corners that text cannot hold."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import HealthCheck, given, settings
from onnx import helper

import graphkit
from graphkit.compare.equivalence import verify
from graphkit.model.file import ModelFile
from graphkit.testing import assert_equivalent, run
from graphkit_passes.silu import Silu
from tests.passes.silu_graphs import Random, all_nodes, models

slowly = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def parse(text: str, opset: int = 24) -> onnx.ModelProto:
    domains = f'"": {opset}, "pkg": 1, "mine": 1, "com.microsoft": 1'
    return onnx.parser.parse_model(f"<ir_version: 10, opset_import: [{domains}]>\n{text}")


@slowly
@given(models())
def test_random_graphs_keep_their_numbers(one: Random) -> None:
    after, report = run("silu", one.model)
    ops = {n.op_type for n in all_nodes(after)} | {n.op_type for f in after.functions for n in f.node}
    assert "Swish" not in {n.op_type for n in all_nodes(after)}
    assert not ops & {"QuickGelu", "Swish_TRT", "bSwish", "torch_nn_modules_SiLU_1", "swapped", "scaled"}
    assert report.rewrites >= one.forms - sum(n.op_type == "block" for n in all_nodes(one.model))
    found = verify(ModelFile.from_proto(one.twin), [after.SerializeToString()])
    assert found.status == "held", found.reason
    onnx.checker.check_model(after, full_check=True)


@slowly
@given(models())
def test_random_graphs_keep_what_is_no_silu_and_come_to_rest(one: Random) -> None:
    after, _ = run("silu", one.model)
    kept = {n.SerializeToString() for n in all_nodes(after)}
    assert all(n.SerializeToString() in kept for n in one.plain)
    assert [o.SerializeToString() for o in after.graph.output] == [
        o.SerializeToString() for o in one.model.graph.output
    ]
    again, second = run("silu", after)
    assert second.rewrites == 0
    assert again.SerializeToString() == after.SerializeToString()


@given(models())
@slowly
def test_functions_go_with_their_last_call_and_others_keep_their_bytes(one: Random) -> None:
    after, _ = run("silu", one.model)
    called = {n.op_type for n in all_nodes(one.model)}
    before = {f.name: f.SerializeToString() for f in one.model.functions}
    now = {f.name: f.SerializeToString() for f in after.functions}
    assert now["SiLU_gate"] == before["SiLU_gate"]
    for name in ("torch_nn_modules_SiLU_1", "swapped", "scaled"):
        assert (name in now) == (name not in called)
        assert now.get(name, before[name]) == before[name]
    assert ("inner" in now) == ("scaled" not in called)


CHAIN = """g (float[2,3] x) => (float[2,3] y) { h = pkg.act (x) y = Relu (h) }
<domain: "pkg", opset_import: ["": 24], overload: "tanh">
act (v) => (w) { w = Tanh (v) }
<domain: "pkg", opset_import: ["": 24]>
act (v) => (w) { s = Sigmoid (v) w = Mul (v, s) }
"""


@pytest.mark.parametrize(("overload", "rewrites"), [("", 1), ("tanh", 0), ("missing", 0)])
def test_an_overload_is_a_function_of_its_own(overload: str, rewrites: int) -> None:
    model = parse(CHAIN)
    model.graph.node[0].overload = overload
    after, report = run("silu", model)
    assert report.rewrites == rewrites
    left = {f.overload for f in after.functions}
    assert left == ({"tanh"} if rewrites else {"tanh", ""})


def test_a_function_called_from_a_list_of_graphs_stays() -> None:
    model = parse("g (float[2] x) => (float[2] y) { h = pkg.act (x) y = mine.Switch (h) }\n" + _ACT)
    inner = helper.make_graph([helper.make_node("act", ["x"], ["z"], domain="pkg")], "inner", [], [])
    outer = helper.make_graph([helper.make_node("If", ["c"], ["z"], then_branch=inner)], "outer", [], [])
    attribute = onnx.AttributeProto(name="cases", type=onnx.AttributeProto.GRAPHS, graphs=[outer])
    model.graph.node[1].attribute.append(attribute)
    after, report = run("silu", model)
    assert report.rewrites == 1
    assert list(after.functions) == list(model.functions)


_ACT = '<domain: "pkg", opset_import: ["": 24]>\nact (v) => (w) { s = Sigmoid (v) w = Mul (v, s) }'


def test_a_model_with_a_training_graph_keeps_its_functions() -> None:
    model = parse(f"g (float[2] x) => (float[2] y) {{ y = pkg.act (x) }}\n{_ACT}")
    model.training_info.add().algorithm.node.append(helper.make_node("act", ["x"], ["y"], domain="pkg"))
    after, report = run("silu", model)
    assert report.rewrites == 1
    assert len(after.functions) == 1


def test_one_constant_serves_all_that_have_its_value() -> None:
    chain = " ".join(f"t{i} = Swish <alpha = 1.5> (t{i - 1})" for i in range(1, 10))
    model = parse(f"g (float[2] t0) => (float[2] t9) {{ {chain} }}")
    after = assert_equivalent("silu", model)
    assert [i.name for i in after.graph.initializer] == ["alpha"]


@pytest.mark.parametrize(
    ("opset", "ops"), [(17, {"CastLike", "Mul", "Sigmoid", "Opaque"}), (13, {"Opaque", "QuickGelu"})]
)
def test_an_unknown_dtype_is_cast_like_or_refused(opset: int, ops: set[str]) -> None:
    model = parse("g (float[2] x) => (y) { h = mine.Opaque (x) y = com.microsoft.QuickGelu (h) }", opset)
    after, report = run("silu", model)
    assert {n.op_type for n in after.graph.node} == ops
    assert [r.reason for r in report.refusals if "opset 13 has no CastLike" in r.reason] == [
        r.reason for r in report.refusals
    ]


def test_an_annotation_serves_where_inference_does_not() -> None:
    text = """g (float[2] x) => (float16[2] y) <float16[2] h>
    { h = mine.Opaque (x) y = com.microsoft.QuickGelu (h) }"""
    after, _ = run("silu", parse(text, 13))
    (alpha,) = after.graph.initializer
    assert onnx.numpy_helper.to_array(alpha).dtype == np.float16


def test_what_was_refused_is_tried_again_when_more_is_known() -> None:
    text = """g (float[2,2] x) => (y) <float[2,2] w = {1.0, 2.0, 3.0, 4.0}>
    { a = mine.SiLU (x) b = MatMul (a, w) y = com.microsoft.QuickGelu (b) }"""
    after, report = run("silu", parse(text, 13))
    assert report.rewrites == 2 and not report.refusals
    assert "QuickGelu" not in {n.op_type for n in after.graph.node}


@pytest.mark.parametrize(
    "body",
    [
        "s = Sigmoid (v) t = Sigmoid (s) w = Mul (v, t)",
        "c = Constant <value_float = 2.0> () u = Mul (v, c) s = Sigmoid (v) w = Mul (u, s)",
        "c = Constant <value_floats = [2.0, 1.0]> () u = Mul (v, c) s = Sigmoid (u) w = Mul (v, s)",
        "u = Cast <to = 1> (v) s = Sigmoid (u) w = Mul (v, s)",
        "s = Sigmoid (v) u = Mul (v, s) w = Mul (u, s)",
        "a = Neg (v) s = Sigmoid (a) w = Mul (a, s)",
        "a, w = Split <num_outputs = 2> (v)",
        "s = Sigmoid (v) w = Add (v, s)",
        "w = mine.SiLU <gain = 1.0> (v)",
        "n = Neg (v) w = Swish (n)",
    ],
)
def test_a_body_that_computes_something_else_stays(body: str) -> None:
    function = f'<domain: "pkg", opset_import: ["": 24, "mine": 1]>\nSiLU (v) => (w) {{ {body} }}'
    model = parse(f"g (float[2] x) => (float[2] y) {{ y = pkg.SiLU (x) }}\n{function}")
    after, report = run("silu", model)
    assert "SiLU" in {n.op_type for n in after.graph.node}
    assert [r.op for r in report.refusals if r.graph == "main"] == ["SiLU"]


@pytest.mark.parametrize(
    ("body", "factor"),
    [
        ("w = Swish <alpha = 2.0> (v)", 2.0),
        ("w = com.microsoft.QuickGelu (v)", 1.702),
        (
            "c = Constant <value_int = 2> () l = CastLike (c, v)"
            + " u = Mul (v, l) s = Sigmoid (u) w = Mul (v, s)",
            2.0,
        ),
        (
            "c = Constant <value = double {2.0}> () l = Cast <to = 1> (c)"
            + " u = Mul (v, l) s = Sigmoid (u) w = Mul (v, s)",
            2.0,
        ),
        ("i = Identity (v) s = Sigmoid (i) p = Mul (s, v) w = Identity (p)", None),
    ],
)
def test_a_body_counts_by_what_it_computes(body: str, factor: float | None) -> None:
    function = f'<domain: "pkg", opset_import: ["": 24, "com.microsoft": 1]>\nf (v) => (w) {{ {body} }}'
    model = parse(f"g (float[2] x) => (float[2] y) {{ y = pkg.f (x) }}\n{function}")
    after = assert_equivalent("silu", model)
    assert not after.functions
    values = [float(onnx.numpy_helper.to_array(i)) for i in after.graph.initializer]
    assert values == pytest.approx([] if factor is None else [factor])


@pytest.mark.parametrize(
    ("call", "body", "rewrites"),
    [
        ("pkg.f (x, x)", "s = Sigmoid (g) w = Mul (v, s)", 1),
        ("pkg.f (x, k)", "u = Mul (v, g) s = Sigmoid (u) w = Mul (v, s)", 1),
        ("pkg.f (k, x)", "u = Mul (v, g) s = Sigmoid (u) w = Mul (v, s)", 0),
        ("pkg.f (x)", "u = Mul (v, g) s = Sigmoid (u) w = Mul (v, s)", 0),
        ("pkg.f (x, k)", "u = Mul (v, g) t = Mul (u, g) s = Sigmoid (t) w = Mul (v, s)", 0),
        ("pkg.f (x, k)", "c = Cast <to = 99> (g) u = Mul (v, c) s = Sigmoid (u) w = Mul (v, s)", 0),
        ("pkg.f (x, k)", "w = Swish <alpha: float = @missing> (v)", 1),
        ("pkg.f (x, k)", "w = mine.Unknown (v)", 0),
        ("pkg.f (x, k)", "a = pkg.two (v) w = Identity (a)", 0),
    ],
)
def test_arguments_of_a_call(call: str, body: str, rewrites: int) -> None:
    functions = f"""<domain: "pkg", opset_import: ["": 24, "mine": 1, "pkg": 1]>
    f <missing> (v, g) => (w) {{ {body} }}
    <domain: "pkg", opset_import: ["": 24]> two (v) => (a, b) {{ a = Neg (v) b = Abs (v) }}"""
    model = parse(f"g (float[2] x) => (float[2] y) <float k = {{2.0}}> {{ y = {call} }}\n{functions}")
    after, report = run("silu", model)
    assert report.rewrites == rewrites
    assert ("Sigmoid" in {n.op_type for n in after.graph.node}) == bool(rewrites)


def test_a_factor_with_dimensions_needs_a_rank() -> None:
    body = "u = Mul (v, b) s = Sigmoid (u) w = Mul (v, s)"
    function = f'<domain: "pkg", opset_import: ["": 24]>\nf (b, v) => (w) {{ {body} }}'
    text = "g (float x) => (y) <float[1] b = {{1.0}}> {{ y = pkg.f (b, x) }}\n"
    after, report = run("silu", parse(text.format() + function))
    assert report.rewrites == 0 and "may have fewer" in report.refusals[0].reason
    after, report = run("silu", parse(text.format().replace("float x", "float[n] x") + function))
    assert report.rewrites == 1 and not after.functions


def test_names_can_be_added() -> None:
    model = parse("g (float[2] x) => (float[2] y) { h = mine.Act (x) y = mine.Other (h) }")
    assert [n.op_type for n in graphkit.apply(model, Silu(ops=("mine::Act",))).graph.node] == [
        "Sigmoid",
        "Mul",
        "Other",
    ]
    assert str(Silu(ops=("mine::Act", "B"))) == "silu:ops=mine::Act+B"


SWISH_OF_CALLER = (
    '\n<opset_import: ["": 24, "p": 1], domain: "p">\nf <al> (a) => (b) {'
    " c = Swish <alpha: float = @al> (a) b = Tanh (c) }"
)
HANDS_ON = (
    '\n<opset_import: ["": 24, "p": 1], domain: "p">\nh <be{}> (a) => (b) {{ b = p.f <al: float = @be> (a) }}'
)


@pytest.mark.parametrize(
    ("body", "handed_on", "constants"),
    [
        ("y = p.f <al = 2.0> (x)", None, 1),
        ("y = p.f (x)", None, 0),
        ("y = p.h (x)", "", 0),
        ("y = p.h <be = 2.0> (x)", "", 1),
        ("t = p.h (x) y = p.f <al = 3.0> (t)", ": float = 2.0", 1),
        ("t = p.h (x) y = p.f <al = 3.0> (t)", "", None),
        ("t = p.f (x) y = p.f <al = 3.0> (t)", None, None),
        ("y = Relu (x)", "", 0),
    ],
)
def test_a_factor_of_the_caller_is_used_when_all_callers_give_it(
    body: str, handed_on: str | None, constants: int | None
) -> None:
    text = f'<ir_version: 10, opset_import: ["": 24, "p": 1]>\ng (float[2] x) => (float[2] y) {{ {body} }}'
    hands_on = "" if handed_on is None else HANDS_ON.format(handed_on)
    before = onnx.parser.parse_model(text + SWISH_OF_CALLER + hands_on)
    after, report = run("silu", before)
    inner = next(f for f in after.functions if f.name == "f")
    if constants is None:
        assert after == before
        assert "which some calls of the function leave out" in str(report.refusals[0])
    else:
        assert [n.op_type for n in inner.node].count("Constant") == constants
        assert "Swish" not in {n.op_type for n in inner.node}


@pytest.mark.filterwarnings("error")
def test_a_factor_beyond_float16_is_refused_in_silence() -> None:
    before = parse("g (float16[2] x) => (float16[2] y) { y = Swish <alpha = -70000.0> (x) }")
    after, report = run("silu", before)
    assert after == before
    assert [r.reason for r in report.refusals] == ["its factor -70000 is beyond the range of float16"]
