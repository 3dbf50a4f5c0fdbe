"""Graph and Model as a pass uses them: every edit, in every kind of scope, comes out as one valid model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnx.helper as h
import onnx.parser
import onnx_graphsurgeon as gs
import onnxruntime
import pytest

from graphkit import Graph, Model
from graphkit.errors import BadInput, PassFailed

HEADER = '<ir_version: 10, opset_import: ["": 21, "local": 1]>\n'
FLOAT, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL
X = np.array([1.5, -2.5], np.float32)

CHAIN = "g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { [n] h = Add (x, w)  [m] y = Neg (h) }"
BRANCHES = """g (float[2] x, bool c) => (float[2] y) <float[2] w = {1, 2}> {
    h = Add (x, w)
    [If] y = If (c) <
        then_branch = t () => (float[2] a) <float[2] w = {3, 4}> { s = Add (h, w)  a = Relu (s) },
        else_branch = e () => (float[2] b) { s = Mul (h, h)  b = Relu (s) }
    >
}"""
CALL = """g (float[2] x) => (float[2] y) { y = local.f (x) }
<domain: "local", opset_import: ["": 21]>
f (p) => (q) { k = Constant <value = float[2] {3, 4}> ()  s = Add (p, k)  q = Neg (s) }"""


def model_of(text: str) -> Model:
    return Model.from_proto(onnx.parser.parse_model(HEADER + text))


def scope(model: Model, label: str) -> Graph:
    return next(s for s in model.scopes() if s.label == label)


def by_name(graph: Graph, name: str) -> Any:
    """The tensor of that name that a scope mentions."""
    tensors = [t for n in graph.nodes for t in (*n.inputs, *n.outputs)]
    return next(t for t in (*graph.inputs, *graph.outputs, *tensors) if t.name == name)


def valid(model: Model) -> onnx.ModelProto:
    """The exported model, which onnx.checker takes in full."""
    got = model.to_proto()
    onnx.checker.check_model(got, full_check=True)
    return got


def outputs(model: onnx.ModelProto, **feeds: Any) -> list[Any]:
    """The outputs for x = [1.5, -2.5], as ONNX Runtime computes them without optimisations."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    found = session.run(None, {i.name: feeds.get(i.name, X) for i in session.get_inputs()})
    return [np.asarray(a).tolist() for a in found]


def ops(graph: Any) -> list[str]:
    return [n.op_type for n in graph.node]


# -- looking


def test_scopes_and_labels() -> None:
    model = model_of(BRANCHES)
    assert [s.label for s in model.scopes()] == ["main", "main/If.then_branch", "main/If.else_branch"]
    then = model.scopes()[1]
    assert then.parent is model.main and model.main.parent is None
    assert model.main.scopes() == model.scopes() and then.scopes() == [then]
    assert repr(model.main) == "<Graph main: 2 nodes>"


def test_functions() -> None:
    model = model_of(CALL)
    (function,) = model.functions
    assert function.label == "function local::f" and function.is_function and not model.main.is_function
    assert model.scopes() == [model.main, function]
    assert [t.name for t in (*function.inputs, *function.outputs)] == ["p", "q"]


def test_producers_and_consumers() -> None:
    model = model_of(BRANCHES)
    main = model.main
    inner = by_name(main, "h")
    assert main.producer(inner) is main.nodes[0]
    assert [n.op for n in main.consumers(inner)] == ["Add", "Mul", "Mul"]
    assert main.producer(main.inputs[0]) is None and main.producer(by_name(main, "w")) is None


def test_is_output() -> None:
    model = model_of(BRANCHES)
    main, then = model.main, scope(model, "main/If.then_branch")
    assert main.is_output(main.outputs[0]) and main.is_output(then.outputs[0])
    assert not main.is_output(by_name(main, "h"))


def test_versions() -> None:
    model = model_of(CALL.replace("f (p)", "f (p)").replace('["": 21]>\nf', '["": 19]>\nf'))
    assert model.main.opset == 21 and model.functions[0].opset == 19
    assert model.main.version("local") == 1 and model.main.version("nobody") == 0
    inner = model_of(BRANCHES).scopes()[1]
    assert inner.opset == 21
    model.main.gs.opset = 22
    assert model.main.opset == 22


def test_counts() -> None:
    assert model_of(BRANCHES).main.counts() == {"Add": 2, "If": 1, "Mul": 1, "Relu": 2}
    assert model_of(CALL).main.counts() == {"local::f": 1, "Constant": 1, "Add": 1, "Neg": 1}


def test_values_shapes_and_dtypes() -> None:
    model = model_of(BRANCHES)
    main, then = model.main, scope(model, "main/If.then_branch")
    outer, inner = by_name(main, "w"), by_name(then, "w")
    assert outer is not inner
    assert main.value(outer).tolist() == [1, 2] and main.value(inner).tolist() == [3, 4]
    assert main.value(main.inputs[0]) is None and main.nbytes(main.inputs[0]) == 0
    assert main.is_constant(outer) and not main.is_constant(main.inputs[0])
    assert main.shape(outer) == (2,) and main.dtype(outer) == np.float32 and main.nbytes(outer) == 8
    assert main.shape(main.inputs[0]) == (2,) and main.dtype(main.inputs[1]) == np.bool_
    assert main.shape(by_name(main, "h")) is None and main.dtype(by_name(main, "h")) is None
    assert model.to_bytes() == bytes(model.file.data)


@pytest.mark.parametrize(
    "attribute, wanted",
    [
        ("value_float = 2.5", np.float32(2.5)),
        ("value_int = 7", np.int64(7)),
        ("value_ints = [1, 2]", np.array([1, 2], np.int64)),
        ("value_floats = [1.0, 2.0]", np.array([1, 2], np.float32)),
        ("value = int32[2] {5, 6}", np.array([5, 6], np.int32)),
        ('value_string = "s"', np.array("s", object)),
    ],
)
def test_values_of_constant_nodes(attribute: str, wanted: Any) -> None:
    model = model_of(f"g (float[2] x) => (float[2] y) {{ k = Constant <{attribute}> ()  y = Neg (x) }}")
    found = model.main.value(model.main.nodes[0].outputs[0])
    assert found is not None and found.dtype == np.asarray(wanted).dtype
    np.testing.assert_array_equal(found, wanted)


def test_input_with_a_default_is_no_constant() -> None:
    model = model_of("g (float[2] x, float[2] d = {1, 2}) => (float[2] y) { y = Add (x, d) }")
    tensor = by_name(model.main, "d")
    assert model.main.value(tensor) is None and not model.main.is_constant(tensor)


# -- add


def test_add_in_every_scope() -> None:
    for text in (CHAIN, BRANCHES, CALL):
        model = model_of(text)
        for view in model.scopes():
            (made,) = view.add("Identity", [view.nodes[-1].inputs[0]], of=[view.nodes[-1]])
            assert view.producer(made) is view.nodes[-1]
        valid(model)


def test_add_before_a_node() -> None:
    model = model_of(CHAIN)
    main = model.main
    main.add("Abs", [main.inputs[0]], before=main.nodes[1], name="mine")
    assert [n.op for n in main.nodes] == ["Add", "Abs", "Neg"] and main.nodes[1].name == "mine"


def test_add_names() -> None:
    main = model_of(CHAIN).main
    names = [main.add("Abs", [main.inputs[0]], of=[main.nodes[0]])[0].name for _ in range(2)]
    assert names == ["n/Abs_output_0", "n/Abs_output_0_1"] or len(set(names)) == 2
    assert len({n.name for n in main.nodes}) == len(main.nodes)
    (named,) = main.add("Abs", [main.inputs[0]], outputs=["h"])
    assert named.name == "h_1"


def test_add_optional_inputs_and_outputs() -> None:
    model = model_of(CHAIN)
    main = model.main
    low, top = main.constant(np.float32(0), "low"), main.outputs[0]
    (clipped,) = main.add("Clip", [by_name(main, "h"), None, low], before=main.nodes[1])
    main.rewire(main.nodes[-1], by_name(main, "h"), clipped)
    made = main.add("Dropout", [clipped], outputs=["kept", ""])
    got = valid(model)
    assert list(got.graph.node[1].input) == ["h", "", "low"]
    assert list(got.graph.node[-1].output) == ["kept", ""] and len(made) == 2
    assert outputs(got) == [[-0.0, 0.5]] and top.name == "y"


def test_add_attributes_and_domain() -> None:
    model = model_of(CHAIN)
    main = model.main
    attrs = {
        "alpha": 0.5,
        "name": "s",
        "axes": [1, 2],
        "f": [1.0, 2.0],
        "t": gs.Constant("t", np.arange(3.0)),
    }
    main.add("Thing", [main.inputs[0]], attrs, domain="mine")
    node = model.to_proto().graph.node[-1]
    got = {a.name: h.get_attribute_value(a) for a in node.attribute}
    assert (got["alpha"], got["name"], got["axes"], got["f"]) == (0.5, b"s", [1, 2], [1.0, 2.0])
    assert onnx.numpy_helper.to_array(got["t"]).tolist() == [0, 1, 2]
    assert {o.domain: o.version for o in model.to_proto().opset_import}["mine"] == 1


def test_origins_are_recorded() -> None:
    model = model_of(CHAIN)
    model.begin("mine:a=1")
    main = model.main
    (made,) = main.add("Abs", [main.inputs[0]], of=main.nodes[:2])
    main.add("Neg", [made], of=[main.producer(made)])
    constant = main.constant(np.ones(2, "f4"), "k", of=[by_name(main, "w")])
    main.add("Add", [made, constant])
    got = model.to_proto().graph
    told = [{p.key: p.value for p in n.metadata_props}.get("graphkit.origin") for n in got.node]
    assert told[0] is None and told[4] is None
    assert told[2] == told[3] == '{"pass":"mine:a=1","of":["h","y"]}'
    assert got.initializer[1].metadata_props[0].value == '{"pass":"mine:a=1","of":["w"]}'
    again = Model.from_proto(model.to_proto())
    last = again.main.nodes[-1]
    again.main.add("Neg", last.outputs, of=[again.main.nodes[-2]])
    told = [p.value for p in again.to_proto().graph.node[-1].metadata_props]
    assert told == ['{"pass":"","of":["h","y"]}']


# -- constants


def test_constant_in_every_scope() -> None:
    for text in (CHAIN, BRANCHES, CALL):
        model = model_of(text)
        view = model.scopes()[-1]
        last = view.nodes[-1]
        (shifted,) = view.add("Add", [last.inputs[0], view.constant(np.full(2, 5, "f4"), "w")], before=last)
        view.rewire(last, last.inputs[0], shifted)
        got = valid(model)
        before = outputs(onnx.parser.parse_model(HEADER + text), c=np.array(False))
        assert outputs(got, c=np.array(False)) != before


def test_constant_in_a_function_is_a_node() -> None:
    model = model_of(CALL)
    (view,) = model.functions
    view.add("Add", [view.inputs[0], view.constant(np.ones(2, "f4"))])
    got = valid(model).functions[0]
    assert ops(got) == ["Constant", "Constant", "Add", "Neg", "Add"]


def test_constant_of_two_branches_is_in_the_scope_around() -> None:
    model = model_of(BRANCHES)
    shared = model.main.constant(np.ones(2, "f4"), "shared")
    for view in model.scopes()[1:]:
        view.rewire(view.nodes[0], view.nodes[0].inputs[1], shared)
    got = valid(model)
    assert [t.name for t in got.graph.initializer] == ["w", "shared"]


def test_constant_of_two_functions_is_refused() -> None:
    text = CALL + '\n<domain: "local", opset_import: ["": 21]> g (p) => (q) { q = Neg (p) }'
    model = model_of(text)
    shared = model.main.constant(np.ones(2, "f4"))
    for view in model.functions:
        view.add("Add", [view.inputs[0], shared])
    with pytest.raises(PassFailed, match="two functions"):
        model.export()


def test_constant_that_nobody_reads_is_not_written() -> None:
    model = model_of(CHAIN)
    model.main.constant(np.ones(1000, "f4"))
    assert model.to_bytes() == bytes(model.file.data)


@pytest.mark.parametrize(
    "kind", ["bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "int4", "uint4", "float4_e2m1fn"]
)
def test_constants_of_small_types(kind: str) -> None:
    import ml_dtypes

    model = model_of(CHAIN)
    values = np.array([1, 0, 1], getattr(ml_dtypes, kind))
    model.main.add("Identity", [model.main.constant(values, "k")])
    got = Model.from_proto(model.to_proto())
    tensor = by_name(got.main, "k")
    assert got.main.dtype(tensor) == values.dtype and got.main.shape(tensor) == (3,)
    assert got.main.value(tensor).astype(np.float32).tolist() == [1, 0, 1]


@pytest.mark.parametrize("values", [np.array(["a", "b"], object), np.zeros((0, 3), "f4"), np.array(True)])
def test_constants_of_odd_values(values: Any) -> None:
    model = model_of(CHAIN)
    model.main.add("Identity", [model.main.constant(values, "k")])
    got = Model.from_proto(model.to_proto())
    assert got.main.value(by_name(got.main, "k")).tolist() == values.tolist()


# -- replace


def test_replace_inner_tensor_by_a_new_node() -> None:
    """The new node writes the old name, so that everything that knows it still does."""
    model = model_of(CHAIN)
    main = model.main
    old = by_name(main, "h")
    (made,) = main.add("Mul", main.nodes[0].inputs, before=main.nodes[0], of=[main.nodes[0]])
    main.replace(old, made)
    main.remove([main.nodes[1]])
    got = valid(model)
    assert ops(got.graph) == ["Mul", "Neg"] and list(got.graph.node[0].output) == ["h"]
    assert outputs(got) == [[-1.5, 5.0]]


def test_replace_graph_output() -> None:
    model = model_of(CHAIN)
    main = model.main
    (made,) = main.add("Abs", [by_name(main, "h")], of=[main.nodes[1]])
    main.replace(main.outputs[0], made)
    main.remove([main.nodes[1]])
    got = valid(model)
    assert ops(got.graph) == ["Add", "Abs"] and got.graph.output[0].name == "y"
    assert outputs(got) == [[2.5, 0.5]]


def test_replace_graph_output_by_a_graph_input() -> None:
    model = model_of(CHAIN)
    main = model.main
    main.replace(main.outputs[0], main.inputs[0])
    main.remove([n for n in main.nodes if n.op == "Neg"])
    got = valid(model)
    assert ops(got.graph)[-1] == "Identity" and got.graph.output[0].name == "y"
    assert outputs(got) == [X.tolist()]


def test_replace_graph_output_by_an_older_tensor() -> None:
    model = model_of(CHAIN)
    main = model.main
    main.replace(main.outputs[0], by_name(main, "h"))
    main.remove([n for n in main.nodes if n.op == "Neg"])
    got = valid(model)
    assert outputs(got) == [[2.5, -0.5]] and got.graph.output[0].name == "y"


def test_replace_by_a_constant() -> None:
    model = model_of(CHAIN)
    main = model.main
    old = by_name(main, "h")
    main.replace(old, main.constant(np.full(2, 3, "f4"), "k"))
    assert outputs(valid(model)) == [[-3, -3]]
    model = model_of(CHAIN)
    model.main.replace(model.main.outputs[0], model.main.constant(np.full(2, 3, "f4"), "k"))
    model.main.remove([n for n in model.main.nodes if n.op == "Neg"])
    assert outputs(valid(model)) == [[3, 3]]


def test_replace_a_graph_input() -> None:
    model = model_of(CHAIN)
    main = model.main
    main.replace(main.inputs[0], main.constant(np.zeros(2, "f4"), "zero"))
    got = valid(model)
    assert [i.name for i in got.graph.input] == ["x"] and outputs(got) == [[-1, -2]]


def test_replace_an_initializer_that_is_an_output() -> None:
    model = model_of("g (float[2] x) => (float[2] y, float[2] w) <float[2] w = {1, 2}> { y = Add (x, w) }")
    main = model.main
    (made,) = main.add("Neg", [main.inputs[0]])
    main.replace(main.outputs[1], made)
    got = valid(model)
    assert [o.name for o in got.graph.output] == ["y", "w"]
    assert outputs(got)[1] == [-1.5, 2.5]


def test_replace_initializer_output_by_an_older_tensor() -> None:
    model = model_of("g (float[2] x) => (float[2] y, float[2] w) <float[2] w = {1, 2}> { y = Add (x, w) }")
    main = model.main
    main.replace(main.outputs[1], main.inputs[0])
    got = valid(model)
    assert [o.name for o in got.graph.output] == ["y", "w"] and not got.graph.initializer
    assert outputs(got) == [[3, -5], X.tolist()]


def test_replace_where_an_output_is_an_input() -> None:
    """x is an input and an output; what else reads x can be given another tensor."""
    model = model_of("g (float[2] x) => (float[2] x, float[2] y) { y = Neg (x) }")
    main = model.main
    assert main.outputs[0] is main.inputs[0] and main.is_output(main.inputs[0])
    (made,) = main.add("Abs", [main.inputs[0]])
    main.rewire(main.nodes[0], main.inputs[0], made)
    assert outputs(valid(model)) == [X.tolist(), [-1.5, -2.5]]


def test_replace_a_tensor_that_is_two_outputs() -> None:
    model = model_of("g (float[2] x) => (float[2] y) { y = Neg (x) }")
    main = model.main
    main.outputs.append(main.outputs[0])
    (made,) = main.add("Abs", [main.inputs[0]])
    main.replace(main.outputs[0], made)
    main.remove([main.nodes[0]])
    got = model.to_proto()
    assert [o.name for o in got.graph.output] == ["y", "y"] and ops(got.graph) == ["Abs"]


def test_replace_what_a_subgraph_captures() -> None:
    model = model_of(BRANCHES)
    main = model.main
    (made,) = main.add("Mul", main.nodes[0].inputs, before=main.nodes[0], of=[main.nodes[0]])
    main.replace(by_name(main, "h"), made)
    main.remove([main.nodes[1]])
    got = valid(model)
    assert ops(got.graph) == ["Mul", "If"]
    assert outputs(got, c=np.array(True)) == [[4.5, 0]]


def test_replace_in_subgraphs_and_functions() -> None:
    for text, label in ((BRANCHES, "main/If.else_branch"), (CALL, "function local::f")):
        model = model_of(text)
        view = scope(model, label)
        last = view.nodes[-1]
        (made,) = view.add("Abs", [last.inputs[0]], before=last, of=[last])
        view.replace(view.outputs[0], made)
        view.remove([last])
        name = view.outputs[0].name
        got = valid(model)
        assert view.outputs[0].name == name and "Abs" in model.main.counts()
        assert np.all(np.array(outputs(got, c=np.array(False))) >= 0)


def test_replace_output_of_a_branch_by_an_outer_tensor() -> None:
    model = model_of(BRANCHES)
    then = scope(model, "main/If.then_branch")
    then.replace(then.outputs[0], by_name(model.main, "h"))
    then.remove([n for n in then.nodes if n.op == "Relu"])
    got = valid(model)
    assert outputs(got, c=np.array(True)) == [[2.5, -0.5]]
    assert [a.g.output[0].name for a in got.graph.node[1].attribute] == ["a", "b"]


def test_replace_by_itself() -> None:
    model = model_of(CHAIN)
    model.main.replace(model.main.outputs[0], model.main.outputs[0])
    assert model.to_bytes() == bytes(model.file.data)


def test_replace_one_of_several_outputs() -> None:
    model = model_of("g (float[4] x) => (float[2] y) { y, z = Split <num_outputs = 2> (x) }")
    main = model.main
    (made,) = main.add("Abs", [main.nodes[0].outputs[1]])
    main.replace(main.outputs[0], made)
    got = valid(model)
    assert list(got.graph.node[0].output) == ["y_1", "z"] and list(got.graph.node[1].output) == ["y"]


# -- remove, initializers, order


def test_remove_unlinks() -> None:
    model = model_of(BRANCHES)
    main = model.main
    inner, outer = by_name(main, "h"), by_name(main, "w")
    main.remove([main.nodes[1]])
    assert not inner.outputs and [n.op for n in outer.outputs] == ["Add"] and not main.outputs[0].inputs


def test_remove_one_of_two_equal_nodes() -> None:
    text = "g (float[2] x) => (float[2] y) { [n] a = Neg (x)  [n] b = Neg (x)  y = Add (a, b) }"
    model = model_of(text)
    main = model.main
    main.rewire(main.nodes[2], main.nodes[1].outputs[0], main.nodes[0].outputs[0])
    main.remove([main.nodes[1]])
    assert list(model.to_proto().graph.node[1].input) == ["a", "a"]
    assert [n.op for n in main.inputs[0].outputs] == ["Neg"]


def test_unused_initializers() -> None:
    text = """g (float[2] x, float[2] d = {1, 2}) => (float[2] y, float[2] o)
        <float[2] o = {1, 2}, float[2] u = {3, 4}> { y = Neg (x) }"""
    model = model_of(text)
    main = model.main
    assert [t.name for t in main.unused_initializers()] == ["u"]
    main.remove_initializer(main.unused_initializers()[0])
    assert main.unused_initializers() == []
    assert [t.name for t in valid(model).graph.initializer] == ["d", "o"]
    assert model_of(CALL).functions[0].unused_initializers() == []


def test_remove_initializer_in_use() -> None:
    model = model_of(CHAIN)
    with pytest.raises(PassFailed, match="initializer 'w' is still read by 'n'"):
        model.main.remove_initializer(by_name(model.main, "w"))


def test_rewire_every_use_of_one_node() -> None:
    model = model_of("g (float[2] x) => (float[2] y) { h = Neg (x)  y = Add (h, h) }")
    main = model.main
    main.rewire(main.nodes[1], by_name(main, "h"), main.inputs[0])
    assert list(valid(model).graph.node[1].input) == ["x", "x"]
    assert len(main.inputs[0].outputs) == 3


def test_sort_is_stable_and_sees_captures() -> None:
    model = model_of(BRANCHES)
    main = model.main
    main.nodes[:] = main.nodes[::-1]
    (late,) = main.add("Abs", [main.inputs[0]])
    main.sort()
    assert [n.op for n in main.nodes] == ["Add", "If", "Abs"] and late.inputs
    order = list(main.nodes)
    main.sort()
    assert [id(n) for n in main.nodes] == [id(n) for n in order]


def test_long_reversed_chain() -> None:
    model = model_of(CHAIN)
    main = model.main
    last = main.outputs[0]
    for _ in range(5000):
        (last,) = main.add("Neg", [last])
    main.nodes[:] = main.nodes[::-1]
    main.sort()
    onnx.checker.check_model(model.to_proto())


# -- names


def test_fresh_names() -> None:
    model = model_of(BRANCHES + "\n")
    assert model.fresh_name("new") == "new" and model.fresh_name("new") == "new_1"
    for taken in ("x", "w", "If", "s", "a"):
        assert model.fresh_name(taken) != taken
    assert model.fresh_name("")


@pytest.mark.parametrize("place", [0, 1])
def test_a_second_tensor_of_one_name_is_refused(place: int) -> None:
    model = model_of(CHAIN)
    main = model.main
    clash = gs.Variable(["h", "x"][place], np.float32, (2,))
    main.nodes.append(gs.Node("Abs", "q", {}, [main.inputs[0]], [clash]))
    main.nodes.append(gs.Node("Abs", "r", {}, [clash], [gs.Variable("z")]))
    with pytest.raises(PassFailed, match="named '[hx]'"):
        model.export()


def test_a_constant_that_hides_another_is_refused() -> None:
    model = model_of(BRANCHES)
    then = scope(model, "main/If.then_branch")
    then.nodes.append(gs.Node("Abs", "q", {}, [gs.Constant("w", np.ones(2, "f4"))], [gs.Variable("z")]))
    with pytest.raises(PassFailed, match="'w'"):
        model.export()


def test_a_name_of_the_scope_around_is_refused() -> None:
    """A new tensor of a branch that is called like an outer one which the branch captures."""
    model = model_of(BRANCHES)
    then = scope(model, "main/If.then_branch")
    clash = gs.Variable("h")
    then.nodes.insert(0, gs.Node("Abs", "q", {}, [by_name(model.main, "x")], [clash]))
    then.rewire(then.nodes[2], by_name(then, "s"), clash)
    with pytest.raises(PassFailed, match="'h'"):
        model.export()


def test_rename_everywhere() -> None:
    model = model_of(BRANCHES)
    main = model.main
    main.rename(by_name(main, "h"), "k")
    main.rename(by_name(scope(model, "main/If.then_branch"), "w"), "v")
    main.rename(main.outputs[0], "out")
    got = valid(model)
    assert got.graph.output[0].name == "out"
    then, other = (a.g for a in got.graph.node[1].attribute)
    assert list(then.node[0].input) == ["k", "v"] and then.initializer[0].name == "v"
    assert list(other.node[0].input) == ["k", "k"]


# -- plain GraphSurgeon


def test_new_function_from_graphsurgeon() -> None:
    model = model_of(CHAIN)
    main = model.main
    p, q = gs.Variable("p"), gs.Variable("q")
    body = [gs.Node("Abs", "abs", {}, [p], [q])]
    main.gs.functions.append(gs.Function("twice", "mine", nodes=body, inputs=[p], outputs=[q], opset=21))
    (made,) = main.add("twice", [by_name(main, "h")], domain="mine", of=[main.nodes[1]])
    main.replace(main.outputs[0], made)
    main.remove([main.nodes[1]])
    assert model.functions[0].label == "function mine::twice"
    got = valid(model)
    assert [f.name for f in got.functions] == ["twice"] and outputs(got) == [[2.5, 0.5]]
    assert {o.domain for o in got.opset_import} == {"", "local", "mine"}
    assert {o.domain: o.version for o in got.functions[0].opset_import} == {"": 21}


def test_remove_functions() -> None:
    model = model_of(CALL)
    main = model.main
    (made,) = main.add("Neg", [main.inputs[0]])
    main.replace(main.outputs[0], made)
    main.remove([main.nodes[0]])
    model.remove_functions(model.functions)
    got = valid(model)
    assert not got.functions and not model.functions and outputs(got) == [[-1.5, 2.5]]


def test_new_subgraphs_from_graphsurgeon() -> None:
    """Branches that capture an outer tensor, with a constant of their own."""
    model = model_of("g (float[2] x, bool c) => (float[2] y) { h = Abs (x)  y = Neg (h) }")
    main = model.main

    def branch(op: str, name: str) -> Any:
        out = gs.Variable(name, np.float32, (2,))
        constant = gs.Constant(f"{name}_k", np.array([3, 4], np.float32))
        return gs.Graph([gs.Node(op, name, {}, [by_name(main, "h"), constant], [out])], [], [out], name=name)

    attrs = {"then_branch": branch("Add", "a"), "else_branch": branch("Mul", "b")}
    (made,) = main.add("If", [main.inputs[1]], attrs, of=[main.nodes[1]])
    main.replace(main.outputs[0], made)
    main.remove([main.nodes[1]])
    got = valid(model)
    assert outputs(got, c=np.array(True)) == [[4.5, 6.5]] and outputs(got, c=np.array(False)) == [[4.5, 10]]
    assert [len(a.g.initializer) for a in got.graph.node[1].attribute] == [1, 1]
    assert len(model.scopes()) == 3


def test_one_subgraph_in_two_nodes_is_refused() -> None:
    model = model_of("g (float[2] x, bool c) => (float[2] y) { h = Abs (x)  y = Neg (h) }")
    main = model.main
    out = gs.Variable("a", np.float32, (2,))
    body = gs.Graph([gs.Node("Neg", "n", {}, [by_name(main, "h")], [out])], [], [out])
    main.add("If", [main.inputs[1]], {"then_branch": body, "else_branch": body})
    with pytest.raises(PassFailed, match="each its own copy"):
        model.export()


def test_graphsurgeon_layer() -> None:
    model = model_of(CHAIN)
    surgeon = model.main.gs
    (made,) = surgeon.layer(op="Abs", inputs=[surgeon.outputs[0]], outputs=[gs.Variable("z")])
    made.dtype, made.shape = np.dtype(np.float32), [2]
    surgeon.outputs.append(made)
    got = valid(model)
    assert [o.name for o in got.graph.output] == ["y", "z"] and outputs(got)[1] == [2.5, 0.5]


def test_graphsurgeon_cleanup() -> None:
    model = model_of(CHAIN)
    surgeon = model.main.gs
    surgeon.outputs[:] = [by_name(model.main, "h")]
    surgeon.outputs[0].dtype, surgeon.outputs[0].shape = np.dtype(np.float32), [2]
    surgeon.cleanup().toposort()
    got = valid(model)
    assert ops(got.graph) == ["Add"] and outputs(got) == [[2.5, -0.5]]


def test_graphsurgeon_cleanup_keeps_subgraphs() -> None:
    model = model_of(BRANCHES)
    model.main.gs.cleanup(recurse_subgraphs=True).toposort()
    assert outputs(valid(model), c=np.array(True)) == [[5.5, 3.5]]


def test_graphsurgeon_toposort() -> None:
    model = model_of(CHAIN)
    model.main.nodes.reverse()
    model.main.gs.toposort()
    assert model.to_bytes() == bytes(model.file.data)


def test_graphsurgeon_fold_constants() -> None:
    model = model_of("g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { k = Neg (w)  y = Add (x, k) }")
    model.main.gs.fold_constants().cleanup()
    got = valid(model)
    assert ops(got.graph) == ["Add"] and outputs(got) == [[0.5, -4.5]]
    assert [t.name for t in got.graph.initializer] == ["k"]


def test_graphsurgeon_values() -> None:
    """Values that were read but not changed leave the file as it is; those that were changed are written."""
    model = model_of(BRANCHES)
    tensor = by_name(scope(model, "main/If.then_branch"), "w")
    assert tensor.values.tolist() == [3, 4] and model.to_bytes() == bytes(model.file.data)
    tensor.values[0] = 7
    got = valid(model)
    assert onnx.numpy_helper.to_array(got.graph.node[1].attribute[0].g.initializer[0]).tolist() == [7, 4]
    tensor.values = np.zeros(2, np.float32)
    assert outputs(valid(model), c=np.array(True)) == [[2.5, 0]]


def test_graphsurgeon_new_input_and_opset() -> None:
    model = model_of(CHAIN)
    surgeon = model.main.gs
    extra = gs.Variable("extra", np.float32, ("n", 2))
    surgeon.inputs.append(extra)
    surgeon.nodes[1].inputs[0] = surgeon.inputs[0]
    surgeon.opset = 22
    surgeon.name = "renamed"
    got = valid(model)
    assert [i.name for i in got.graph.input] == ["x", "extra"] and got.graph.name == "renamed"
    assert [d.dim_param or d.dim_value for d in got.graph.input[1].type.tensor_type.shape.dim] == ["n", 2]
    assert {o.domain: o.version for o in got.opset_import} == {"": 22, "local": 1}


def test_graphsurgeon_node_edits() -> None:
    model = model_of("g (float[2] x) => (float[2] y) { h = LeakyRelu <alpha = 0.5> (x)  y = Neg (h) }")
    node = model.main.nodes[0]
    node.attrs["alpha"] = 0.25
    model.main.nodes[1].op = "Abs"
    got = valid(model)
    assert got.graph.node[0].attribute[0].f == 0.25 and ops(got.graph) == ["LeakyRelu", "Abs"]
    node.attrs.clear()
    assert not model.to_proto().graph.node[0].attribute


# -- out


def test_save_and_load(tmp_path: Path) -> None:
    model = model_of(BRANCHES)
    model.save(tmp_path / "same.onnx")
    assert (tmp_path / "same.onnx").read_bytes() == bytes(model.file.data)
    model.main.rename(by_name(model.main, "h"), "k")
    model.save(tmp_path / "new.onnx")
    again = Model.load(tmp_path / "new.onnx")
    assert again.to_proto() == model.to_proto() and again.where == str(tmp_path / "new.onnx")
    assert model.where == "model in memory" and again.locations() == set()


def external(folder: Path) -> Path:
    """A model with one weight of eight bytes in weights.bin."""
    proto = onnx.parser.parse_model(HEADER + CHAIN)
    tensor = proto.graph.initializer[0]
    values = onnx.numpy_helper.to_array(tensor)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, "w"))
    onnx.external_data_helper.set_external_data(tensor, "weights.bin", 0, 8)
    (folder / "weights.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    (folder / "in.onnx").write_bytes(proto.SerializeToString())
    return folder / "in.onnx"


def test_external_data_stays_outside(tmp_path: Path) -> None:
    model = Model.load(external(tmp_path))
    tensor = by_name(model.main, "w")
    assert model.locations() == {"weights.bin"} and model.main.nbytes(tensor) == 8
    assert model.main.value(tensor).tolist() == [1, 2] and model.main.shape(tensor) == (2,)
    model.main.rename(tensor, "v")
    (tmp_path / "other").mkdir()
    model.save(tmp_path / "other" / "out.onnx")
    assert (tmp_path / "other" / "weights.bin").read_bytes() == (tmp_path / "weights.bin").read_bytes()
    got = onnx.load(tmp_path / "other" / "out.onnx", load_external_data=False).graph.initializer[0]
    assert got.name == "v" and not got.raw_data and got.external_data[0].value == "weights.bin"


def test_removing_a_weight_removes_its_file_from_the_list(tmp_path: Path) -> None:
    model = Model.load(external(tmp_path))
    model.main.replace(by_name(model.main, "h"), model.main.inputs[0])
    model.main.remove([model.main.nodes[0]])
    assert model.locations() == set()


def test_external_data_needs_a_folder(tmp_path: Path) -> None:
    proto = onnx.load(external(tmp_path), load_external_data=False)
    with pytest.raises(BadInput, match="external data"):
        Model.from_proto(proto)
    assert Model.from_proto(proto, tmp_path).locations() == {"weights.bin"}


def test_producer_and_ir_version() -> None:
    model = model_of(CHAIN)
    model.main.gs.ir_version = 11
    model.main.gs.producer_name = "somebody"
    got = model.to_proto()
    assert (got.ir_version, got.producer_name) == (11, "somebody")


def test_skeleton_has_no_large_weights() -> None:
    model = model_of(CHAIN)
    big = model.main.constant(np.zeros(100_000, np.float32), "big")
    model.main.add("Abs", [big])
    skeleton = model.skeleton()
    assert skeleton.ByteSize() < 2000 and [t.name for t in skeleton.graph.initializer] == ["w", "big"]


@pytest.mark.parametrize("ir_version", [3, 10])
def test_an_edited_input_stays_before_those_with_a_default(ir_version: int) -> None:
    model = model_of(
        "g (float[n,4] x, float[n,4] w) => (float[n,4] y) <float[1,4] w = {1, 2, 3, 4}> { y = Add (x, w) }"
    )
    proto = onnx.ModelProto.FromString(bytes(model.file.data))
    proto.ir_version = ir_version
    model = Model.from_proto(proto)
    model.main.inputs[0].shape = [1, 4]
    model.main.rename(model.main.inputs[0], "xx")
    assert [i.name for i in model.to_proto().graph.input] == ["xx", "w"]
