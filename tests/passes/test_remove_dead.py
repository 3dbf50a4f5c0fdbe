"""The ``remove-dead`` pass: what no output depends on goes, in every scope; everything else stays."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnx.helper as h
import onnx.parser
from hypothesis import given, settings

from graphkit import Model, PassReport
from graphkit_passes.remove_dead import RemoveDead
from tests.passes.scoped_models import graphs, models, values

HEADER = '<ir_version: 10, opset_import: ["": 21, "local": 1, "custom": 1]>\n'
FLOAT = onnx.TensorProto.FLOAT


def parse(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(HEADER + text)


def trimmed(model: onnx.ModelProto | str) -> tuple[onnx.ModelProto, PassReport]:
    """The model without what is dead, and the report; a second run must change nothing."""
    twin = Model.from_proto(parse(model) if isinstance(model, str) else model)
    report = RemoveDead().run(twin)
    got = twin.to_proto()
    assert RemoveDead().run(twin).rewrites == 0 and twin.to_proto() == got
    again = Model.from_proto(got)
    assert RemoveDead().run(again).rewrites == 0 and again.to_bytes() == bytes(again.file.data)
    return got, report


def ops(graph: Any) -> list[str]:
    return [n.op_type for n in graph.node]


DEAD = """g (float[2] x, float[2] unread) => (float[2] y) <float[2] w = {1, 2}, float[2] v = {3, 4}> {
    y = Relu (x)
    h = Add (y, w)
    d = Neg (h)
}"""


def test_types_and_annotations_go_too() -> None:
    model = parse(DEAD)
    model.graph.value_info.extend(h.make_tensor_value_info(n, FLOAT, [2]) for n in ("h", "d", "w"))
    model.graph.quantization_annotation.add(tensor_name="h")
    model.graph.quantization_annotation.add(tensor_name="y")
    got, report = trimmed(model)
    assert report.rewrites == 4 and ops(got.graph) == ["Relu"]
    assert not got.graph.initializer and not got.graph.value_info
    assert [a.tensor_name for a in got.graph.quantization_annotation] == ["y"]
    assert [i.name for i in got.graph.input] == ["x", "unread"]
    assert list(got.opset_import) == list(model.opset_import)


def test_nothing_dead_is_byte_identical() -> None:
    model = Model.from_proto(parse("g (float[2] x) => (float[2] y) { h = Relu (x)  y = Neg (h) }"))
    assert RemoveDead().run(model).rewrites == 0 and model.to_bytes() == bytes(model.file.data)


def test_outputs_that_no_node_makes() -> None:
    """An input, and an initializer, that are outputs as they are."""
    got, report = trimmed(
        "g (float[2] x) => (float[2] x, float[2] w) <float[2] w = {1, 2}> { d = Add (x, w) }"
    )
    assert report.rewrites == 1 and got.graph.initializer[0].name == "w"


def test_node_without_outputs_stays_with_what_it_reads() -> None:
    model = parse(DEAD)
    model.graph.node.append(h.make_node("Print", ["h"], [], domain="custom"))
    got, report = trimmed(model)
    assert ops(got.graph) == ["Relu", "Add", "Print"] and report.rewrites == 2


def test_what_acts_in_a_branch_or_function_keeps_its_caller() -> None:
    branch = [h.make_node("Neg", ["x"], ["a"]), h.make_node("Print", ["x"], [], domain="custom")]
    a = h.make_tensor_value_info("a", FLOAT, [2])
    both = {f"{k}_branch": h.make_graph(branch, k, [], [a]) for k in ("then", "else")}
    x, c = h.make_tensor_value_info("x", FLOAT, [2]), h.make_tensor_value_info("c", onnx.TensorProto.BOOL, [])
    nodes = [
        h.make_node("Relu", ["x"], ["y"]),
        h.make_node("If", ["c"], ["dead"], **both),
        h.make_node("outer", ["x"], ["dead2"], domain="local"),
        h.make_node("pure", ["x"], ["dead3"], domain="local"),
    ]
    opsets = [h.make_opsetid(d, v) for d, v in (("", 21), ("custom", 1), ("local", 1))]
    functions = [
        h.make_function(
            "local", "acts", ["p"], ["q"], [*branch[1:], h.make_node("Neg", ["p"], ["q"])], opsets
        ),
        h.make_function(
            "local", "outer", ["p"], ["q"], [h.make_node("acts", ["p"], ["q"], domain="local")], opsets
        ),
        h.make_function("local", "pure", ["p"], ["q"], [h.make_node("Neg", ["p"], ["q"])], opsets),
    ]
    functions[0].node[0].input[0] = "p"
    y = h.make_tensor_value_info("y", FLOAT, [2])
    graph = h.make_graph(nodes, "g", [x, c], [y])
    got, report = trimmed(h.make_model(graph, opset_imports=opsets, functions=functions))
    assert ops(got.graph) == ["Relu", "If", "outer"]
    assert [f.name for f in got.functions] == ["acts", "outer"] and report.rewrites == 2


def test_captured_through_two_levels() -> None:
    got, report = trimmed("""g (float[2] x, bool c) => (float[2] y) <float[2] w = {1, 2}> {
        deep = Relu (x)
        dead = Neg (x)
        y = If (c) <
            then_branch = t () => (float[2] a) {
                a = If (c) <
                    then_branch = t2 () => (float[2] a2) { a2 = Add (deep, w) },
                    else_branch = e2 () => (float[2] b2) { b2 = Neg (deep)  lost = Add (dead, deep) }
                >
            },
            else_branch = e () => (float[2] deep2) { deep2 = Abs (deep) }
        >
    }""")
    assert ops(got.graph) == ["Relu", "If"] and report.rewrites == 2
    assert [i.name for i in got.graph.initializer] == ["w"]


def test_branch_that_gives_an_outer_tensor() -> None:
    """A branch whose output is an outer tensor keeps what makes it."""
    a = h.make_tensor_value_info("outer", FLOAT, [2])
    both = {f"{k}_branch": h.make_graph([], k, [], [a]) for k in ("then", "else")}
    nodes = [h.make_node("Relu", ["x"], ["outer"]), h.make_node("If", ["c"], ["y"], **both)]
    ends = [h.make_tensor_value_info(n, FLOAT, [2]) for n in "xy"]
    c = h.make_tensor_value_info("c", onnx.TensorProto.BOOL, [])
    _, report = trimmed(h.make_model(h.make_graph(nodes, "g", [ends[0], c], ends[1:])))
    assert report.rewrites == 0


def test_optional_outputs_stay() -> None:
    got, report = trimmed("""g (float[8] x) => (int64[2] i) <int64[1] k = {2}> {
        v, i = TopK (x, k)
        d, e = TopK (x, k)
    }""")
    assert report.rewrites == 1 and list(got.graph.node[0].output) == ["v", "i"]


def test_recursive_and_overloaded_functions() -> None:
    """Dead functions that call each other go; every overload of one that is called stays."""
    model = parse("""g (float[2] x) => (float[2] y) { y = local.f (x) }
    <domain: "local", opset_import: ["": 21]> f (p) => (q) { q = Relu (p) }
    <domain: "local", opset_import: ["": 21], overload: "two"> f (p) => (q) { q = Neg (p) }
    <domain: "local", opset_import: ["": 21, "local": 1]> ring (p) => (q) { q = local.gnir (p) }
    <domain: "local", opset_import: ["": 21, "local": 1]> gnir (p) => (q) { q = local.ring (p) }""")
    got, report = trimmed(model)
    assert [(f.name, f.overload) for f in got.functions] == [("f", ""), ("f", "two")] and report.rewrites == 2


def test_function_of_the_default_domain() -> None:
    model = parse("g (float[2] x) => (float[2] y) { y = own (x) }")
    model.functions.append(
        h.make_function(
            "ai.onnx", "own", ["p"], ["q"], [h.make_node("Neg", ["p"], ["q"])], [h.make_opsetid("", 21)]
        )
    )
    assert len(trimmed(model)[0].functions) == 1


def test_training_keeps_what_it_may_use() -> None:
    model = parse(
        DEAD + '<domain: "local", opset_import: ["": 21]> f (p) => (q) { q = Relu (p)  l = Neg (p) }'
    )
    step = model.training_info.add().algorithm
    step.node.append(h.make_node("Add", ["h", "v"], ["t"]))
    got, report = trimmed(model)
    assert ops(got.graph) == ["Relu", "Add"] and [i.name for i in got.graph.initializer] == ["w", "v"]
    assert ops(got.functions[0]) == ["Relu"] and report.rewrites == 2
    assert [(r.node, r.reason) for r in report.refusals] == [
        ("f", "a training graph or a list of graphs may call it"),
        ("h", "a training graph or a list of graphs refers to what it makes"),
        ("v", "a training graph or a list of graphs refers to it"),
    ]


def test_defaults_of_inputs_stay_from_ir_4() -> None:
    text = "g (float[2] x, float[2] d = {1, 2}) => (float[2] y) { y = Relu (x) }"
    got, report = trimmed(text)
    assert report.rewrites == 0 and "default" in report.refusals[0].reason
    old = parse(text)
    old.ir_version = 3
    got, report = trimmed(old)
    assert report.rewrites == 1 and [i.name for i in got.graph.input] == ["x"] and not got.graph.initializer


def test_scale_of_a_dead_tensor_goes() -> None:
    model = parse(DEAD)
    for tensor, scale in (("y", "w"), ("d", "v")):
        note = model.graph.quantization_annotation.add(tensor_name=tensor)
        note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value=scale)
    got, _ = trimmed(model)
    assert [i.name for i in got.graph.initializer] == ["w"]


def test_subgraph_initializers() -> None:
    got, report = trimmed("""g (float[2] x, bool c) => (float[2] y) {
        y = If (c) <
            then_branch = t () => (float[2] w) <float[2] w = {1, 2}, float[2] v = {1, 2}> { d = Add (x, v) },
            else_branch = e () => (float[2] b) <float[2] w = {3, 4}, float[2] v = {3, 4}> { b = Add (x, v) }
        >
    }""")
    kept = [[t.name for t in a.g.initializer] for a in got.graph.node[0].attribute]
    assert kept == [["w"], ["v"]] and report.rewrites == 3


def test_what_an_earlier_pass_left() -> None:
    """A node whose outputs were taken over is dead, though GraphSurgeon still lists it."""
    model = Model.from_proto(parse("g (float[2] x) => (float[2] y) { h = Relu (x)  y = Neg (h) }"))
    main = model.main
    (made,) = main.add("Abs", [main.inputs[0]], of=[main.nodes[1]])
    main.replace(main.outputs[0], made)
    assert RemoveDead().run(model).rewrites == 2
    assert [n.op for n in main.nodes] == ["Abs"] and main.outputs[0].name == "y"
    onnx.checker.check_model(model.to_proto(), full_check=True)


def test_ten_thousand_nodes() -> None:
    """A chain, a dead twin of it, and thousands of weights that nobody reads."""
    nodes = [h.make_node("Neg", [f"t{i}"], [f"t{i + 1}"]) for i in range(5_000)]
    nodes += [h.make_node("Add", [f"d{i}" if i else "t0", "t0"], [f"d{i + 1}"]) for i in range(5_000)]
    ends = [h.make_tensor_value_info(name, FLOAT, [2]) for name in ("t0", "t5000")]
    weights = [onnx.numpy_helper.from_array(np.ones(2, np.float32), f"w{i}") for i in range(5_000)]
    model = Model.from_proto(h.make_model(h.make_graph(nodes, "g", ends[:1], ends[1:], weights)))
    start = time.perf_counter()
    assert RemoveDead().run(model).rewrites == 10_000
    assert time.perf_counter() - start < 10


def _peel(graph: Any, outer: set[str], called: set[str]) -> tuple[int, set[str]]:
    """Drop what one look shows to be unread: how many went, and the names that are read outside."""
    gone, read = 0, {o if isinstance(o, str) else o.name for o in graph.output}
    for node in graph.node:
        read.update(node.input)
        called.add(node.op_type)
        for attribute in node.attribute:
            went, captured = _peel(attribute.g, outer, called)
            gone, read = gone + went, read | captured
    kept = [n for n in graph.node if set(n.output) & read]
    gone += len(graph.node) - len(kept)
    del graph.node[:]
    graph.node.extend(kept)
    constants = list(getattr(graph, "initializer", ()))
    own = {o for n in kept for o in n.output} | {t.name for t in constants}
    if constants:
        del graph.initializer[:]
        graph.initializer.extend(t for t in constants if t.name in read)
        gone += len(constants) - len(graph.initializer)
    return gone, read - own


def oracle(model: onnx.ModelProto) -> onnx.ModelProto:
    """Peel the model until nothing comes off."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    while True:
        called: set[str] = set()
        gone, _ = _peel(model.graph, set(), called)
        for function in model.functions:
            gone += _peel(function, set(), called)[0]
        kept = [f for f in model.functions if f.name in called]
        if not gone and len(kept) == len(model.functions):
            return model
        del model.functions[:]
        model.functions.extend(kept)


@settings(max_examples=150, deadline=None)
@given(models())
def test_any_model_is_peeled(model: onnx.ModelProto) -> None:
    got, report = trimmed(model)
    onnx.checker.check_model(got, full_check=True)
    assert [v.tolist() for v in values(got)] == [v.tolist() for v in values(model)]
    wanted = oracle(model)
    del wanted.graph.value_info[:]
    made = {t for g in graphs(got) for n in g.node for t in n.output}
    assert {v.name for v in got.graph.value_info} <= made
    bare = onnx.ModelProto.FromString(got.SerializeToString())
    del bare.graph.value_info[:]
    assert bare == wanted
    lost = Counter(report.nodes_before) - Counter(report.nodes_after)
    assert report.rewrites > 0 or (not lost and got == model)


def test_a_note_says_how_much_of_what_went() -> None:
    _, report = trimmed(
        "g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Neg (x)  a = Abs (x)  b = Relu (a) }"
    )
    assert report.notes == ("removed 2 nodes, 1 initializer",) and report.rewrites == 3
    assert trimmed("g (float[2] x) => (float[2] y) { y = Neg (x) }")[1].notes == ()
