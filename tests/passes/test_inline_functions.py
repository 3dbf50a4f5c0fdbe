"""``inline-functions``: random functions in functions, against onnx's own inliner; and what a copy keeps."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnxruntime
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from graphkit import BadOption, Model
from graphkit.rewrite.registry import load_pass
from graphkit.testing import assert_equivalent, run

SPEC = "inline-functions"
slowly = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
FLOAT, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("l", 1)]
NAMES = ["a", "b", "h", "x", "o"]


class Body:
    """Draws nodes on tensors of shape [2]; calls only functions that are there already, so none recurs."""

    def __init__(
        self, draw: Any, count: Any, functions: list[onnx.FunctionProto], attributes: bool, defaults: bool
    ) -> None:
        self.count = count
        self.defaults = defaults
        self.draw = draw
        self.functions = functions
        self.attributes = attributes

    def fill(self, seen: list[str], taken: set[str], depth: int, count: int) -> list[onnx.NodeProto]:
        """``seen`` are the tensors in sight; ``taken`` are names that a new one must not have; both grow."""
        nodes: list[onnx.NodeProto] = []
        for _ in range(count):
            kind = self.draw(st.sampled_from(["unary", "add", "leaky", "constant", "call", "call", "if"]))
            nodes += getattr(self, f"_{kind}")(seen, taken, depth)
        return nodes

    def fresh(self, taken: set[str]) -> str:
        name = self.draw(st.sampled_from(NAMES))
        while name in taken:
            name += "_"
        taken.add(name)
        return name

    def pick(self, seen: list[str]) -> str:
        return str(self.draw(st.sampled_from(seen)))

    def label(self, hint: str) -> str:
        """A name for a node, or none; ONNX Runtime wants those of a scope and its bodies to differ."""
        return f"{hint}{next(self.count)}" if self.draw(st.booleans()) else ""

    def made(
        self, op: str, inputs: list[str], seen: list[str], taken: set[str], **attributes: Any
    ) -> list[Any]:
        name = self.fresh(taken)
        node = helper.make_node(op, inputs, [name], self.label("node"), **attributes)
        seen.append(name)
        return [node]

    def _unary(self, seen: list[str], taken: set[str], depth: int) -> list[Any]:
        return self.made(self.draw(st.sampled_from(["Neg", "Abs", "Relu"])), [self.pick(seen)], seen, taken)

    def _add(self, seen: list[str], taken: set[str], depth: int) -> list[Any]:
        return self.made("Add", [self.pick(seen), self.pick(seen)], seen, taken)

    def _leaky(self, seen: list[str], taken: set[str], depth: int) -> list[Any]:
        (node,) = self.made("LeakyRelu", [self.pick(seen)], seen, taken, alpha=0.5)
        if self.attributes and self.draw(st.booleans()):
            node.attribute[0].ClearField("f")
            node.attribute[0].ref_attr_name = "slope"
        return [node]

    def _constant(self, seen: list[str], taken: set[str], depth: int) -> list[Any]:
        values = numpy_helper.from_array(np.array([self.draw(st.integers(-2, 2)), 1], np.float32), "k")
        return self.made("Constant", [], seen, taken, value=values)

    def _call(self, seen: list[str], taken: set[str], depth: int) -> list[Any]:
        if not self.functions:
            return []
        function = self.draw(st.sampled_from(self.functions))
        inputs = [self.pick(seen) for _ in function.input]
        outputs = [self.fresh(taken) for _ in function.output]
        node = helper.make_node(function.name, inputs, outputs, self.label("call"), domain="l")
        form = self.draw(st.sampled_from(["given", "handed on", "left out"]))
        if form == "given" or (form == "left out" and not self.defaults):
            node.attribute.append(helper.make_attribute("slope", 0.25))
        elif form == "handed on" and self.attributes:
            node.attribute.add(name="slope", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope")
        elif form == "handed on":
            node.attribute.append(helper.make_attribute("slope", 0.75))
        seen += outputs
        return [node]

    def _if(self, seen: list[str], taken: set[str], depth: int) -> list[Any]:
        if not depth:
            return []
        branches = {}
        for branch in ("then_branch", "else_branch"):
            inner = list(seen)
            nodes = self.fill(inner, taken, depth - 1, self.draw(st.integers(1, 2)))
            result = f"{branch}_{self.fresh(taken)}"
            nodes.append(helper.make_node("Identity", [inner[-1]], [result]))
            out = helper.make_tensor_value_info(result, FLOAT, [2])
            branches[branch] = helper.make_graph(nodes, branch, [], [out])
        return self.made("If", ["p"], seen, taken, **branches)


@st.composite
def models(draw: Any, *, defaults: bool) -> onnx.ModelProto:
    functions: list[onnx.FunctionProto] = []
    count = itertools.count()
    for i in range(draw(st.integers(1, 3))):
        body = Body(draw, count, list(functions), True, defaults)
        seen, taken = ["x", "a"], {"x", "a", "p", "f_out", "g_out"}
        nodes = body.fill(seen, taken, 1, draw(st.integers(1, 4)))
        nodes.insert(
            0, helper.make_node("Constant", [], ["p"], value=numpy_helper.from_array(np.array(i % 2 > 0)))
        )
        nodes.append(helper.make_node("Neg", [seen[-1]], ["f_out"]))
        more = [name for name in seen if name not in ("x", "a")]
        outputs = ["f_out", *draw(st.lists(st.sampled_from(more), max_size=1) if more else st.just([]))]
        made = helper.make_function("l", f"f{i}", ["x", "a"], outputs, nodes, OPSETS)
        if defaults:
            made.attribute_proto.append(helper.make_attribute("slope", 0.125))
        else:
            made.attribute.append("slope")
        functions.append(made)
    seen, taken = ["x"], {"x", "p", "y"}
    main = Body(draw, count, functions, False, defaults)
    nodes = main.fill(seen, taken, 1, draw(st.integers(1, 4)))
    nodes += main._call(seen, taken, 0)
    nodes.append(helper.make_node("Neg", [seen[-1]], ["y"]))
    inputs = [helper.make_tensor_value_info("x", FLOAT, [2]), helper.make_tensor_value_info("p", BOOL, [])]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", FLOAT, [2])])
    return helper.make_model(graph, opset_imports=OPSETS, functions=functions, ir_version=10)


def ran(model: onnx.ModelProto, p: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {"x": np.array([-1.5, 2.25], np.float32), "p": np.array(p)})[0]


def runs(model: onnx.ModelProto) -> bool:
    """Whether ONNX Runtime takes the model: it inlines functions too, and fails at names that are right."""
    try:
        ran(model, True)
    except Exception:
        return False
    return True


@slowly
@given(models(defaults=False))  # in nested calls, those are lost in onnx 1.23's
def test_the_result_is_that_of_the_inliner_of_onnx(model: onnx.ModelProto) -> None:
    assume(runs(model))
    after = assert_equivalent(SPEC, model)
    called = {n.op_type for n in model.graph.node if n.domain == "l"}
    assert {f.name for f in after.functions}.isdisjoint(called)
    onnx.checker.check_model(after, full_check=True)
    theirs = onnx.inliner.inline_local_functions(model)
    for p in (False, True):
        np.testing.assert_array_equal(ran(after, p), ran(theirs, p))
    again, report = run(SPEC, after)
    assert report.rewrites == 0
    assert again.SerializeToString() == after.SerializeToString()


@slowly
@given(models(defaults=True))
def test_defaults_of_attributes_are_kept(model: onnx.ModelProto) -> None:
    assume(runs(model))
    after = assert_equivalent(SPEC, model)
    assert not any(n.domain == "l" for n in after.graph.node)
    for p in (False, True):
        np.testing.assert_array_equal(ran(after, p), ran(model, p))


@slowly
@given(models(defaults=True), st.sampled_from(["f0", "f1", "f2"]))
def test_what_is_excepted_stays_and_the_rest_goes(model: onnx.ModelProto, name: str) -> None:
    assume(runs(model))
    after = assert_equivalent(f"{SPEC}:except=l::{name}", model)
    kept = {f.name: f.SerializeToString() for f in model.functions}
    calls = {n.op_type for n in after.graph.node if n.domain == "l"}
    assert calls <= {name}
    only = assert_equivalent(f"{SPEC}:only=l::{name}", model)
    assert name not in {n.op_type for n in only.graph.node if n.domain == "l"}
    unchanged = [f for f in only.functions if f.name < name]  # none of those calls it
    assert all(f.SerializeToString() == kept[f.name] for f in unchanged)


def parsed(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(text)


def test_a_copy_keeps_what_the_file_says_of_a_node() -> None:
    model = parsed(
        """<ir_version: 10, opset_import: ["": 17, "l": 1]>
        g (float[2] x) => (float[2] y) { [call] y = l.f (x) }
        <domain: "l", opset_import: ["": 17]> f (v) => (o) { [first] h = Neg (v)  [second] o = Relu (h) }"""
    )
    node = model.functions[0].node[0]
    node.doc_string = "why"
    node.metadata_props.add(key="pkg.torch.stack", value="line 3")
    after, _ = run(SPEC, model)
    copy = after.graph.node[0]
    assert (copy.name, copy.doc_string) == ("call/first", "why")
    props = {p.key: p.value for p in copy.metadata_props}
    assert props["pkg.torch.stack"] == "line 3"
    assert '"of":["y"]' in props["graphkit.origin"]
    assert list(copy.output) == ["call/h"]
    assert list(after.graph.node[1].output) == ["y"]


def test_calls_keep_their_overload_when_their_caller_goes() -> None:
    model = parsed(
        """<ir_version: 10, opset_import: ["": 17, "l": 1]>
        g (float[2] x) => (float[2] y) { y = l.f (x) }
        <domain: "l", opset_import: ["": 17, "l": 1]> f (v) => (o) { o = l.h:two (v) }
        <domain: "l", overload: "one", opset_import: ["": 17]> h (v) => (o) { o = Neg (v) }
        <domain: "l", overload: "two", opset_import: ["": 17]> h (v) => (o) { o = Abs (v) }"""
    )
    after = assert_equivalent(f"{SPEC}:only=l::f", model)
    (node,) = after.graph.node
    assert (node.op_type, node.overload) == ("h", "two")
    whole = assert_equivalent(SPEC, model)
    assert [n.op_type for n in whole.graph.node] == ["Abs"]
    assert [f.overload for f in whole.functions] == ["one"]  # nobody ever called it


def test_weights_in_data_files_stay_there(tmp_path: Any) -> None:
    model = parsed(
        """<ir_version: 10, opset_import: ["": 17, "l": 1]>
        g (float[2] x) => (float[2] y) { y = l.f (x) }
        <domain: "l", opset_import: ["": 17]>
        f (v) => (o) { k = Constant <value = float[2] {1, 2}> ()  o = Add (v, k) }"""
    )
    tensor = model.functions[0].node[0].attribute[0].t
    np.array([3, 4], np.float32).tofile(tmp_path / "w.bin")
    tensor.CopyFrom(onnx.TensorProto(data_type=FLOAT, dims=[2], data_location=onnx.TensorProto.EXTERNAL))
    tensor.external_data.add(key="location", value="w.bin")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    loaded = Model.load(tmp_path / "m.onnx")
    load_pass(SPEC).run(loaded)
    found = loaded.to_proto().graph.node[0].attribute[0].t
    assert found.external_data[0].value == "w.bin"
    assert not found.raw_data


def test_a_graph_that_a_call_gives_is_copied_for_each_use() -> None:
    body = """g (float[2] x, bool p) => (float[2] y) {
      y = l.choose <other = e () => (float[2] b) { b = Mul (x, x) }> (x, p)
    }"""
    model = parsed(
        f"""<ir_version: 10, opset_import: ["": 17, "l": 1]>
        {body}
        <domain: "l", opset_import: ["": 17]> choose <other> (v, c) => (o) {{
          h = If (c) <then_branch = t () => (float[2] a) {{ a = Neg (v) }}, else_branch: graph = @other>
          q = If (c) <then_branch = t () => (float[2] a) {{ a = Abs (h) }}, else_branch: graph = @other>
          o = Add (h, q)
        }}"""
    )
    after, report = run(SPEC, model)
    assert report.rewrites == 1
    assert not after.functions
    onnx.checker.check_model(after, full_check=True)
    theirs = onnx.inliner.inline_local_functions(model)
    for p in (False, True):
        np.testing.assert_array_equal(ran(after, p), ran(theirs, p))


def test_what_the_model_does_not_import_is_imported() -> None:
    model = parsed(
        """<ir_version: 10, opset_import: ["l": 1]>
        g (float[2] x) => (float[2] y) { y = l.f (x) }
        <domain: "l", opset_import: ["": 17, "com.microsoft": 1]>
        f (v) => (o) { h = Neg (v)  o = com.microsoft.QuickGelu (h) }"""
    )
    after, _ = run(SPEC, model)
    assert {o.domain: o.version for o in after.opset_import} == {"l": 1, "": 17, "com.microsoft": 1}
    onnx.checker.check_model(after)


def test_a_function_that_calls_itself_is_refused() -> None:
    model = parsed(
        """<ir_version: 10, opset_import: ["": 17, "l": 1]>
        g (float[2] x) => (float[2] y) { y = l.f (x) }
        <domain: "l", opset_import: ["": 17, "l": 1]> f (v) => (o) { o = l.h (v) }
        <domain: "l", opset_import: ["": 17, "l": 1]> h (v) => (o) { o = l.f (v) }"""
    )
    from graphkit import PassFailed

    with pytest.raises(PassFailed, match="recursion"):  # no pass leaves such a model
        run(SPEC, model)


def test_a_name_that_fits_nothing_is_told() -> None:
    model = parsed(
        """<ir_version: 10, opset_import: ["": 17, "l": 1]>
        g (float[2] x) => (float[2] y) { y = l.f (x) }
        <domain: "l", opset_import: ["": 17]> f (v) => (o) { o = Neg (v) }"""
    )
    after, report = run(f"{SPEC}:only=l::g", model)
    assert after == model
    assert report.notes == ("no function is called 'l::g' (any more); there are l::f",)
    with pytest.raises(BadOption):
        load_pass(f"{SPEC}:ony=l::f")


def test_a_list_of_graphs_keeps_the_function_it_may_call() -> None:
    model = parsed(
        """<ir_version: 10, opset_import: ["": 17, "l": 1, "custom": 1]>
        g (float[2] x) => (float[2] y) { h = l.f (x)  y = custom.Choose (h) }
        <domain: "l", opset_import: ["": 17]> f (v) => (o) { o = Neg (v) }"""
    )
    inner = onnx.GraphProto(name="inner")
    inner.node.append(helper.make_node("f", ["x"], ["z"], domain="l"))
    model.graph.node[1].attribute.append(helper.make_attribute("options", [inner]))
    after, report = run(SPEC, model)
    assert [n.op_type for n in after.graph.node] == ["Neg", "Choose"]
    assert [f.name for f in after.functions] == ["f"]
    assert [r.reason for r in report.refusals] == ["a training graph or a list of graphs may call it"]


def test_a_list_of_graphs_that_may_name_what_is_in_the_function_keeps_the_call() -> None:
    model = parsed(
        """<ir_version: 10, opset_import: ["": 17, "l": 1, "custom": 1]>
        g (float[2] x) => (float[2] y) { y = l.f (x) }
        <domain: "l", opset_import: ["": 17, "custom": 1]>
        f (v) => (o) { h = Neg (v)  o = custom.Choose (h) }"""
    )
    inner = onnx.GraphProto(name="inner")
    inner.node.append(helper.make_node("Abs", ["h"], ["z"]))
    model.functions[0].node[1].attribute.append(helper.make_attribute("options", [inner]))
    after, report = run(SPEC, model)
    assert after == model
    assert "may name what is in the function" in report.refusals[0].reason
