"""Models whose graph is none are refused: cycles, and names that two producers share."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from tests.features.base import FUNCTION, model
from tests.refusal import BRANCH, CALL, GOOD, SCRIPT, refused

CYCLES = {
    "two": "g (float[2] x) => (float[2] y) { y = Add (x, z)  z = Neg (y) }",
    "itself": "g (float[2] x) => (float[2] y) { y = Add (x, y) }",
    "far_from_outputs": "g (float[2] x) => (float[2] y) { y = Relu (x)  a = Neg (b)  b = Neg (a) }",
    "branch": BRANCH.replace("h = Relu (x)", "h = Relu (t)"),
    "through_a_branch": BRANCH.replace("e = Abs (x)", "e = Abs (y)"),
    "function": CALL + "f (a) => (b) { h = Relu (b)  b = Neg (h) }",
    "function_calls_itself": CALL + "f (a) => (b) { b = local.f (a) }",
    "functions_call_each_other": CALL
    + "f (a) => (b) { b = local.k (a) }\n"
    + FUNCTION
    + "k (a) => (b) { b = local.f (a) }",
}
DUPLICATES = {
    "two_nodes": GOOD.replace("y = Neg (h)", "y = Neg (h)  h = Abs (x)"),
    "one_node": GOOD.replace("y = Neg (h)", "y = Neg (h)  d, d = Split <num_outputs = 2> (x)"),
    "node_and_input": GOOD.replace("h = Relu (x)", "h = Relu (x)  x = Abs (h)"),
    "node_and_initializer": GOOD.replace("{ h", "<float[2,3] h = {1,2,3,4,5,6}> { h"),
    "branch": BRANCH.replace("e = Abs (x)", "e = Abs (x)  e = Neg (x)"),
    "function": CALL + "f (a) => (b) { b = Relu (a)  b = Neg (a) }",
    "function_input": CALL + "f (a) => (b) { b = Relu (a)  a = Neg (b) }",
}


def _inputs_twice(what: str) -> onnx.ModelProto:
    """Two inputs of one name, which the text format cannot say."""
    made = model(BRANCH if what == "branch" else GOOD)
    graph = made.graph.node[0].attribute[0].g if what == "branch" else made.graph
    for _ in range(2):
        graph.input.append(made.graph.input[0])
    return made


@pytest.mark.parametrize("with_a_pass", [False, True], ids=["no_pass", "a_pass"])
@pytest.mark.parametrize("name", [*CYCLES, *(f"duplicate-{name}" for name in DUPLICATES)])
def test_graphs_that_are_none(name: str, with_a_pass: bool, tmp_path: Path) -> None:
    text = DUPLICATES[name.removeprefix("duplicate-")] if name.startswith("duplicate-") else CYCLES[name]
    (tmp_path / "in.onnx").write_bytes(model(text).SerializeToString())
    (tmp_path / "edits.py").write_text(SCRIPT)
    passes = ["--pass", f"{tmp_path / 'edits.py'}:edit"] if with_a_pass else []
    refused(tmp_path, tmp_path / "in.onnx", *passes, "-o", tmp_path / "out.onnx")


@pytest.mark.parametrize("what", ["main", "branch"])
def test_inputs_of_one_name(what: str, tmp_path: Path) -> None:
    (tmp_path / "in.onnx").write_bytes(_inputs_twice(what).SerializeToString())
    refused(tmp_path, tmp_path / "in.onnx", "-o", tmp_path / "out.onnx")


def test_errors_name_the_tensor(tmp_path: Path) -> None:
    (tmp_path / "in.onnx").write_bytes(model(DUPLICATES["two_nodes"]).SerializeToString())
    assert "'h'" in refused(tmp_path, tmp_path / "in.onnx", "-o", tmp_path / "out.onnx")
    (tmp_path / "in.onnx").write_bytes(model(CYCLES["two"]).SerializeToString())
    assert "cycle" in refused(tmp_path, tmp_path / "in.onnx", "-o", tmp_path / "out.onnx")


def test_names_do_not_break_the_line(tmp_path: Path) -> None:
    """A message quotes names from the file; line ends and escape sequences in them stay harmless."""
    made = model(DUPLICATES["two_nodes"])
    for one in made.graph.node:
        for names in (one.input, one.output):
            names[:] = ["h\nerror: \x1b[2J\u202e" + "n" * 5000 if name == "h" else name for name in names]
    (tmp_path / "in.onnx").write_bytes(made.SerializeToString())
    refused(tmp_path, tmp_path / "in.onnx", "-o", tmp_path / "out.onnx")
