"""The ``unique-names`` pass: one name, one node; one name, one tensor."""

from __future__ import annotations

import time

import onnx
import onnx.checker
import onnx.helper as h
import onnx.parser
from hypothesis import given, settings
from hypothesis import strategies as st

from graphkit import Model, PassReport
from graphkit_passes.unique_names import UniqueNames
from tests.passes.scoped_models import graphs, models, shape_of, tensors, values

HEADER = '<ir_version: 10, opset_import: ["": 21, "local": 1]>\n'
FLOAT = onnx.TensorProto.FLOAT


def parse(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(HEADER + text)


def unique(model: onnx.ModelProto | str, *, unnamed: bool = False) -> tuple[onnx.ModelProto, PassReport]:
    """The model with unique names, and the report; a second run must change nothing."""
    twin = Model.from_proto(parse(model) if isinstance(model, str) else model)
    report = UniqueNames(unnamed=unnamed).run(twin)
    got = twin.to_proto()
    assert UniqueNames(unnamed=unnamed).run(twin).rewrites == 0 and twin.to_proto() == got
    again = Model.from_proto(got)
    assert UniqueNames(unnamed=unnamed).run(again).rewrites == 0 and again.to_bytes() == bytes(
        again.file.data
    )
    return got, report


def branches(model: onnx.ModelProto, place: int = -1) -> list[onnx.GraphProto]:
    return [a.g for a in model.graph.node[place].attribute]


def formals(graph: onnx.GraphProto | onnx.FunctionProto) -> list[str]:
    return [*graph.input, *graph.output] if isinstance(graph, onnx.FunctionProto) else []


def test_nodes_of_one_scope() -> None:
    """ONNX Runtime refuses two nodes of one name."""
    got, report = unique("""g (float[2] x) => (float[2] y) {
        [n] n_1 = Relu (x)
        [n] h = Neg (n_1)
        [n] y = Abs (h)
    }""")
    assert [n.name for n in got.graph.node] == ["n", "n_2", "n_3"] and report.rewrites == 2


def test_names_that_hide_outer_ones() -> None:
    """onnx.checker refuses a subgraph that defines a name again; afterwards it does not."""
    text = """g (float[2] x, bool c) => (float[2] y) <float[2] w = {1, 2}> {
        h = Relu (x)
        y = If (c) <
            then_branch = t () => (float[2] a) <float[2] w = {3, 4}> { h = Add (x, w)  a = Neg (h) },
            else_branch = e () => (float[2] y) { z = Add (h, w)  y = Neg (z) }
        >
    }"""
    got, report = unique(text)
    assert report.rewrites == 3 and shape_of(got) == shape_of(parse(text))
    then, other = branches(got)
    assert then.initializer[0].name == "w_1" and list(then.node[0].output) == ["h_1"]
    assert other.output[0].name == "y_1" and list(other.node[0].input) == ["h", "w"]
    onnx.checker.check_model(got, full_check=True)


def test_formals_of_functions_keep_their_names() -> None:
    """But the body of the function, its branches too, keeps clear of them."""
    model = parse("""g (float[2] p, bool c) => (float[2] q) { h = local.f (p, c)  q = local.f (h, c) }
    <domain: "local", opset_import: ["": 21]> f (h, c) => (q) { n = Relu (h)  q = Neg (n) }""")
    inner = [h.make_node("Relu", ["n"], ["h"]), h.make_node("Abs", ["h"], ["q"])]
    bodies = {
        f"{k}_branch": h.make_graph(inner, k, [], [h.make_tensor_value_info("q", FLOAT, [2])])
        for k in ("then", "else")
    }
    model.functions[0].node[1].CopyFrom(h.make_node("If", ["c"], ["q"], **bodies))
    got, report = unique(model)
    function = got.functions[0]
    assert (list(function.input), list(function.output)) == (["h", "c"], ["q"])
    assert [list(n.output) for a in function.node[1].attribute for n in a.g.node] == [
        ["h_1"],
        ["q_1"],
        ["h_2"],
        ["q_2"],
    ]
    assert [list(n.output) for n in got.graph.node] == [["h"], ["q"]] and report.rewrites == 4


def test_interface_goes_first() -> None:
    """The output y, and the input with a default, keep their names though a branch comes before them."""
    text = """g (bool c, float[2] d = {1, 2}) => (float[2] y) {
        h = If (c) <
            then_branch = t () => (float[2] a) { y = Neg (d)  a = Abs (y) },
            else_branch = e () => (float[2] b) { b = Neg (d) }
        >
        y = Relu (h)
    }"""
    got, report = unique(text)
    assert report.rewrites == 1 and got.graph.output[0].name == "y"
    assert list(branches(got, 0)[0].node[0].output) == ["y_1"]


def test_pinned_names_are_refused() -> None:
    model = parse("""g (float[2] x, bool c) => (float[2] y) {
        y = If (c) <
            then_branch = t () => (float[2] a) { h = Neg (x)  a = Abs (h) },
            else_branch = e () => (float[2] b) { h = Abs (x)  b = Neg (h) }
        >
    }""")
    model.training_info.add().algorithm.node.append(h.make_node("Relu", ["h"], ["t"]))
    got, report = unique(model)
    assert report.rewrites == 0 and got == model
    assert [(r.graph, r.node) for r in report.refusals] == [("main/y.else_branch", "h")]


def test_names_of_nodes_and_tensors_are_apart() -> None:
    model = parse("g (float[2] x) => (float[2] y) { [y] h = Relu (x)  [h] y = Neg (h) }")
    assert unique(model)[1].rewrites == 0


def test_unnamed() -> None:
    text = "g (float[2] x) => (float[2] y) { h = Relu (x)  [Relu_1] k = Relu (h)  y = Relu (k) }"
    assert unique(text)[1].rewrites == 0
    got, report = unique(text, unnamed=True)
    assert [n.name for n in got.graph.node] == ["Relu_0", "Relu_1", "Relu_2"] and report.rewrites == 2
    assert str(UniqueNames(unnamed=True)) == "unique-names:unnamed=true"


def test_ten_thousand_nodes_of_one_name() -> None:
    nodes = [h.make_node("Neg", [f"t{i}"], [f"t{i + 1}"], name="n") for i in range(10_000)]
    ends = [h.make_tensor_value_info(name, FLOAT, [2]) for name in ("t0", "t10000")]
    model = Model.from_proto(h.make_model(h.make_graph(nodes, "g", ends[:1], ends[1:])))
    start = time.perf_counter()
    assert UniqueNames().run(model).rewrites == 9_999
    assert time.perf_counter() - start < 10


@settings(max_examples=150, deadline=None)
@given(models(), st.booleans())
def test_any_model(model: onnx.ModelProto, unnamed: bool) -> None:
    got, report = unique(model, unnamed=unnamed)
    onnx.checker.check_model(got, full_check=True)
    assert shape_of(got) == shape_of(model)
    assert [v.tolist() for v in values(got)] == [v.tolist() for v in values(model)]
    names = [n.name for g in graphs(got) for n in g.node if n.name]
    assert len(set(names)) == len(names)
    if unnamed:
        assert len(names) == sum(len(g.node) for g in graphs(got))
    own = [t for g in graphs(got) for t in tensors(g) if t not in formals(g)]
    assert len(set(own)) == len(own)
    changed = 0
    for was, now in zip(graphs(model), graphs(got), strict=True):
        changed += sum(a != b for a, b in zip(tensors(was), tensors(now), strict=True))
        changed += sum(a.name != b.name for a, b in zip(was.node, now.node, strict=True))
    assert report.rewrites == changed
    for was, now in zip((model.graph, *model.functions), (got.graph, *got.functions), strict=True):
        assert list(was.input) == list(now.input) and list(was.output) == list(now.output)


def test_a_note_says_how_many_names_are_new() -> None:
    text = (
        '<ir_version: 10, opset_import: ["": 21]> g (float[2] x) => (float[2] y) {'
        " [a] h = Neg (x)  [a] i = Abs (h)  [b] y = Relu (i) }"
    )
    report = UniqueNames().run(Model.from_proto(onnx.parser.parse_model(text)))
    assert report.notes == ("named anew 1 node",)
