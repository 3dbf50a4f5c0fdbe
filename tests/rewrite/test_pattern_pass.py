"""Pattern passes: where new nodes go, what is refused, what is cleaned up, and when it ends."""

from __future__ import annotations

import time
from typing import Any

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphkit import Graph, Match, Model, PassFailed, PatternPass, apply
from graphkit.model import dataflow
from tests.rewrite.helpers import CALLS, SILU_TWICE, graph_of, ops, proto


class Fuse(PatternPass):
    """SiLU to Swish, at any opset: for tests."""

    name = "fuse"

    def pattern(self, op: Any, x: Any) -> Any:
        return op.Mul(x, op.Sigmoid(x))

    def rewrite(self, op: Any, m: Match) -> Any:
        return op.Swish(m.x, _domain="local", _name="fused")


class Split(PatternPass):
    """The inverse."""

    name = "split"

    def pattern(self, op: Any, x: Any) -> Any:
        return op.Swish(x, _domain="local")

    def rewrite(self, op: Any, m: Match) -> Any:
        return op.Mul(m.x, op.Sigmoid(m.x))


def run(step: PatternPass, text: str) -> tuple[onnx.ModelProto, Any]:
    model = Model.from_proto(proto(text))
    report = step.run(model)
    assert step.run(model).rewrites == 0, "not stable"
    return model.to_proto(), report


def test_in_the_main_graph() -> None:
    made, report = run(Fuse(), SILU_TWICE)
    assert [n.op_type for n in made.graph.node] == ["Swish", "Constant", "Mul"]
    assert (report.spec, report.rewrites, report.refusals) == ("fuse", 1, ())
    assert report.nodes_before == {"Sigmoid": 1, "Mul": 2, "Constant": 1}
    assert report.nodes_after["local::Swish"] == 1
    assert list(made.graph.node[0].output) == ["h"] and made.graph.node[0].name.startswith("fused")
    origin = {p.key: p.value for p in made.graph.node[0].metadata_props}["graphkit.origin"]
    assert '"fuse"' in origin and '"h"' in origin


def test_in_subgraphs_and_functions() -> None:
    made, report = run(Fuse(), CALLS)
    assert report.rewrites == 2
    branch = made.graph.node[0].attribute[0].g
    assert [n.op_type for n in branch.node] == ["Swish"] and branch.output[0].name == "a"
    assert [n.op_type for n in made.functions[0].node] == ["Swish"]


def test_what_is_read_elsewhere_is_refused_with_the_reason() -> None:
    text = "g (float[2] x) => (float[2] y, float[2] z) { s = Sigmoid (x) y = Mul (x, s) z = Neg (s) }"
    made, report = run(Fuse(), text)
    assert made == proto(text)
    assert [str(r) for r in report.refusals] == ["Mul 'y': 's' inside the pattern is read elsewhere too"]
    _, report = run(Fuse(), text.replace("z = Neg (s)", "t = Neg (s)").replace("float[2] z", "float[2] s"))
    assert report.refusals[0].reason == "'s' inside the pattern is a graph output"


class Halve(PatternPass):
    """Refuses what its check says."""

    name = "halve"

    def pattern(self, op: Any, x: Any) -> Any:
        return op.Mul(x, op.const("c"))

    def check(self, graph: Graph, m: Match) -> None:
        m.require(m.value("c").item() == 0.5, f"the factor is {m.value('c').item():g}")

    def rewrite(self, op: Any, m: Match) -> Any:
        return op.Div(m.x, 2.0)


def test_check_and_constants() -> None:
    text = """g (float[2] x) => (float[2] y) <float h = {0.5}, float[1] three = {3}> {
        a = Mul (h, x)  b = Mul (a, three)  y = Mul (b, h) }"""
    made, report = run(Halve(), text)
    assert report.rewrites == 1, "only where the dtype of the other operand is known"
    assert [r.reason for r in report.refusals][0] == "the factor is 3"
    assert [n.op_type for n in made.graph.node] == ["Div", "Mul", "Mul"]
    onnx.checker.check_model(made)
    text = text.replace("y = Mul (b, h)", "y = Neg (b)")
    made, _ = run(Halve(), text)
    assert "h" not in {i.name for i in made.graph.initializer}, "a constant that nobody reads any more"


def test_a_shared_constant_stays() -> None:
    text = "g (float[2] x) => (float[2] y) <float h = {0.5}> { a = Mul (h, x)  y = Add (a, h) }"
    made, _ = run(Halve(), text)
    assert "h" in {i.name for i in made.graph.initializer}


class Peel(PatternPass):
    """Drops Identity: a rewrite that makes no node."""

    name = "peel"

    def pattern(self, op: Any, x: Any) -> Any:
        return op.Identity(x)

    def rewrite(self, op: Any, m: Match) -> Any:
        return m.x


def test_a_rewrite_to_an_input() -> None:
    made, report = run(
        Peel(), "g (float[2] x) => (float[2] y) { a = Identity (x) b = Identity (a) y = Neg (b) }"
    )
    assert report.rewrites == 2 and [list(n.input) for n in made.graph.node] == [["x"]]
    made, report = run(Peel(), "g (float[2] x) => (float[2] y) { a = Neg (x) y = Identity (a) }")
    assert report.rewrites == 0 and "gives it that name" in report.refusals[0].reason


class Pair(PatternPass):
    """Two MatMuls of one input become one custom node with two outputs."""

    name = "pair"

    def pattern(self, op: Any, x: Any, v: Any, w: Any) -> Any:
        return op.MatMul(x, v), op.MatMul(x, w)

    def rewrite(self, op: Any, m: Match) -> Any:
        return op.TwoMatMuls(m.x, m.v, m.w, _outputs=2, _domain="local")


PAIR = "g (float[2,2] x, float[2,2] v, float[2,2] w) => (float[2,2] a, float[2,2] c) { a = MatMul (x, v) %s }"


def test_several_outputs_keep_the_order_topological() -> None:
    made, report = run(Pair(), PAIR % "h = Neg (a) b = MatMul (x, w) c = Add (b, h)")
    assert report.rewrites == 1
    assert [n.op_type for n in made.graph.node] == ["TwoMatMuls", "Neg", "Add"]
    assert list(made.graph.node[0].output) == ["a", "b"]


def test_a_match_that_is_not_convex_is_refused() -> None:
    made, report = run(Pair(), PAIR.replace("float[2,2] c", "float[2,2] b") % "h = Neg (a) b = MatMul (x, h)")
    assert report.rewrites == 0 and "lies between" in report.refusals[0].reason
    assert ops(made)["MatMul"] == 2


class Loose(PatternPass):
    """Refuses inside ``rewrite``, after it made a node; or returns what it must not."""

    name = "loose"

    def pattern(self, op: Any, x: Any) -> Any:
        return op.Neg(x)

    def rewrite(self, op: Any, m: Match) -> Any:
        made = op.Abs(m.x)
        m.require(m.x.name != "x", "not this one")
        return made, made


def test_a_refusal_inside_rewrite_leaves_nothing() -> None:
    text = "g (float[2] x) => (float[2] y) { y = Neg (x) }"
    made, report = run(Loose(), text)
    assert made == proto(text) and report.refusals[0].reason == "not this one"


def test_a_wrong_number_of_results() -> None:
    with pytest.raises(PassFailed, match="rewrite returned 2 results; the pattern makes 1"):
        run(Loose(), "g (float[2] z) => (float[2] y) { y = Neg (z) }")


class Chain(PatternPass):
    """One rewrite makes the next possible, against node order."""

    name = "chain"

    def pattern(self, op: Any, x: Any) -> Any:
        return op.Neg(op.Neg(x))

    def rewrite(self, op: Any, m: Match) -> Any:
        return op.Identity(m.x)


class Slide(PatternPass):
    """``Neg(Abs(x))`` to ``Abs(Neg(x))``, over and over: each sweep makes work for the next."""

    name = "slide"

    def pattern(self, op: Any, x: Any) -> Any:
        return op.Neg(op.Abs(x))

    def rewrite(self, op: Any, m: Match) -> Any:
        return op.Abs(op.Neg(m.x))


def test_sweeps_until_nothing_matches() -> None:
    made, report = run(
        Slide(), "g (float[2] x) => (float[2] y) { a = Abs (x) b = Abs (a) c = Abs (b) y = Neg (c) }"
    )
    assert report.rewrites == 3 and [n.op_type for n in made.graph.node] == ["Neg", "Abs", "Abs", "Abs"]


def test_builder_inputs() -> None:
    import numpy as np

    from graphkit import Builder

    graph = graph_of("g (float[2] x, float[2,N] z) => (float[2] y) { y = Neg (x) }")
    op = Builder(graph, graph.nodes[0], ())
    made = op.Clip(graph.inputs[0], None, np.float32(1.0))
    assert made.inputs[0].inputs[1].name == "" and graph.value(made.inputs[0].inputs[2]) == 1.0
    assert graph.value(op.constant([1, 2])).tolist() == [1, 2]
    assert op["swish_f32"](graph.inputs[0], _domain="local", alpha=None).inputs[0].attrs == {}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["silu", "swapped", "gate", "neg", "shared"]), min_size=1, max_size=8))
def test_fusing_and_splitting_any_chain(kinds: list[str]) -> None:
    lines, at = [], "x"
    for i, kind in enumerate(kinds):
        new = f"t{i}"
        body = {
            "silu": f"s{i} = Sigmoid ({at}) {new} = Mul ({at}, s{i})",
            "swapped": f"s{i} = Sigmoid ({at}) {new} = Mul (s{i}, {at})",
            "gate": f"s{i} = Sigmoid (x) n{i} = Neg ({at}) {new} = Mul (n{i}, s{i})",
            "neg": f"{new} = Neg ({at})",
            "shared": f"s{i} = Sigmoid ({at}) m{i} = Mul ({at}, s{i}) {new} = Add (s{i}, m{i})",
        }
        lines.append(body[kind])
        at = new
    model = Model.from_proto(proto(f"g (float[2] x) => (float[2] {at}) {{ {' '.join(lines)} }}"))
    report = Fuse().run(model)
    assert report.rewrites == sum(k in ("silu", "swapped") for k in kinds)
    assert len(report.refusals) == kinds.count("shared")
    assert all(dataflow.in_order(s) for s in model.scopes())
    assert Split().run(model).rewrites == report.rewrites
    assert ops(apply(model.to_proto(), Fuse()))["Swish"] == report.rewrites


def chain(length: int) -> Model:
    nodes, at = [], "x"
    for i in range(length):
        nodes.append(onnx.helper.make_node("Sigmoid", [at], [f"s{i}"]))
        nodes.append(onnx.helper.make_node("Mul", [at, f"s{i}"], [f"m{i}"]))
        at = f"m{i}"
    ends = [onnx.helper.make_tensor_value_info(n, 1, [2]) for n in ("x", at)]
    made = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:])
    return Model.from_proto(onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 21)]))


def test_thousands_of_rewrites_in_a_deep_graph() -> None:
    model = chain(1000)
    start = time.perf_counter()
    assert Fuse().run(model).rewrites == 1000
    assert time.perf_counter() - start < 10
    assert model.main.counts() == {"local::Swish": 1000}
