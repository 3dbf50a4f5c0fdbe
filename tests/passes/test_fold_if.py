"""``fold-if``: random trees of Ifs, some decided and some not; and Silero VAD, which TensorRT refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from graphkit import Model
from graphkit.rewrite.pipeline import rewrite
from graphkit.rewrite.registry import load_pass
from graphkit.testing import assert_equivalent, run
from tests import corpus
from tests.tensorrt import verdicts

SPEC = "fold-if"
slowly = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
FLOAT, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL


class Tree:
    """Draws nodes that keep the shape [b, 3], with Ifs in them; ``open`` counts the undecided ones."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.count = 0
        self.open = 0
        self.decided = 0

    def name(self) -> str:
        self.count += 1
        return f"t{self.count}"

    def scope(self, given: str, depth: int, nodes: list[Any]) -> str:
        """A few nodes that begin with ``given``; returns what the last one makes."""
        last = given
        for _ in range(self.draw(st.integers(1, 3))):
            last = (
                self.an_if(last, depth, nodes)
                if depth and self.draw(st.booleans())
                else self.unary(last, nodes)
            )
        return last

    def unary(self, given: str, nodes: list[Any]) -> str:
        made = self.name()
        nodes.append(
            helper.make_node(self.draw(st.sampled_from(["Neg", "Abs", "Relu", "Sigmoid"])), [given], [made])
        )
        return made

    def an_if(self, given: str, depth: int, nodes: list[Any]) -> str:
        condition, decided = self.condition(given, nodes)
        self.open += not decided
        self.decided += decided
        made, branches = self.name(), {}
        for branch in ("then_branch", "else_branch"):
            inner: list[Any] = []
            result = self.scope(given, depth - 1, inner)
            out = helper.make_tensor_value_info(result, FLOAT, None)
            branches[branch] = helper.make_graph(inner, branch, [], [out])
        nodes.append(helper.make_node("If", [condition], [made], **branches))
        return made

    def constant(self, values: Any, nodes: list[Any]) -> str:
        made = self.name()
        value = numpy_helper.from_array(np.asarray(values))
        nodes.append(helper.make_node("Constant", [], [made], value=value))
        return made

    def op(self, op: str, given: list[str], nodes: list[Any], **attributes: Any) -> str:
        made = self.name()
        nodes.append(helper.make_node(op, given, [made], **attributes))
        return made

    def condition(self, given: str, nodes: list[Any]) -> tuple[str, bool]:
        """A condition, and whether it can be decided; ``given`` has the shape [b, 3]."""
        form = self.draw(st.integers(0, 6))
        if form == 0:
            return self.draw(st.sampled_from(["p", "q"])), False
        if form == 1:
            return self.constant(self.draw(st.sampled_from([True, False])), nodes), True
        shape = self.op("Shape", [given], nodes)
        if form == 2:  # a dim
            place = self.draw(st.integers(0, 1))
            dim = self.op("Gather", [shape, self.constant(place, nodes)], nodes)
            wanted = self.constant(self.draw(st.sampled_from([1, 3])), nodes)
            return self.op(self.draw(st.sampled_from(["Equal", "Less"])), [dim, wanted], nodes), place == 1
        if form == 3:  # the rank
            rank = self.op("Size", [shape], nodes)
            equal = self.op("Equal", [rank, self.constant(self.draw(st.sampled_from([2, 3])), nodes)], nodes)
            return self.op("Not", [equal], nodes), True
        if form == 4:
            dim = self.op("Gather", [shape, self.constant([1], nodes)], nodes)
            return self.op("Cast", [dim], nodes, to=BOOL), True
        first, one = self.condition(given, nodes)
        flag = self.draw(st.booleans())
        op = self.draw(st.sampled_from(["And", "Or"]))
        alone = flag == (op == "Or")  # true or anything, false and anything
        joined = self.op(op, [first, self.constant(flag, nodes)], nodes)
        return joined, one or alone


@st.composite
def models(draw: Any) -> tuple[onnx.ModelProto, Tree]:
    tree, nodes = Tree(draw), []
    last = tree.scope("x", 3, nodes)
    nodes.append(helper.make_node("Identity", [last], ["y"]))
    ends = [helper.make_tensor_value_info(n, FLOAT, ["b", 3]) for n in "xy"]
    flags = [helper.make_tensor_value_info(n, BOOL, []) for n in "pq"]
    graph = helper.make_graph(nodes, "g", [ends[0], *flags], [ends[1]])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tree


def ifs(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        if node.op_type == "If":
            yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from ifs(attribute.g)


@slowly
@given(models())
def test_what_can_be_decided_goes_and_the_numbers_stay(drawn: tuple[onnx.ModelProto, Tree]) -> None:
    model, tree = drawn
    after = assert_equivalent(SPEC, model)
    left = list(ifs(after.graph))
    assert len(left) <= tree.open
    again, report = run(SPEC, after)
    assert report.rewrites == 0
    assert len(report.refusals) == len(left)
    assert again.SerializeToString() == after.SerializeToString()
    onnx.checker.check_model(after, full_check=True)
    if not tree.decided:
        assert after == model


def test_a_branch_may_have_what_the_other_shapes_do_not_allow() -> None:
    """The Squeeze of a dim of 3 is wrong, and never runs."""
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 17]>
        g (float[2,3] x) => (float[2,3] y) <int64 one = {1}, int64[1] axis = {1}> {
          s = Shape (x)  d = Gather (s, one)  c = Equal (d, one)
          y = If (c) <then_branch = t () => (float[2] a) { a = Squeeze (x, axis) },
                      else_branch = e () => (float[2,3] b) { b = Identity (x) }>
        }"""
    )
    after, report = run(SPEC, model)
    assert report.rewrites == 1
    assert [n.op_type for n in after.graph.node] == ["Identity"]


def test_a_branch_that_gives_too_little_is_refused() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 17]>
        g (float[2] x) => (float[2] y, float[2] z) <bool yes = {1}> {
          y, z = If (yes) <then_branch = t () => (float[2] a) { a = Neg (x) },
                           else_branch = e () => (float[2] b, float[2] c) { b = Abs (x)  c = Neg (x) }>
        }"""
    )
    after, report = run(SPEC, model)
    assert after == model
    assert "does not give what the If gives" in report.refusals[0].reason


@pytest.mark.parametrize("name", ["silero_vad_16k_op15", "silero_vad_half"])
def test_silero_without_ifs_builds_where_it_did_not(name: str) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed (pip install 'graphkit[rtx]')")
    path = next(p for p in corpus.package_models("silero-vad") if p.stem == name)
    sizes = "fix-shapes:input=1x512,state=2x1x128"
    report = rewrite(path, [sizes, "inline-parameters", SPEC])
    assert report.verification.status == "held"
    model = Model.load(path)
    for spec in (sizes, "inline-parameters", SPEC):
        load_pass(spec).run(model)
    assert not list(ifs(model.to_proto().graph))
    said = verdicts({"before": path.read_bytes(), "after": model.to_bytes()})
    assert said["before"]
    assert not said["after"]


def test_silero_keeps_the_if_on_its_sample_rate() -> None:
    path = next(p for p in corpus.package_models("silero-vad") if p.stem == "silero_vad")
    report = rewrite(path, [SPEC])
    assert report.verification.status == "held"
    assert report.passes[0].rewrites == 2
    assert any("it follows from input 'sr'" in str(r) for r in report.passes[0].refusals)
