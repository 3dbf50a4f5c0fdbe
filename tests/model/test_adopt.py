"""A function may return another graph than it was given: what it left alone is found again, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import onnx_graphsurgeon as gs
import pytest

from graphkit.model.file import ModelFile
from graphkit.model.model import Model
from tests import corpus
from tests.edits import exported, the_one

Remake = Callable[[Any], Any]


def copied(graph: Any) -> Any:
    return graph.copy()


def imported_anew(graph: Any) -> Any:
    return gs.import_onnx(gs.export_onnx(graph))


def opened(path: Any, remake: Remake) -> Model:
    model = Model.load(path)
    model.adopt(remake(model.main.gs))
    return model


@pytest.mark.parametrize("remake", [copied, imported_anew])
@pytest.mark.parametrize("path", corpus.wheel_models()[::6], ids=lambda p: p.parent.name)
def test_wheel_models_keep_their_bytes(path: Any, remake: Remake) -> None:
    model = opened(path, remake)
    if remake is copied:
        assert exported(model) == path.read_bytes()
    else:  # GraphSurgeon's exporter drops doc strings and the like before we see the graph again
        before, after = onnx.load(path).graph.node, model.to_proto().graph.node
        assert [n.SerializeToString() for n in after] == [n.SerializeToString() for n in before]


@pytest.mark.parametrize("remake", [copied, imported_anew])
def test_control_flow_keeps_its_bytes(remake: Remake) -> None:
    path = next(p for p in corpus.package_models("silero-vad") if p.name == "silero_vad.onnx")
    assert exported(opened(path, remake)) == path.read_bytes()


def test_only_the_edited_node_of_a_copy_changes() -> None:
    path = next(p for p in corpus.package_models("silero-vad") if p.name == "silero_vad.onnx")
    model = Model.load(path)
    copy = model.main.gs.copy()
    branch = next(iter(copy.nodes[-1].subgraphs())) if list(copy.nodes[-1].subgraphs()) else copy
    branch.nodes[0].name = "an edited name"
    model.adopt(copy)
    the_one(path.read_bytes(), exported(model), "NodeProto")


TEXT = """<ir_version: 10, opset_import: ["" : 21, "local" : 1]>
g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { a = local.f (x)  b = Add (a, w)  y = Relu (b) }
<domain: "local", opset_import: ["" : 21]>
f (a) => (b) { c = Exp (a)  b = Neg (c) }"""


@pytest.mark.parametrize("remake", [copied, imported_anew])
def test_functions_and_initializers_are_found_again(remake: Remake) -> None:
    data = onnx.parser.parse_model(TEXT).SerializeToString()
    model = Model.from_file(ModelFile.from_bytes(data))
    model.adopt(remake(model.main.gs))
    assert exported(model) == data
    model.adopt(remake(model.main.gs))
    model.main.nodes[1].inputs[1].name = "weight"
    assert [i.name for i in model.to_proto().graph.initializer] == ["weight"]


def test_a_node_added_to_a_copy_is_new() -> None:
    data = onnx.parser.parse_model(TEXT).SerializeToString()
    model = Model.from_file(ModelFile.from_bytes(data))
    copy = model.main.gs.copy()
    last = copy.outputs[0]
    copy.outputs = copy.layer(op="Neg", inputs=[last], outputs=["z"])
    copy.outputs[0].dtype, copy.outputs[0].shape = last.dtype, last.shape
    model.adopt(copy)
    made = model.to_proto()
    onnx.checker.check_model(made)
    assert [n.op_type for n in made.graph.node] == ["f", "Add", "Relu", "Neg"]
    assert made.graph.node[1] == onnx.ModelProto.FromString(data).graph.node[1]
