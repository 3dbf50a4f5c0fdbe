"""Dataflow: order, cycles, convexity, frontiers, and what is said of a graph that is none."""

from __future__ import annotations

import onnx
import onnx.parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphkit import Graph, Model
from graphkit.model import dataflow

HEADER = '<ir_version: 10, opset_import: ["": 21, "local": 1]>\n'


def graph(text: str) -> Graph:
    return Model.from_proto(onnx.parser.parse_model(HEADER + text)).main


DIAMOND = """g (float[2] x) => (float[2] y) {
    a = Neg (x)  b = Abs (a)  c = Exp (a)  d = Add (b, c)  y = Relu (d)
}"""
CAPTURE = """g (float[2] x, bool p) => (float[2] y) {
    h = Neg (x)
    y = If (p) < then_branch = t () => (float[2] a) { a = Abs (h) },
                 else_branch = e () => (float[2] b) { b = Exp (x) } >
}"""


def test_order_and_digraph() -> None:
    found = graph(DIAMOND)
    assert dataflow.in_order(found) and dataflow.cycle(found) is None
    view = dataflow.digraph(found)
    assert sorted(view.edges) == [(0, 1), (0, 2), (1, 3), (2, 3), (3, 4)]
    assert view.nodes[0]["node"] is found.nodes[0]
    found.nodes.reverse()
    assert (
        not dataflow.in_order(found)
        and dataflow.cycle(found) is None
        and dataflow.defect(found.model) is None
    )
    assert [n.op for n in dataflow.order(found)] == ["Neg", "Exp", "Abs", "Add", "Relu"]


def test_a_node_depends_on_what_its_subgraphs_capture() -> None:
    found = graph(CAPTURE)
    assert dataflow.predecessors(found) == [set(), {0}]
    found.nodes.reverse()
    assert not dataflow.in_order(found)


def test_convexity() -> None:
    found = graph(DIAMOND)
    neg, absolute, exp, add, _ = found.nodes
    assert dataflow.is_convex(found, [neg, absolute, exp, add])
    assert dataflow.is_convex(found, [absolute, exp])
    assert not dataflow.is_convex(found, [neg, absolute, add])
    captured = graph(CAPTURE)
    assert dataflow.is_convex(captured, captured.nodes)


def test_a_path_through_a_subgraph_leaves_the_set() -> None:
    found = graph(CAPTURE.replace("y = If", "m = If").replace("> \n}", "").rstrip("}\n") + " y = Relu (m) }")
    neg, _, relu = found.nodes
    assert not dataflow.is_convex(found, [neg, relu])


def names(tensors: list[object]) -> list[str]:
    return [t.name for t in tensors]  # type: ignore[attr-defined]


def test_frontier() -> None:
    found = graph(DIAMOND)
    reads, makes = dataflow.frontier(found, found.nodes[1:4])
    assert (names(reads), names(makes)) == (["a"], ["d"])
    reads, makes = dataflow.frontier(found, found.nodes[:2])
    assert (names(reads), names(makes)) == (["x"], ["a", "b"])
    captured = graph(CAPTURE)
    reads, makes = dataflow.frontier(captured, captured.nodes[1:])
    assert (names(reads), names(makes)) == (["p", "h", "x"], ["y"])
    assert names(dataflow.frontier(captured, captured.nodes)[1]) == ["y"]


def loop() -> Graph:
    found = graph(DIAMOND)
    found.nodes[0].inputs[0] = found.nodes[3].outputs[0]
    return found


def test_a_cycle_is_named() -> None:
    found = loop()
    assert [n.op for n in dataflow.cycle(found) or []] in (["Neg", "Abs", "Add"], ["Neg", "Exp", "Add"])
    said = dataflow.defect(found.model)
    assert said is not None and said.startswith("main has a cycle: Neg 'a' -> ")
    with pytest.raises(ValueError, match="has a cycle"):
        dataflow.order(found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "g (float[2] x) => (float[2] y) { y = Neg (x)  y = Abs (x) }",
            "tensor 'y' in main is written by Neg 'y'",
        ),
        ("g (float[2] x) => (float[2] x) { x = Neg (x) }", "written by a graph input"),
        ("g (float[2] x) => (float[2] w) <float[2] w = {1, 2}> { w = Neg (x) }", "written by an initializer"),
        ("g (float[2] x) => (float[2] y) { y = Neg (y) }", "main has a cycle: Neg 'y' -> Neg 'y'"),
        (
            'g (float[2] x) => (float[2] y) { y = local.f (x) } <domain: "local", opset_import: ["": 21]> '
            "f (a) => (d) { b = Neg (c)  c = Neg (b)  d = Add (a, c) }",
            "function local::f has a cycle",
        ),
        (CAPTURE.replace("b = Exp (x)", "b = Exp (x)  b = Neg (x)"), "tensor 'b' in main/y.else_branch"),
    ],
)
def test_what_is_no_dataflow_graph(text: str, said: str) -> None:
    found = dataflow.defect(graph(text).model)
    assert found is not None and said in found and "\n" not in found


def test_two_inputs_of_one_name() -> None:
    found = dataflow.defect(graph("g (float[2] x, float[2] x) => (float[2] y) { y = Neg (x) }").model)
    assert found is not None and "two inputs" in found


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), min_size=1, max_size=12), st.randoms())
def test_sorting_any_acyclic_graph(edges: list[tuple[int, int]], random: object) -> None:
    nodes = []
    for i in range(12):
        reads = [f"t{a}" for a, b in edges if b == i and a < i] or ["x"]
        nodes.append(onnx.helper.make_node("Sum", reads, [f"t{i}"]))
    random.shuffle(nodes)  # type: ignore[attr-defined]
    ends = [onnx.helper.make_tensor_value_info(n, 1, [2]) for n in ("x", "t11")]
    model = Model.from_proto(onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:])))
    assert dataflow.cycle(model.main) is None
    model.main.nodes[:] = dataflow.order(model.main)
    assert dataflow.in_order(model.main)
