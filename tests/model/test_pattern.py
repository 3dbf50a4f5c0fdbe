"""Patterns: what matches, what is bound, and what does not match."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from graphkit import BadPass, Graph, Match, Model, NotApplicable, find

HEADER = '<ir_version: 10, opset_import: ["": 24, "com.microsoft": 1, "local": 1]>\n'


def graph(text: str) -> Graph:
    return Model.from_proto(onnx.parser.parse_model(HEADER + text)).main


def one(text: str, pattern: Any) -> Match | None:
    found = list(find(graph(text), pattern))
    assert len(found) <= 1
    return found[0] if found else None


def body(nodes: str) -> str:
    return f"g (float[2,3] x, float[2,3] z) => (float[2,3] y) {{ {nodes} }}"


def silu(op: Any, x: Any) -> Any:
    return op.Mul(x, op.Sigmoid(x))


@pytest.mark.parametrize("product", ["Mul (x, s)", "Mul (s, x)"])
def test_operands_in_either_order(product: str) -> None:
    m = one(body(f"s = Sigmoid (x) y = {product}"), silu)
    assert m is not None
    assert (m.x.name, m["x"].name, [t.name for t in m.outputs]) == ("x", "x", ["y"])
    assert sorted(n.op for n in m.nodes) == ["Mul", "Sigmoid"] and m.root.op == "Mul" and m.escaping == []


def test_one_variable_is_one_tensor() -> None:
    assert one(body("s = Sigmoid (z) y = Mul (x, s)"), silu) is None


def test_other_operands_do_not_commute() -> None:
    def pattern(op: Any, x: Any) -> Any:
        return op.Sub(x, op.Sigmoid(x))

    assert one(body("s = Sigmoid (x) y = Sub (x, s)"), pattern) is not None
    assert one(body("s = Sigmoid (x) y = Sub (s, x)"), pattern) is None


def test_three_operands_commute() -> None:
    m = one(body("a = Neg (x) b = Abs (x) y = Max (b, x, a)"), lambda op, v: op.Max(v, op.Neg(v), op.Abs(v)))
    assert m is not None and m.v.name == "x"


def test_escaping_is_what_something_else_reads() -> None:
    m = one("g (float[2] x) => (float[2] y, float[2] s) { s = Sigmoid (x) y = Mul (x, s) }", silu)
    assert m is not None and [t.name for t in m.escaping] == ["s"]
    m = one(body("s = Sigmoid (x) a = Mul (x, s) y = Add (a, s)"), silu)
    assert m is not None and [t.name for t in m.escaping] == ["s"]


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        ({"axis": 1}, True),
        ({"axis": 0}, False),
        ({"axis": lambda a: a > 0}, True),
        ({"axis": lambda a: a > 1}, False),
        ({"nothing": None}, True),
        ({"axis": None}, False),
    ],
)
def test_attributes(wanted: dict[str, Any], matches: bool) -> None:
    m = one(body("y = Softmax <axis = 1> (x)"), lambda op, v: op.Softmax(v, **wanted))
    assert (m is not None) is matches


def test_an_absent_attribute_has_its_default() -> None:
    text = body("y = Softmax (x)")
    assert one(text, lambda op, v: op.Softmax(v, axis=-1)) is not None
    m = one(text, lambda op, v: op.Softmax(v, axis=op.attr("a")))
    assert m is not None and m.attrs == {"a": -1}
    m = one(body("y = LeakyRelu <alpha = 0.1> (x)"), lambda op, v: op.LeakyRelu(v, alpha=0.1))
    assert m is not None, "0.1 is no float32"


def test_attribute_lists_strings_and_bindings() -> None:
    text = body("y = Transpose <perm = [1, 0]> (x)")
    assert one(text, lambda op, v: op.Transpose(v, perm=[1, 0])) is not None
    assert one(text, lambda op, v: op.Transpose(v, perm=(0, 1))) is None
    assert one(text, lambda op, v: op.Transpose(v, perm=[1])) is None
    twice = body("a = Transpose <perm = [1, 0]> (x) y = Transpose <perm = [1, 0]> (a)")

    def pattern(op: Any, v: Any) -> Any:
        return op.Transpose(op.Transpose(v, perm=op.attr("p")), perm=op.attr("p", lambda p: len(p) == 2))

    m = one(twice, pattern)
    assert m is not None and m.attrs["p"] == [1, 0]
    assert one(twice.replace("[1, 0]> (a)", "[0, 1]> (a)"), pattern) is None
    gelu = body('y = Gelu <approximate = "tanh"> (x)')
    assert one(gelu, lambda op, v: op.Gelu(v, approximate="tanh")) is not None
    assert one(gelu, lambda op, v: op.Gelu(v, approximate="none")) is None


CONSTANT = body("c = Constant <value_float = 0.1> () y = Mul (c, x)")
WEIGHTS = "g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Mul (x, w) }"


def test_constants_by_value() -> None:
    assert one(CONSTANT, lambda op, v: op.Mul(v, 0.1)) is not None
    assert one(CONSTANT, lambda op, v: op.Mul(v, 0.1001)) is None
    assert one(CONSTANT, lambda op, v: op.Mul(v, [0.1])) is None, "a list is a tensor of that shape"
    assert one(WEIGHTS, lambda op, v: op.Mul(v, [1, 2])) is not None
    assert one(WEIGHTS, lambda op, v: op.Mul(v, np.array([1.0, 2.0]))) is not None
    assert one(WEIGHTS, lambda op, v: op.Mul(v, 1)) is None
    assert one(body("y = Mul (x, z)"), lambda op, v: op.Mul(v, 1.0)) is None


def test_a_number_in_float16_and_integers() -> None:
    text = "g (float16[2] x) => (float16[2] y) <float16[1] w = {11878}> { y = Mul (x, w) }"
    for narrow in (text, text.replace("float16", "bfloat16").replace("11878", "15821")):
        assert one(narrow, lambda op, v: op.Mul(v, 0.1)) is not None
        assert one(narrow, lambda op, v: op.Mul(v, 0.12)) is None
    text = "g (int64[2] x) => (int64[2] y) <int64 w = {2}> { y = Mul (x, w) }"
    assert one(text, lambda op, v: op.Mul(v, 2)) is not None
    assert one(text, lambda op, v: op.Mul(v, 2.5)) is None


def test_a_number_of_too_many_dimensions_would_widen_the_result() -> None:
    text = "g (float[2] x) => (float[1,1,2] y) <float[1,1,1] w = {2}> { y = Mul (x, w) }"
    assert one(text, lambda op, v: op.Mul(v, 2.0)) is None
    assert one(text.replace("float[2] x", "float[1,1,2] x"), lambda op, v: op.Mul(v, 2.0)) is not None


def test_any_constant() -> None:
    def pattern(op: Any, v: Any) -> Any:
        return op.Mul(v, op.const("c", lambda values: values.size == 2))

    m = one(WEIGHTS, pattern)
    assert m is not None and m.c.name == "w" and m.value("c").tolist() == [1, 2]
    with pytest.raises(NotApplicable, match="'v' is not a constant"):
        m.value("v")
    assert one(CONSTANT, pattern) is None
    assert one(CONSTANT, lambda op, v: op.Mul(v, op.const())) is not None


def test_one_constant_twice() -> None:
    def pattern(op: Any, v: Any) -> Any:
        c = op.const("c")
        return op.Mul(op.Mul(v, c), c)

    text = """g (float[2] x) => (float[2] y) <float[2] a = {1, 2}, float[2] b = {1, 2}> {
        h = Mul (x, a) y = Mul (h, b) }"""
    assert one(text, pattern) is not None
    assert one(text.replace("b = {1, 2}", "b = {1, 3}"), pattern) is None


def conv(op: Any, x: Any, w: Any, b: Any) -> Any:
    return op.Conv(x, w, op.maybe(b))


CONV = "g (float[1,1,4,4] x, float[1,1,1,1] w, float[1] b) => (float[1,1,4,4] y) { y = Conv (x, w, b) }"


def test_optional_inputs() -> None:
    m = one(CONV, conv)
    assert m is not None and m.b.name == "b"
    m = one(CONV.replace("(x, w, b) }", "(x, w) }"), conv)
    assert m is not None and m.b is None
    m = one(CONV.replace("(x, w, b) }", '(x, w, "") }'), conv)
    assert m is not None and m.b is None
    assert one(CONV, lambda op, x, w: op.Conv(x, w)) is None, "a third input is no part of the pattern"
    assert one(CONV, lambda op, x, w: op.Conv(x, w, None)) is None
    assert one(CONV.replace("(x, w, b) }", "(x, w) }"), lambda op, x, w: op.Conv(x, w, None)) is not None


def test_an_empty_input_is_no_tensor() -> None:
    text = body('lo = Constant <value_float = 0.0> () y = Clip (x, "", lo)')
    assert one(text, lambda op, v, a, b: op.Clip(v, a, b)) is None
    m = one(text, lambda op, v, a: op.Clip(v, op.maybe(a), 0.0))
    assert m is not None and m.a is None


SPLIT = """g (float[4] x) => (float[2] y, float[2] z) {
    a, b = Split <num_outputs = 2> (x) y = Neg (b) z = Abs (a) }"""


def test_several_outputs_of_one_node() -> None:
    def both(op: Any, x: Any) -> Any:
        a, b = op.Split(x, _outputs=2)
        return op.Abs(a), op.Neg(b)

    m = one(SPLIT, both)
    assert m is not None and [t.name for t in m.outputs] == ["z", "y"] and len(m.nodes) == 3
    assert one(SPLIT, lambda op, x: op.Split(x, _outputs=3)) is None
    m = one(SPLIT, lambda op, x: op.Split(x, _outputs=2))
    assert m is not None and [t.name for t in m.outputs] == ["a", "b"]
    m = one(SPLIT, lambda op, x: op.Neg(op.Split(x, _outputs=2)[1]))
    assert m is not None and [t.name for t in m.escaping] == ["a"]
    assert one(SPLIT, lambda op, x: op.Neg(op.Split(x))) is None, "a call is its first output"


def test_roots_that_share_an_input() -> None:
    def pattern(op: Any, x: Any, v: Any, w: Any) -> Any:
        return op.MatMul(x, v), op.MatMul(x, w)

    text = """g (float[2,2] x, float[2,2] v, float[2,2] w) => (float[2,2] a, float[2,2] b) {
        a = MatMul (x, v) %s }"""
    found = list(find(graph(text % "b = MatMul (x, w)"), pattern))
    assert [(m.outputs[0].name, m.outputs[1].name) for m in found] == [("a", "b"), ("b", "a")]
    assert list(find(graph(text % "b = MatMul (v, w)"), pattern)) == []


def test_roots_with_nothing_in_common() -> None:
    found = list(find(graph(SPLIT), lambda op, p, q: (op.Neg(p), op.Abs(q))))
    assert [[t.name for t in m.outputs] for m in found] == [["y", "z"]]


def test_alternatives() -> None:
    def pattern(op: Any, x: Any, beta: Any) -> Any:
        inner = op.any_of(op.Sigmoid(x), op.Sigmoid(op.Mul(x, beta)), name="form")
        return op.any_of(op.Mul(x, inner), op.Swish(x), op.QuickGelu(x, _domain="com.microsoft"))

    m = one(body("s = Sigmoid (x) y = Mul (x, s)"), pattern)
    assert m is not None and m.attrs["form"] == 0 and m.beta is None
    m = one(body("b = Mul (z, x) s = Sigmoid (b) y = Mul (x, s)"), pattern)
    assert m is not None and m.attrs["form"] == 1 and m.beta.name == "z"
    assert one(body("y = Swish (x)"), pattern) is not None
    assert one(body("y = com.microsoft.QuickGelu (x)"), pattern) is not None
    assert one(body("y = local.QuickGelu (x)"), pattern) is None


def test_operators_that_are_no_python_names() -> None:
    m = one(body("y = local.swish_f32 (x)"), lambda op, v: op["swish_f32"](v, _domain="local"))
    assert m is not None
    assert one(body("y = Neg (x)"), lambda op, v: op.Neg(v, _domain="ai.onnx")) is not None


def test_a_shared_call_is_one_node() -> None:
    def pattern(op: Any, x: Any) -> Any:
        s = op.Sigmoid(x)
        return op.Add(s, op.Neg(s))

    assert one(body("s = Sigmoid (x) n = Neg (s) y = Add (s, n)"), pattern) is not None
    assert one(body("s = Sigmoid (x) t = Sigmoid (x) n = Neg (t) y = Add (s, n)"), pattern) is None


IF = """g (float[2] x, bool c) => (float[2] y) {
    s = Sigmoid (x)
    y = If (c) < then_branch = t () => (float[2] a) { a = Mul (x, s) },
                 else_branch = e () => (float[2] b) { r = Sigmoid (x)  b = Mul (r, x) } >
}"""


def test_inner_nodes_are_of_one_scope_and_variables_may_be_captured() -> None:
    main = graph(IF)
    found = {scope.label: list(find(scope, silu)) for scope in main.scopes()}
    assert [len(f) for f in found.values()] == [0, 0, 1]
    (m,) = next(f for f in found.values() if f)
    assert m.x.name == "x" and m.graph.parent is main


FUNCTION = """g (float[2] x) => (float[2] y) { y = local.act (x) }
<domain: "local", opset_import: ["": 24]>
act <alpha: float = 1.0> (v) => (w) { u = LeakyRelu <alpha: float = @alpha> (v)  s = Sigmoid (u)  w = Mul (s,
u) }
"""


def test_functions_and_references_to_their_attributes() -> None:
    main = graph(FUNCTION)
    (function,) = main.model.functions
    (m,) = find(function, silu)
    assert m.x.name == "u"
    assert list(find(function, lambda op, v: op.LeakyRelu(v))) != []
    assert list(find(function, lambda op, v: op.LeakyRelu(v, alpha=1.0))) == []
    assert list(find(function, lambda op, v: op.LeakyRelu(v, alpha=op.attr("a")))) == []


def test_a_traced_pattern_can_be_used_again() -> None:
    from graphkit.model.pattern import trace

    pattern = trace(silu)
    for _ in range(2):
        assert one(body("s = Sigmoid (x) y = Mul (x, s)"), pattern) is not None


def test_patterns_that_cannot_be() -> None:
    cases: list[tuple[Any, str]] = [
        (lambda op, x: x, "must return what"),
        (lambda op, x: (), "must return what"),
        (lambda op, x: op.any_of(), "must return what"),
        (lambda op, x: 3, "must return what"),
        (lambda op, *xs: op.Neg(xs[0]), "one plain parameter"),
        (lambda op, root: op.Neg(root), "a match has its own 'root'"),
        (lambda op, x: op.Mul(x, op.const("value")), "a match has its own 'value'"),
        (lambda op, x: op.Neg(op.attr("a")), "stands for an attribute"),
    ]
    for pattern, said in cases:
        with pytest.raises(BadPass, match=said):
            list(find(graph(body("y = Neg (x)")), pattern))


def test_a_match_knows_its_names_only() -> None:
    m = one(body("y = Neg (x)"), lambda op, v: op.Neg(v))
    assert m is not None
    with pytest.raises(AttributeError, match="binds no 'w'"):
        _ = m.w
    with pytest.raises(NotApplicable, match="too small"):
        m.require(False, "too small")


def chain(length: int) -> Graph:
    """SiLU after SiLU, as deep as long."""
    nodes, at = [], "x"
    for i in range(length):
        nodes.append(onnx.helper.make_node("Sigmoid", [at], [f"s{i}"]))
        nodes.append(onnx.helper.make_node("Mul", [at, f"s{i}"], [f"m{i}"]))
        at = f"m{i}"
    ends = [onnx.helper.make_tensor_value_info(n, 1, [2]) for n in ("x", at)]
    made = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:])
    return Model.from_proto(
        onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 21)])
    ).main


def test_deep_graphs_and_linear_time() -> None:
    def seconds(length: int) -> float:
        deep = chain(length)
        start = time.perf_counter()
        assert sum(1 for _ in find(deep, silu)) == length
        return time.perf_counter() - start

    seconds(100)
    small, large = seconds(1000), seconds(8000)
    assert large < 40 * small + 0.1, "8 times the nodes took far more than 8 times as long"


def test_values_of_attributes() -> None:
    from graphkit.model.constants import close, equals

    assert equals([0.1, 2], np.array([0.1, 2], np.float32)) and not equals([1, 2], [1, 3])
    assert equals("a", "a") and not equals("1", 1) and not equals(None, 0) and equals(None, None)
    assert not equals([[1], [1, 2]], [1]) and equals(["a"], ["a"]) and not equals(["1"], [1])
    words = np.array(["a", "b"], object)
    assert equals(words, words.copy()) and not equals(words, np.array(["a", "c"], object))
    assert close(words, np.array(["a", "b"])) and not close(np.array([1, 2]), np.array([1, 3]))
    constant = body("c = Constant <value = float {3}> () y = Mul (c, x)")
    m = one(constant, lambda op, v: op.Mul(v, op.Constant(value=op.attr("held"))))
    assert m is not None and m.attrs["held"] == 3


@pytest.mark.parametrize("last", ["Abs", "Neg"])
def test_many_operands_commute_in_little_time(last: str) -> None:
    def pattern(op: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any, i: Any) -> Any:
        return op.Sum(*(op.Neg(v) for v in (a, b, c, d, e, f, g, h)), op.Abs(i))

    made = " ".join(f"n{i} = Neg (x)" for i in range(8)) + f" n8 = {last} (x) "
    summed = graph(body(made + "y = Sum (n8, n0, n1, n2, n3, n4, n5, n6, n7)"))
    start = time.perf_counter()
    found = next(iter(find(summed, pattern)), None)
    assert (found is not None) == (last == "Abs") and time.perf_counter() - start < 2


def test_an_operand_that_is_there_twice() -> None:
    def pattern(op: Any, v: Any, x: Any) -> Any:
        return op.Sum(v, x, x)

    for operands in ("z, x, x", "x, z, x", "x, x, z"):
        m = next(iter(find(graph(body(f"y = Sum ({operands})")), pattern)))
        assert (m.v.name, m.x.name) == ("z", "x")
