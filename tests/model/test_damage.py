"""What a pass must not be able to do in silence: leave names dangling, calls without a body, data lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import helper, numpy_helper, parser

from graphkit.errors import BadOutput, PassFailed
from graphkit.model.model import Model

HEAD = '<ir_version: 10, opset_import: ["" : 21, "local" : 1]>\n'


def opened(text: str, **fields: Any) -> Model:
    proto = parser.parse_model(HEAD + text)
    for name, value in fields.items():
        setattr(proto, name, value)
    return Model.from_proto(proto)


def test_a_reader_of_nothing_is_refused() -> None:
    model = opened("g (float[2] x) => (float[2] y) { h = Neg (x)  y = Abs (h) }")
    model.main.nodes[1].inputs[0] = gs.Variable("ghost")
    with pytest.raises(PassFailed, match="'ghost', which nothing defines"):
        model.export()


def test_a_reader_of_nothing_that_the_file_had_stays() -> None:
    proto = onnx.ModelProto.FromString(
        parser.parse_model(HEAD + "g (float[2] x) => (float[2] y) { y = Abs (x) }").SerializeToString()
    )
    proto.graph.node[0].input[0] = "ghost"
    model = Model.from_proto(proto)
    assert model.to_bytes() == proto.SerializeToString()
    model.main.nodes[0].name = "named"
    assert model.to_proto().graph.node[0].input[0] == "ghost"


def test_a_function_goes_with_its_last_call_only() -> None:
    text = "g (float[2] x) => (float[2] y) { y = local.f (x) }\n"
    model = opened(text + '<domain: "local", opset_import: ["" : 21]>\nf (a) => (b) { b = Neg (a) }')
    model.main.gs.functions.clear()
    with pytest.raises(PassFailed, match="'' calls a local function that a pass removed"):
        model.export()


def test_names_that_a_training_graph_reads_are_kept() -> None:
    proto = parser.parse_model(
        HEAD + "g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add (x, w) }"
    )
    proto.training_info.add().update_binding.add(key="w", value="w")
    model = Model.from_proto(proto)
    model.main.nodes[0].inputs[1].name = "W2"
    with pytest.raises(PassFailed, match="'w' was renamed or removed"):
        model.export()


def test_a_branch_may_be_copied_and_an_input_made_anew() -> None:
    model = opened(
        """g (bool c, float[2] x) => (float[2] y) {
        y = If (c) <then_branch = t () => (float[2] a) { a = Neg (x) },
                    else_branch = e () => (float[2] b) { b = Abs (x) }> }"""
    )
    node = model.main.nodes[0]
    node.attrs["else_branch"] = node.attrs["then_branch"].copy()
    model.main.gs.inputs = [model.main.inputs[0], gs.Variable("x", np.float32, (2,))]
    made = model.to_proto()
    onnx.checker.check_model(made, full_check=True)
    assert [a.g.node[0].op_type for a in made.graph.node[0].attribute] == ["Neg", "Neg"]


def test_minus_zero_is_an_edit() -> None:
    model = opened("g (float[2] x) => (float[2] y) { y = LeakyRelu <alpha = 0.0> (x) }")
    model.main.nodes[0].attrs["alpha"] = -0.0
    assert np.signbit(model.to_proto().graph.node[0].attribute[0].f)


def test_a_constant_is_written_in_its_export_dtype() -> None:
    model = opened("g (bfloat16[2] x) => (bfloat16[2] y) { y = Identity (x) }")
    constant = gs.Constant("c", np.array([1, 2], np.float32))
    constant._export_dtype = onnx.TensorProto.BFLOAT16
    model.main.nodes[0].op = "Add"
    model.main.nodes[0].inputs.append(constant)
    (made,) = model.to_proto().graph.initializer
    assert numpy_helper.to_array(made).dtype == ml_dtypes.bfloat16


def test_before_ir_4_a_new_initializer_is_an_input_too() -> None:
    model = opened("g (float[2] x) => (float[2] y) { y = Identity (x) }", ir_version=3)
    model.main.nodes[0].op = "Add"
    model.main.nodes[0].inputs.append(model.main.constant(np.ones(2, np.float32), "one"))
    made = model.to_proto()
    onnx.checker.check_model(made, full_check=True)
    assert [i.name for i in made.graph.input] == ["x", "one"]


def test_sizes_that_are_none() -> None:
    model = opened("g (float[2] x) => (float[n] y) { y = Identity (x) }")
    model.main.outputs[0].shape = (-1,)  # GraphSurgeon's own way to say unknown
    assert not model.to_proto().graph.output[0].type.tensor_type.shape.dim[0].WhichOneof("value")
    model.main.outputs[0].shape = (2.5,)
    with pytest.raises(PassFailed, match="a dim is a whole number"):
        model.export()


def test_out_spares_the_data_of_in_even_when_nothing_reads_it_any_more(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones(64, np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", 1, [64])],
        [helper.make_tensor_value_info("y", 1, [64])],
        [weight],
    )
    model = helper.make_model(graph)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.pb", size_threshold=0)
    data = (tmp_path / "w.pb").read_bytes()
    opened = Model.load(tmp_path / "m.onnx")
    node = opened.main.nodes[0]
    node.op = "Neg"
    node.inputs.pop()
    with pytest.raises(BadOutput, match="data file"):
        opened.save(tmp_path / "w.pb")
    assert (tmp_path / "w.pb").read_bytes() == data
