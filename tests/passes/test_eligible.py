"""What keeps a node from being folded, and which integer code of shapes is understood, rule by rule."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from graphkit import Model
from graphkit.model.infer import infer
from graphkit.testing import run
from graphkit_passes.fold_constants import FoldConstants

HEAD = '<ir_version: 10, opset_import: ["": {}, "p": 1, "ai.onnx.ml": 3]>\n'
FUNCTION = '\n<opset_import: ["": 21, "p": 1], domain: "p"{}>\n'


def fold(text: str, opset: int = 21) -> tuple[onnx.ModelProto, list[str]]:
    before = parser.parse_model(HEAD.format(opset) + text)
    after, report = run(FoldConstants(), before)
    return after, [str(r) for r in report.refusals]


def ops(proto: onnx.ModelProto) -> list[str]:
    return [n.op_type for n in proto.graph.node]


@pytest.mark.parametrize(
    ("body", "opset", "said"),
    [
        ("c = Dropout <is_test = 0> (w) y = Add (x, c)", 6, "gives other values"),
        ("c = Dropout <is_test = 1> (w) y = Add (x, c)", 6, "it cannot be computed"),
        ("c = Dropout (w, ratio, on) y = Add (x, c)", 13, "gives other values"),
        ("c = SplitToSequence (w) y = SequenceAt (c, zero)", 13, "its result is no tensor"),
        ("c = p.Mystery (w) y = Add (x, c)", 21, "the standard does not define p::Mystery"),
        ("c = Mystery (w) y = Add (x, c)", 21, "the standard does not define ai.onnx::Mystery"),
    ],
)
def test_what_stays(body: str, opset: int, said: str) -> None:
    weights = "<float[2] w = {1, 2}, float ratio = {0.5}, bool on = {1}, int64 zero = {0}>"
    after, refusals = fold(f"g (float[2] x) => (float[2] y) {weights} {{ {body} }}", opset)
    assert any(said in r for r in refusals), refusals
    assert len(ops(after)) == 2


@pytest.mark.parametrize(
    ("body", "opset"),
    [
        ("c = Dropout (w, ratio, off) y = Add (x, c)", 13),
        ("c = Dropout (w) y = Add (x, c)", 13),
        ("c = ai.onnx.ml.Scaler <offset = [1.0], scale = [2.0]> (w) y = Add (x, c)", 13),
    ],
)
def test_what_does_not(body: str, opset: int) -> None:
    weights = "<float[2] w = {1, 2}, float ratio = {0.5}, bool off = {0}>"
    after, refusals = fold(f"g (float[2] x) => (float[2] y) {weights} {{ {body} }}", opset)
    assert (ops(after), refusals) == (["Add"], [])


@pytest.mark.parametrize(
    ("functions", "said"),
    [
        (
            FUNCTION.format("")
            + "f (a) => (b) { b = p.g (a) }"
            + FUNCTION.format("")
            + "g (a) => (b) { b = RandomNormalLike (a) }",
            "its function has RandomNormalLike: it gives other values on each run",
        ),
        (FUNCTION.format("") + "f (a) => (b) { b = p.g:x (a) }", "its function has g: the standard does not"),
    ],
)
def test_a_function_is_as_good_as_its_body(functions: str, said: str) -> None:
    text = "g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { c = p.f (w) y = Add (x, c) }"
    after, refusals = fold(text + functions)
    assert any(said in r for r in refusals), refusals
    assert ops(after) == ["f", "Add"]


def test_overloads_that_call_overloads_in_branches() -> None:
    """The names of overloads are made different, because the reference evaluator does not tell them apart."""
    text = "g (float[2] x) => (float[2] y) <float[2] w = {0, 0}> { c = p.f:a (w) y = Add (x, c) }"
    bodies = {"a": "t = Cos (a) b = p.g:a (t)", "b": "b = Tanh (a)"}
    text += "".join(
        FUNCTION.format(f', overload: "{o}"') + f"f (a) => (b) {{ {t} }}" for o, t in bodies.items()
    )
    for overload, op in (("a", "Exp"), ("b", "Sin")):
        text += FUNCTION.format(f', overload: "{overload}"')
        text += (
            "g (a) => (b) { i = Constant <value_int = 1> () k = Cast <to = 9> (i) b = If (k) <then_branch = "
            f"t () => (float[2] r) {{ r = p.h:{overload} (a) }}, "
            "else_branch = e () => (float[2] q) { q = Neg (a) }> }"
        )
        text += FUNCTION.format(f', overload: "{overload}"') + f"h (a) => (b) {{ b = {op} (a) }}"
    after, refusals = fold(text)
    assert (ops(after), refusals) == (["Add"], [])
    values = numpy_helper.to_array(next(t for t in after.graph.initializer if t.name == "c"))
    assert np.allclose(values, np.e)


WEIGHTS = (
    "<int64[1] one = {1}, int64 minus = {-1}, int64 zero = {0}, int64[0] none = {}, int64[1] far = {9},"
    " int64[2] pair = {0, 1}, int64[1] nil = {0}, int64[2] both = {1, 1}, int32[1] small = {1},"
    " int64[1] huge = {9223372036854775807}, int64[2,1] flat = {0, 1}, int64[1] back = {-1}>"
)


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("v = Gather (s, zero) y = Identity (v)", ["Shape", "Gather", "Identity"]),  # the dim is open
        ("v = Gather (s, far) y = Identity (v)", ["Shape", "Gather", "Identity"]),
        ("v = Gather (s, flat) y = Identity (v)", ["Shape", "Gather", "Identity"]),
        ("v = Slice (s, pair, both) y = Identity (v)", ["Shape", "Slice", "Identity"]),
        ("v = Slice (s, none, one) y = Identity (v)", ["Shape", "Slice", "Identity"]),
        ("v = Slice (s, back, nil, nil, back) y = Identity (v)", ["Shape", "Slice", "Identity"]),
        ("v = Slice (s, one, huge, nil, one) y = Identity (v)", ["Constant"]),
        ("n = Gather (s, minus) v = Slice (n, one, huge) y = Identity (v)", ["Slice", "Identity"]),
        ("n = Gather (s, minus) v = Concat <axis = 0> (n, one) y = Identity (v)", ["Concat", "Identity"]),
        ("v = Squeeze (s) y = Identity (v)", ["Shape", "Squeeze", "Identity"]),
        ("v = Unsqueeze (s, nil) y = Identity (v)", ["Shape", "Unsqueeze", "Identity"]),
        ("v = Cast <to = 1> (s) y = Identity (v)", ["Shape", "Cast", "Identity"]),
        ("v = Cast <to = 6> (s) y = Identity (v)", ["Shape", "Cast", "Identity"]),
        ("v = Add (s, huge) y = Identity (v)", ["Shape", "Add", "Identity"]),
        ("v = Div (s, nil) y = Identity (v)", ["Shape", "Div", "Identity"]),
        ("v = Mul (s, far) n = Gather (v, minus) y = Identity (n)", ["Constant"]),
        ("v = Slice (s, one, huge) w = Sub (v, far) y = Div (w, far)", ["Constant"]),
    ],
)
def test_shape_code(body: str, left: list[str]) -> None:
    after, _ = fold(f"g (float[n,3] x) => (y) {WEIGHTS} {{ s = Shape (x) {body} }}")
    assert ops(after) == left


def test_the_size_of_an_open_dim_is_not_known() -> None:
    assert ops(fold("g (float[n,3] x) => (int64 y) { y = Size (x) }")[0]) == ["Size"]
    assert ops(fold("g (float[2,3] x) => (int64 y) { y = Size (x) }")[0]) == ["Constant"]
    assert ops(fold("g (float[0,n] x) => (int64 y) { y = Size (x) }")[0]) == ["Size"]


def test_shape_code_before_opset_10_and_13() -> None:
    body = "s = Shape (x) v = Slice <starts = [1], ends = [2]> (s) q = Squeeze <axes = [0]> (v)"
    text = f"g (float[n,3] x) => (int64[1] y) {{ {body} y = Unsqueeze <axes = [0]> (q) }}"
    assert ops(fold(text, 9)[0]) == ["Constant"]


DEFAULTED = (
    "g (float[4] x, {} w) => (int64[1] y, float[4] z) <float[4] w = {{1, 2, 3, 4}}>"
    " {{ y = Shape (w) z = Relu (x) }}"
)


def test_the_default_of_an_input_has_the_shape_that_the_input_declares() -> None:
    def shape_of(text: str) -> object:
        twin = Model.from_proto(parser.parse_model(HEAD.format(21) + text))
        tensor = next(n for n in twin.main.nodes if n.op == "Shape").inputs[0]
        return infer(twin).shape(tensor)

    assert shape_of(DEFAULTED.format("float[n]")) == ("n",)
    assert shape_of(DEFAULTED.format("float[4]")) == (4,)
    assert shape_of(DEFAULTED.format("float[]")) is None
    broken = "g (float[4] x, float[n] w) => (z) <float[4] w = {1, 2, 3, 4}> { z = Shape (w) q = MatMul (w) }"
    assert shape_of(broken) == ("n",)
    assert "Shape" in ops(fold(DEFAULTED.format("float[n]"))[0])
    assert "Shape" not in ops(fold(DEFAULTED.format("float[4]"))[0])
