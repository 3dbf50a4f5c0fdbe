"""The ``fp64-to-fp32`` pass beyond its fixtures: random code on doubles, with and without double ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from graphkit.compare.metrics import TOLERANCES
from graphkit.testing import assert_equivalent, run

DOUBLE, FLOAT = TensorProto.DOUBLE, TensorProto.FLOAT
UNARY = ["Neg", "Abs", "Tanh", "Identity", "Sigmoid", "Transpose"]
BINARY = ["Add", "Sub", "Mul", "Max", "Min"]


@dataclass(frozen=True)
class Step:
    """One node on doubles: on earlier tensors, or with a constant."""

    op: str
    first: int
    second: int
    value: float


steps = st.lists(
    st.builds(
        Step,
        op=st.sampled_from([*UNARY, *BINARY]),
        first=st.integers(0, 9),
        second=st.integers(0, 9),
        value=st.sampled_from([0.1, 3.5, -2.0, 1e-3, 40.0]),
    ),
    max_size=6,
)


def build(code: list[Step], *, double_in: bool, double_out: bool, opset: int = 17) -> onnx.ModelProto:
    """Random code on doubles; the ends are doubles, or floats behind casts."""
    nodes, tensors, made = [], {}, ["x"]
    if not double_in:
        nodes.append(helper.make_node("Cast", ["x"], ["wide"], "wide", to=DOUBLE))
        made = ["wide"]
    for n, step in enumerate(code):
        operands = [made[step.first % len(made)]]
        if step.op in BINARY:
            if step.second < 5:
                operands.append(made[step.second % len(made)])
            else:
                tensors[f"k{n}"] = np.float64(step.value)
                operands.append(f"k{n}")
        made.append(f"s{n}")
        nodes.append(helper.make_node(step.op, operands, [made[-1]], f"n{n}"))
    last = {"to": DOUBLE if double_out else FLOAT}
    nodes.append(helper.make_node("Cast", [made[-1]], ["y"], "last", **last))
    nodes.append(helper.make_node("Shape", [made[-1]], ["shape"], "shape"))
    ends = [
        helper.make_tensor_value_info("x", DOUBLE if double_in else FLOAT, [3, 3]),
        helper.make_tensor_value_info("y", last["to"], [3, 3]),
        helper.make_tensor_value_info("shape", TensorProto.INT64, [2]),
    ]
    values = [numpy_helper.from_array(np.asarray(v), n) for n, v in tensors.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _typed(model: onnx.ModelProto) -> dict[str, int]:
    """The dtype of every tensor of the main graph, as inference finds it."""
    typed = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    infos = (*typed.value_info, *typed.input, *typed.output)
    return {i.name: i.type.tensor_type.elem_type for i in infos} | {
        t.name: t.data_type for t in typed.initializer
    }


@settings(max_examples=40)
@given(steps, st.booleans(), st.booleans(), st.booleans(), st.sampled_from([13, 17, 21]))
def test_random_code_keeps_its_numbers_and_comes_to_rest(
    code: list[Step], double_in: bool, double_out: bool, io: bool, opset: int
) -> None:
    spec = "fp64-to-fp32" if io else "fp64-to-fp32:io=false"
    model = build(code, double_in=double_in, double_out=double_out, opset=opset)
    after = assert_equivalent(spec, model)
    ends = {i.name for i in (*model.graph.input, *model.graph.output)}
    left = {name for name, dtype in _typed(after).items() if dtype == DOUBLE}
    assert left <= (set() if io else ends)
    if not io:
        kinds = {i.name: i.type for i in (*after.graph.input, *after.graph.output)}
        assert all(kinds[i.name] == i.type for i in (*model.graph.input, *model.graph.output))
    again, second = run(spec, after)
    assert second.rewrites == 0 and again.SerializeToString() == after.SerializeToString()
    onnx.checker.check_model(after, full_check=True)


@settings(max_examples=40)
@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_constant_is_refused_or_as_good_as_float32_can_be(value: float) -> None:
    model = build([Step("Mul", 0, 9, 1.0)], double_in=False, double_out=False)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.float64(value).reshape(()), "k0"))
    after, report = run("fp64-to-fp32", model)
    if report.refusals:
        assert after == model
        limits = np.finfo(np.float32)
        lost = abs(value) > float(limits.max) or 0 < abs(value) < float(limits.tiny)
        assert lost or (2**24 < abs(value) < 2**53 and value == np.floor(value))
    else:
        got = numpy_helper.to_array(after.graph.initializer[0])
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, value, rtol=2.0**-24)


def test_the_tolerance_is_that_of_float32() -> None:
    """A result that floats get wrong is told, not passed: 1 + 1e-10 - 1 is 0 in float32."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        g (double[2] x) => (double[2] y) <double tiny = {1e-10}, double one = {1.0}>
        { z = Mul (x, tiny) a = Add (z, one) y = Sub (a, one) }"""
    )
    for spec in ("fp64-to-fp32", "fp64-to-fp32:io=false"):
        with pytest.raises(AssertionError, match="differs"):
            assert_equivalent(spec, model)
    assert TOLERANCES["float32"].error == 1e-4


@pytest.mark.parametrize("io", ["true", "false"])
def test_inputs_and_outputs_are_told(io: str) -> None:
    model = build([Step("Neg", 0, 0, 0.0)], double_in=True, double_out=True)
    after, report = run(f"fp64-to-fp32:io={io}", model)
    kinds = {i.type.tensor_type.elem_type for i in (*after.graph.input, after.graph.output[0])}
    assert kinds == {FLOAT if io == "true" else DOUBLE}
    said = "'x', 'y' are float now" if io == "true" else "'y' is computed in float32, and cast to double"
    assert any(said in note for note in report.notes)


def test_an_unused_initializer_is_changed_too() -> None:
    """Early versions of TensorRT stop at one: thop leaves them in YOLO models."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[2] x) => (float[2] y) <double[1] total_ops = {3.0}> { y = Neg (x) }"""
    )
    after = assert_equivalent("fp64-to-fp32", model)
    assert [t.data_type for t in after.graph.initializer] == [FLOAT]


def test_a_model_before_ir_4_lists_its_initializers_as_inputs() -> None:
    model = build([Step("Mul", 0, 9, 3.5)], double_in=False, double_out=False, opset=8)
    model.ir_version = 3
    model.graph.input.append(helper.make_tensor_value_info("k0", DOUBLE, []))
    after = assert_equivalent("fp64-to-fp32", model)
    assert DOUBLE not in _typed(after).values()


def test_what_a_training_graph_may_name_is_refused() -> None:
    model = build([Step("Mul", 0, 9, 3.5)], double_in=False, double_out=False)
    training = model.training_info.add()
    training.algorithm.CopyFrom(
        helper.make_graph(
            [helper.make_node("Identity", ["k0"], ["k1"])],
            "step",
            [],
            [helper.make_tensor_value_info("k1", DOUBLE, [])],
        )
    )
    after, report = run("fp64-to-fp32", model)
    assert after == model
    assert "a training graph or a list of graphs may name a double" in report.refusals[0].reason


def test_annotations_follow() -> None:
    model = onnx.shape_inference.infer_shapes(
        build([Step("Neg", 0, 0, 0.0)], double_in=False, double_out=False)
    )
    after, _ = run("fp64-to-fp32", model)
    assert {i.type.tensor_type.elem_type for i in after.graph.value_info} == {FLOAT}
    assert [d.dim_value for d in after.graph.value_info[0].type.tensor_type.shape.dim] == [3, 3]
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 20, "l": 1]>
        g (double[2] x) => (double[2] y) { y = l.f (x) }
        <domain: "l", opset_import: ["": 20]> f (v) => (o)
        <double[2] n, double[2] v> { n = Neg (v) o = Neg (n) }"""
    )
    after = assert_equivalent("fp64-to-fp32", model)
    assert {i.type.tensor_type.elem_type for i in after.functions[0].value_info} == {FLOAT}


@pytest.mark.parametrize("given_", ["call", "default"])
def test_a_dtype_that_a_function_is_given_is_refused(given_: str) -> None:
    call, header = ("<a = 11>", "<a>") if given_ == "call" else ("", "<a: int = 11>")
    model = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 20, "l": 1]>
        g (float[2] x) => (float[2] y) {{ d = l.f {call} (x) y = Cast <to = 1> (d) w = Cast <to = 11> (x) }}
        <domain: "l", opset_import: ["": 20]> f {header} (v) => (o) {{ o = Cast <to: int = @a> (v) }}"""
    )
    after, report = run("fp64-to-fp32", model)
    assert after == model
    assert "it gives the function 'a' = 11" in report.refusals[0].reason


def test_a_large_integer_in_a_function_or_a_bit_pattern_is_refused() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 20, "l": 1, "own": 1]>
        g (float[2] x) => (float[2] y) { d = Cast <to = 11> (x) e = l.f (d) y = Cast <to = 1> (e) }
        <domain: "l", opset_import: ["": 20, "own": 1]> f (v) => (o)
        { s = Cast <to = 8> (v) o = own.Fancy (v) k = Constant <value = double {16777217.0}> () }"""
    )
    after, report = run("fp64-to-fp32", model)
    assert after == model
    reasons = " ".join(r.reason for r in report.refusals)
    for part in ("it may take the digits", "it may work on doubles", "16777217 is a whole number"):
        assert part in reasons
