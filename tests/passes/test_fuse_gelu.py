"""The ``fuse-gelu`` pass beyond its fixtures: random spellings, and neighbours that are no GELU."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from graphkit.testing import assert_equivalent, run

slowly = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TANH = math.sqrt(2 / math.pi)


@dataclass(frozen=True)
class Spelling:
    """One way to write GELU; ``off`` is by how much one of its constants is not right."""

    tanh: bool = False
    half: bool = False
    opset: int = 20
    by_division: bool = False
    cube: str = "pow"
    outside: str = "sum"  # the tanh's argument: k * (x + c x³), k x * (1 + c x²), or k x + k c x³
    one_first: bool = False
    halved: str = "last"
    negative: bool = False
    swap: bool = False
    off: float = 1.0


spellings = st.builds(
    Spelling,
    tanh=st.booleans(),
    half=st.booleans(),
    opset=st.sampled_from([20, 22, 23]),
    by_division=st.booleans(),
    cube=st.sampled_from(["pow", "products"]),
    outside=st.sampled_from(["sum", "factor", "terms"]),
    one_first=st.booleans(),
    halved=st.sampled_from(["last", "x", "inside", "spread"]),
    negative=st.booleans(),
    swap=st.booleans(),
)


@dataclass
class Writer:
    """Collects nodes and constants."""

    how: Spelling
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)

    def __call__(self, op: str, *inputs: str) -> str:
        made = f"t{len(self.nodes)}"
        given_ = inputs[::-1] if self.how.swap and op in ("Add", "Mul") else inputs
        self.nodes.append(helper.make_node(op, given_, [made], f"n{len(self.nodes)}"))
        return made

    def const(self, value: float) -> str:
        dtype = np.float16 if self.how.half else np.float32
        self.tensors.append(numpy_helper.from_array(np.asarray(value, dtype), f"c{len(self.tensors)}"))
        return self.tensors[-1].name

    def times(self, x: str, value: float) -> str:
        """A product with a number, or a division by its inverse."""
        if self.how.by_division:
            return self("Div", x, self.const(1 / value))
        return self("Mul", x, self.const(value))


def build(how: Spelling) -> onnx.ModelProto:
    """Neg, GELU, Neg."""
    w = Writer(how)
    x = w("Neg", "x")
    sign = -1.0 if how.negative else 1.0
    f = (
        w("Tanh", _argument(w, x, sign))
        if how.tanh
        else w("Erf", w.times(x, sign * how.off * math.sqrt(0.5)))
    )
    w.nodes.append(helper.make_node("Neg", [_result(w, x, f)], ["y"], "last"))
    kind = TensorProto.FLOAT16 if how.half else TensorProto.FLOAT
    ends = [helper.make_tensor_value_info(n, kind, [3, 40]) for n in "xy"]
    graph = helper.make_graph(w.nodes, "g", ends[:1], ends[1:], w.tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", how.opset)], ir_version=9)


def _argument(w: Writer, x: str, sign: float) -> str:
    k, c = sign * TANH, 0.044715 * w.how.off
    if w.how.outside == "factor":
        return w("Mul", w.times(x, k), w("Add", w("Mul", w.times(x, c), x), w.const(1)))
    cube = w("Pow", x, w.const(3)) if w.how.cube == "pow" else w("Mul", x, w("Mul", x, x))
    if w.how.outside == "terms":
        return w("Add", w.times(x, k), w.times(cube, k * c))
    return w.times(w("Add", x, w.times(cube, c)), k)


def _result(w: Writer, x: str, f: str) -> str:
    if w.how.halved == "spread":  # x/2 + x/2 * f
        half = w.times(x, 0.5)
        return w("Sub" if w.how.negative else "Add", half, w("Mul", half, f))
    one = w.const(1)
    if w.how.negative:
        one_more = w("Sub", one, f)
    else:
        one_more = w("Add", one, f) if w.how.one_first else w("Add", f, one)
    if w.how.halved == "x":
        return w("Mul", w.times(x, 0.5), one_more)
    if w.how.halved == "inside":
        return w("Mul", x, w.times(one_more, 0.5))
    return w.times(w("Mul", x, one_more), 0.5)


@slowly
@given(spellings)
def test_any_spelling_is_fused_and_keeps_its_numbers(how: Spelling) -> None:
    after = assert_equivalent("fuse-gelu", build(how))
    assert [n.op_type for n in after.graph.node] == ["Neg", "Gelu", "Neg"]
    assert not after.graph.initializer
    given_ = {a.name: helper.get_attribute_value(a) for a in after.graph.node[1].attribute}
    assert given_ == ({"approximate": b"tanh"} if how.tanh else {})
    again, second = run("fuse-gelu", after)
    assert second.rewrites == 0
    assert again.SerializeToString() == after.SerializeToString()
    onnx.checker.check_model(after, full_check=True)


@slowly
@given(spellings, st.sampled_from([0.99, 1.01]))
def test_a_constant_that_is_off_is_refused(how: Spelling, off: float) -> None:
    model = build(replace(how, off=off))
    after, report = run("fuse-gelu", model)
    assert after == model
    assert "a constant of it is not exact" in report.refusals[0].reason


@slowly
@given(spellings, st.sampled_from([9, 13, 19]))
def test_below_opset_20_it_is_refused(how: Spelling, opset: int) -> None:
    model = build(replace(how, opset=opset))
    after, report = run("fuse-gelu", model)
    assert after == model
    assert [r.reason for r in report.refusals] == [f"opset {opset} has no Gelu; convert to opset 20 first"]


def test_a_constant_that_an_input_can_override_is_none() -> None:
    model = build(Spelling())
    name = model.graph.initializer[0].name
    model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, []))
    after, report = run("fuse-gelu", model)
    assert after == model
    assert not report.refusals


@pytest.mark.parametrize("op", ["Tanh", "Erf"])
def test_a_function_that_is_no_gelu_is_left_alone(op: str) -> None:
    model = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 20]>
        g (float[2,4] x) => (float[2,4] y) <float two = {{2.0}}> {{
            a = Mul (x, two) b = {op} (a) c = Add (b, two) y = Mul (x, c) }}"""
    )
    after, report = run("fuse-gelu", model)
    assert after == model
    assert not report.refusals


def test_many_of_them_share_their_constants() -> None:
    text = "".join(
        f"a{i} = Div (x{i}, r) b{i} = Erf (a{i}) c{i} = Add (b{i}, o) "
        f"d{i} = Mul (x{i}, c{i}) x{i + 1} = Mul (d{i}, h) "
        for i in range(60)
    )
    model = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 20]> g (float[2,4] x0) => (float[2,4] x60)
        <float r = {{1.4142135}}, float o = {{1.0}}, float h = {{0.5}}> {{ {text} }}"""
    )
    after, report = run("fuse-gelu", model)
    assert report.rewrites == 60
    assert [n.op_type for n in after.graph.node] == ["Gelu"] * 60
    assert not after.graph.initializer
