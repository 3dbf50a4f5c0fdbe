"""``sequences-to-tensors``: random programs over sequences, whose elements are followed beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from graphkit.testing import assert_equivalent, run

SPEC = "sequences-to-tensors"
slowly = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
FLOAT, INT = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
SEQUENCES = {"SplitToSequence", "SequenceConstruct", "SequenceEmpty", "SequenceInsert", "SequenceErase"}
SEQUENCES |= {"SequenceAt", "SequenceLength", "ConcatFromSequence"}

Shape = tuple[int, ...]


class Program:
    """Draws operators on sequences; knows the shape of each element of each."""

    def __init__(self, draw: Any, opset: int) -> None:
        self.draw = draw
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.tensors: list[tuple[str, Shape]] = [("x", (4, 3)), ("w", (4, 3)), ("v", (6,))]
        self.sequences: list[tuple[str, list[Shape]]] = []
        self.outputs: list[tuple[str, int, Shape]] = []
        self.count = 0

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        self.count += 1
        name = f"t{self.count}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def constant(self, values: Any, dtype: str = "int64") -> str:
        self.count += 1
        name = f"c{self.count}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def position(self, count: int, more: int = 0) -> tuple[str, int]:
        place = self.draw(st.integers(-count, count - 1 + more))
        return self.constant(place, self.draw(st.sampled_from(["int32", "int64"]))), place

    def step(self) -> None:
        op = self.draw(st.sampled_from(sorted(SEQUENCES)))
        getattr(self, op)()

    def SplitToSequence(self) -> None:
        name, shape = self.draw(st.sampled_from([t for t in self.tensors if t[1]]))
        axis = self.draw(st.integers(-len(shape), len(shape) - 1))
        size = shape[axis]
        form = self.draw(st.integers(0, 2))
        keep = self.draw(st.integers(0, 1))
        if form == 0:
            made = self.node("SplitToSequence", name, axis=axis, keepdims=keep)
            sizes = [1] * size
        elif form == 1:
            step = self.draw(st.integers(1, size))
            made = self.node("SplitToSequence", name, self.constant(step), axis=axis)
            sizes = [min(step, size - i) for i in range(0, size, step)]
        else:
            first = self.draw(st.integers(1, size))
            sizes = [first, size - first] if first < size else [first]
            made = self.node("SplitToSequence", name, self.constant(sizes), axis=axis)
        place = axis % len(shape)
        pieces = [(*shape[:place], s, *shape[place + 1 :]) for s in sizes]
        if form == 0 and not keep:
            pieces = [(*shape[:place], *shape[place + 1 :]) for _ in sizes]
        self.sequences.append((made, pieces))

    def SequenceConstruct(self) -> None:
        parts = self.draw(st.lists(st.sampled_from(self.tensors), min_size=1, max_size=3))
        self.sequences.append((self.node("SequenceConstruct", *(n for n, _ in parts)), [s for _, s in parts]))

    def SequenceEmpty(self) -> None:
        self.sequences.append((self.node("SequenceEmpty"), []))

    def SequenceInsert(self) -> None:
        if not self.sequences:
            return
        name, held = self.draw(st.sampled_from(self.sequences))
        tensor, shape = self.draw(st.sampled_from(self.tensors))
        if self.draw(st.booleans()) or not held:
            self.sequences.append((self.node("SequenceInsert", name, tensor), [*held, shape]))
            return
        where, place = self.position(len(held), 1)
        made = self.node("SequenceInsert", name, tensor, where)
        grown = list(held)
        grown.insert(place if place >= 0 else place + len(held), shape)
        self.sequences.append((made, grown))

    def SequenceErase(self) -> None:
        full = [s for s in self.sequences if s[1]]
        if full:
            name, held = self.draw(st.sampled_from(full))
            where, place = self.position(len(held))
            kept = [s for i, s in enumerate(held) if i != place % len(held)]
            self.sequences.append((self.node("SequenceErase", name, where), kept))

    def SequenceAt(self) -> None:
        full = [s for s in self.sequences if s[1]]
        if full:
            name, held = self.draw(st.sampled_from(full))
            where, place = self.position(len(held))
            self.result(self.node("SequenceAt", name, where), FLOAT, held[place])

    def SequenceLength(self) -> None:
        if self.sequences:
            name, _ = self.draw(st.sampled_from(self.sequences))
            self.outputs.append((self.node("SequenceLength", name), INT, ()))

    def ConcatFromSequence(self) -> None:
        full = [s for s in self.sequences if s[1] and all(h == s[1][0] for h in s[1])]
        if not full:
            return
        name, held = self.draw(st.sampled_from(full))
        new = self.draw(st.booleans()) or not held[0]
        rank = len(held[0]) + new
        axis = self.draw(st.integers(-rank, rank - 1))
        made = self.node("ConcatFromSequence", name, axis=axis, new_axis=int(new))
        place, shape = axis % rank, list(held[0])
        if new:
            shape.insert(place, len(held))
        else:
            shape[place] *= len(held)
        self.result(made, FLOAT, tuple(shape))

    def result(self, name: str, dtype: int, shape: Shape) -> None:
        if self.draw(st.booleans()):
            name = self.node("Neg", name)
        self.tensors.append((name, shape))
        if self.draw(st.booleans()):
            self.outputs.append((name, dtype, shape))


@st.composite
def models(draw: Any) -> onnx.ModelProto:
    program = Program(draw, draw(st.sampled_from([11, 13, 18])))
    for _ in range(draw(st.integers(3, 14))):
        program.step()
    last, shape = program.tensors[-1]
    program.outputs.append((program.node("Abs", last), FLOAT, shape))
    unique = {name: (name, dtype, shape) for name, dtype, shape in program.outputs}
    outputs = [helper.make_tensor_value_info(*o) for o in unique.values()]
    inputs = [
        helper.make_tensor_value_info(n, FLOAT, s) for n, s in (("x", (4, 3)), ("w", (4, 3)), ("v", (6,)))
    ]
    graph = helper.make_graph(program.nodes, "g", inputs, outputs, program.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", program.opset)], ir_version=8)


@slowly
@given(models())
def test_no_sequence_is_left_and_the_numbers_stay(model: onnx.ModelProto) -> None:
    if not any(n.op_type in SEQUENCES for n in model.graph.node):
        return
    after = assert_equivalent(SPEC, model)
    read = {name for n in after.graph.node for name in n.input} | {o.name for o in after.graph.output}
    left = [n for n in after.graph.node if n.op_type in SEQUENCES and n.output[0] in read]
    assert not left
    onnx.checker.check_model(after, full_check=True)
    again, report = run(SPEC, after)
    assert report.rewrites == 0
    assert again.SerializeToString() == after.SerializeToString()


def parsed(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 17]>\n{text}')


@pytest.mark.parametrize("size", [1, 4])
def test_rows_of_an_open_dim_are_gathered_at_any_position(size: int) -> None:
    import onnxruntime

    model = parsed(
        "g (float[b,2] x, int64 i) => (float[2] y, int64 n) {"
        " s = SplitToSequence <axis = 0, keepdims = 0> (x) y = SequenceAt (s, i) n = SequenceLength (s) }"
    )
    after, report = run(SPEC, model)
    assert report.rewrites == 2
    x = np.arange(2 * size, dtype=np.float32).reshape(size, 2)
    for place in range(-size, size):
        feed = {"x": x, "i": np.array(place)}
        was, now = (
            onnxruntime.InferenceSession(m.SerializeToString()).run(None, feed) for m in (model, after)
        )
        for a, b in zip(was, now, strict=True):
            np.testing.assert_array_equal(a, b)


def test_many_inserts_are_followed_without_recursion() -> None:
    model = parsed(
        "g (float[1] x) => (float[n] y) { s0 = SequenceEmpty () y = ConcatFromSequence <axis = 0> (s0) }"
    )
    last = model.graph.node.pop()
    for i in range(1500):
        model.graph.node.append(helper.make_node("SequenceInsert", [f"s{i}", "x"], [f"s{i + 1}"]))
    last.input[0] = "s1500"
    model.graph.node.append(last)
    after, report = run(SPEC, model)
    assert report.rewrites == 1
    assert [(n.op_type, len(n.input)) for n in after.graph.node] == [("Concat", 1500)]


def test_attributes_that_a_caller_gives_are_refused() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 17, "l": 1]>
        g (float[4] x) => (float[2,4] y, float[2] z) { y, z = l.f <k = 0> (x) }
        <domain: "l", opset_import: ["": 17]> f <k> (v) => (o, p) {
          s = SequenceConstruct (v, v)  o = ConcatFromSequence <axis: int = @k, new_axis = 1> (s)
          two = Constant <value = int64 {2}> ()  zero = Constant <value = int64 {0}> ()
          t = SplitToSequence <axis: int = @k> (v, two)  p = SequenceAt (t, zero)
        }"""
    )
    after, report = run(SPEC, model)
    assert after == model
    assert {r.reason for r in report.refusals} == {"an attribute is given by the function's caller"}
