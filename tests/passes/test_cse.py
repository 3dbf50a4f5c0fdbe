"""The ``cse`` pass beyond its fixtures: random graphs, large constants, data files, nodes out of order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.external_data_helper
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from graphkit import load_pass
from graphkit.model.model import Model
from graphkit.testing import assert_equivalent, run

slowly = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
CONSTANTS = ("one", "uno", "two")


@st.composite
def models(draw: st.DrawFn) -> onnx.ModelProto:
    """A graph in which much is computed more than once: few operators, few constants, shared inputs."""
    tensors = ["x", "z", *CONSTANTS]
    nodes: list[onnx.NodeProto] = []
    for index in range(draw(st.integers(2, 14))):
        op, count = draw(
            st.sampled_from([("Relu", 1), ("Add", 2), ("Mul", 2), ("Sub", 2), ("Max", 2), ("Sum", 3)])
        )
        inputs = [draw(st.sampled_from(tensors)) for _ in range(count)]
        nodes.append(helper.make_node(op, inputs, [f"t{index}"]))
        tensors.append(f"t{index}")
    made = [n.output[0] for n in nodes]
    outputs = draw(st.lists(st.sampled_from(made), min_size=1, max_size=3, unique=True))
    return model(nodes, outputs)


def model(nodes: list[onnx.NodeProto], outputs: list[str]) -> onnx.ModelProto:
    """float[2,3] everywhere; ``one`` and ``uno`` have the same bits."""
    values = dict(zip(CONSTANTS, (1.5, 1.5, -2.0), strict=True))
    tensors = [numpy_helper.from_array(np.full((1, 3), v, np.float32), n) for n, v in values.items()]
    infos = [[helper.make_tensor_value_info(n, 1, [2, 3]) for n in names] for names in (("x", "z"), outputs)]
    for info in infos[1]:  # of constants alone, a result is as small as they are
        info.type.tensor_type.ClearField("shape")
    graph = helper.make_graph(nodes, "g", infos[0], infos[1], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def shape_of(node: onnx.NodeProto) -> tuple[object, ...]:
    """What two nodes that compute the same share."""
    inputs = sorted(node.input) if node.op_type in ("Add", "Mul", "Max") else list(node.input)
    return node.op_type, *inputs


@slowly
@given(models())
def test_random_graphs_keep_their_numbers_and_come_to_rest(before: onnx.ModelProto) -> None:
    after = assert_equivalent("cse", before)
    again, second = run("cse", after)
    assert second.rewrites == 0
    assert again.SerializeToString() == after.SerializeToString()
    ends = {o.name for o in after.graph.output}
    seen: dict[tuple[object, ...], str] = {}
    for node in after.graph.node:
        first = seen.setdefault(shape_of(node), node.output[0])
        assert first == node.output[0] or {first, node.output[0]} <= ends
    assert not {"one", "uno"} <= {i for n in after.graph.node for i in n.input}


def large(encoding: str, last: float = 1.0) -> onnx.TensorProto:
    """10,000 floats, of which the one in the middle is ``last``."""
    values = np.arange(10_000, dtype=np.float32)
    values[5_003] = last
    if encoding == "raw":
        return numpy_helper.from_array(values, "w")
    return helper.make_tensor("w", onnx.TensorProto.FLOAT, values.shape, values)


@pytest.mark.parametrize("encodings", [("raw", "raw"), ("raw", "floats"), ("floats", "floats")])
@pytest.mark.parametrize("same", [True, False])
def test_large_constants_are_compared_to_the_last_element(encodings: tuple[str, str], same: bool) -> None:
    first, second = large(encodings[0]), large(encodings[1], 1.0 if same else 2.0)
    second.name = "v"
    nodes = [helper.make_node("Add", ["x", "w"], ["a"]), helper.make_node("Mul", ["a", "v"], ["y"])]
    infos = [helper.make_tensor_value_info(n, 1, [10_000]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], [first, second])
    before = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    after = assert_equivalent("cse", before)
    assert [t.name for t in after.graph.initializer] == (["w"] if same else ["w", "v"])


def test_data_files_are_not_read(tmp_path: Path) -> None:
    tensors = [numpy_helper.from_array(np.ones((64, 64), np.float32), n) for n in "wv"]
    nodes = [helper.make_node("Add", ["x", "w"], ["a"]), helper.make_node("Mul", ["a", "v"], ["y"])]
    infos = [helper.make_tensor_value_info(n, 1, [64, 64]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], tensors)
    before = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(before, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    twin = Model.load(tmp_path / "m.onnx")
    report = load_pass("cse").run(twin)
    assert report.rewrites == 0
    assert twin.to_bytes() == (tmp_path / "m.onnx").read_bytes()


def test_nodes_out_of_order_are_found_too() -> None:
    nodes = [
        helper.make_node("Add", ["p", "q"], ["y"]),
        helper.make_node("Neg", ["a"], ["p"]),
        helper.make_node("Neg", ["b"], ["q"]),
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Relu", ["x"], ["b"]),
    ]
    after, report = run("cse", model(nodes, ["y"]))
    assert report.rewrites >= 2
    assert sorted(n.op_type for n in after.graph.node) == ["Add", "Neg", "Relu"]
    assert run("cse", after)[1].rewrites == 0


def test_an_attribute_of_the_caller_is_the_same_in_both_nodes_only_under_one_name() -> None:
    before = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 17, "l": 1]>
        g (float[2] x) => (float[2] y) { y = l.f <a = 0.5, b = 0.25> (x) }
        <domain: "l", opset_import: ["": 17]> f <a, b> (v) => (o) {
          p = LeakyRelu <alpha: float = @a> (v)
          q = LeakyRelu <alpha: float = @a> (v)
          r = LeakyRelu <alpha: float = @b> (v)
          o = Sum (p, q, r)
        }"""
    )
    after = assert_equivalent("cse", before)
    assert [list(n.input) for n in after.functions[0].node][-1] == ["p", "p", "r"]


def test_a_list_of_graphs_keeps_what_it_may_name() -> None:
    before = model([helper.make_node("Relu", ["x"], [n]) for n in "ab"], ["a"])
    before.graph.node.append(helper.make_node("Add", ["a", "b"], ["y"]))
    before.graph.output[0].name = "y"
    training = before.training_info.add()
    training.algorithm.name = "t"
    training.algorithm.node.append(helper.make_node("Neg", ["b"], ["c"]))
    after, report = run("cse", before)
    assert after == before
    assert "named from a place that no pass can see" in report.refusals[0].reason
