"""``inline-parameters``: parameters spelled in random ways come out constant, and nothing else changes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from graphkit import Model
from graphkit.rewrite.registry import load_pass
from graphkit.testing import assert_equivalent, run

SPEC = "inline-parameters"
slowly = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
INT, FLOAT = TensorProto.INT64, TensorProto.FLOAT


@dataclass
class Builder:
    """A model under way; ``x`` is [b, 3, 4], of which b is open, and ``w`` is [2, 1, 5]."""

    draw: Any
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    count: int = 0

    def name(self) -> str:
        self.count += 1
        return f"t{self.count}"

    def constant(self, values: Any, dtype: str = "int64") -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), self.name()))
        return self.constants[-1].name

    def node(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        made = [self.name() for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), made, **attributes))
        return made[0]

    def result(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> None:
        self.node(op, *inputs, outputs=outputs, **attributes)
        self.outputs.append(self.nodes[-1].output[0])

    def vector(self, values: list[int]) -> str:
        """The values, in one of many spellings that are not constants."""
        form = self.draw(st.integers(0, 6))
        if form == 0:
            return self.node("Identity", self.constant(values))
        if form == 1:
            kind = self.draw(st.sampled_from(["int32", "float32", "float64"]))
            return self.node("Cast", self.constant(values, kind), to=INT)
        if form == 2:
            return self.node("Reshape", self.constant([values]), self.constant([-1]))
        if form == 3:
            parts = [self.node("Unsqueeze", self.scalar(v), self.constant([0])) for v in values]
            return self.node("Concat", *parts, axis=0)
        if form == 4:
            padded = self.constant([9, *values, 9])
            return self.node("Slice", padded, self.constant([1]), self.constant([-1]), self.constant([0]))
        if form == 5:
            return self.node("Sub", self.constant([v + 3 for v in values]), self.dim("w", 2, 3))
        return self.node("Where", self.constant([True], "bool"), self.constant(values), self.constant([0]))

    def dim(self, of: str, place: int, wanted: int) -> str:
        """A dim of an input, brought to ``wanted``, as a vector of one."""
        sizes = {"x": [None, 3, 4], "w": [2, 1, 5]}[of]
        shape = self.node("Shape", of)
        picked = self.node("Gather", shape, self.constant([place]))
        return self.node("Add", picked, self.constant([wanted - (sizes[place] or 0)]))

    def scalar(self, value: int) -> str:
        form = self.draw(st.integers(0, 3))
        if form == 0:
            return self.node("Squeeze", self.dim("x", self.draw(st.sampled_from([1, 2])), value))
        if form == 1:
            return self.node("Squeeze", self.node("Identity", self.constant([value])), self.constant([0]))
        if form == 2:
            size = self.node("Size", self.node("Shape", "x"))
            return self.node("Mul", self.node("Div", size, self.constant(3)), self.constant(value))
        return self.node("ReduceSum", self.constant([value - 1, 1]), keepdims=0)

    def float(self, value: float) -> str:
        whole = self.node("Cast", self.scalar(int(value * 2)), to=FLOAT)
        return self.node("Div", whole, self.constant(2.0, "float32"))


def add(b: Builder, kind: str) -> None:
    """One operator, its parameters spelled at random."""
    if kind == "Reshape":
        b.result("Reshape", "x", b.vector(b.draw(st.sampled_from([[-1, 12], [0, 4, 3], [0, -1]]))))
    elif kind == "Expand":
        b.result("Expand", "w", b.vector([2, 3, 5]))
    elif kind == "Tile":
        b.result("Tile", "x", b.vector([1, 2, 1]))
    elif kind == "Slice":
        b.result("Slice", "x", b.vector([0, 1]), b.vector([2, 9]), b.vector([1, 2]), b.vector([1, 2]))
    elif kind == "Pad":
        b.result("Pad", "x", b.vector([0, 1, 2, 0, 0, 1]), b.float(1.5))
    elif kind == "Clip":
        b.result("Clip", "x", b.float(-0.5), b.float(0.5))
    elif kind == "TopK":
        b.result("TopK", "x", b.vector([2]), outputs=2)
    elif kind == "Unsqueeze":
        b.result("Unsqueeze", "x", b.vector([1]))
    elif kind == "Squeeze":
        b.result("Squeeze", "w", b.vector([1]))
    elif kind == "Reduce":
        op = b.draw(st.sampled_from(["ReduceSum", "ReduceMax", "ReduceMean"]))
        b.result(op, "x", b.vector(b.draw(st.sampled_from([[1], [-1], [1, 2]]))), keepdims=1)
    elif kind == "Split":
        b.result("Split", "x", b.vector([1, 2]), outputs=2, axis=1)
    elif kind == "Resize":
        scales = b.node("Cast", b.vector([1, 2]), to=FLOAT)
        b.result("Resize", b.node("Squeeze", "w", b.constant([0 + 1])), "", scales, mode="nearest")
    elif kind == "Range":
        b.result("Range", b.scalar(0), b.scalar(6), b.scalar(2))
    elif kind == "OneHot":
        b.result("OneHot", b.constant([1, 3]), b.scalar(5), b.constant([0, 1], "float32"))
    else:
        b.result("ConstantOfShape", b.vector([2, 3]))


KINDS = ["Reshape", "Expand", "Tile", "Slice", "Pad", "Clip", "TopK", "Unsqueeze", "Squeeze", "Reduce"]
KINDS += ["Split", "Resize", "Range", "OneHot", "ConstantOfShape"]


@st.composite
def models(draw: Any) -> onnx.ModelProto:
    b = Builder(draw)
    for kind in draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4)):
        add(b, kind)
    inputs = [
        helper.make_tensor_value_info("x", FLOAT, ["b", 3, 4]),
        helper.make_tensor_value_info("w", FLOAT, [2, 1, 5]),
    ]
    outputs = [onnx.ValueInfoProto(name=n) for n in b.outputs]
    graph = helper.make_graph(b.nodes, "g", inputs, outputs, b.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    typed = onnx.shape_inference.infer_shapes(model, data_prop=True)
    del model.graph.output[:]
    model.graph.output.extend(typed.graph.output)
    return model


@slowly
@given(models())
def test_parameters_become_initializers_and_the_numbers_stay(model: onnx.ModelProto) -> None:
    after = assert_equivalent(SPEC, model)
    left = {n.op_type for n in after.graph.node}
    assert left <= {*KINDS, "ReduceSum", "ReduceMax", "ReduceMean"}, left
    constants = {t.name for t in after.graph.initializer}
    for node in after.graph.node:
        if node.op_type not in ("OneHot", "Range", "ConstantOfShape"):
            assert all(not name or name in constants for name in node.input[1:])
    again, second = run(SPEC, after)
    assert second.rewrites == 0
    assert again.SerializeToString() == after.SerializeToString()


@slowly
@given(models(), st.data())
def test_a_parameter_that_a_caller_gives_stays(model: onnx.ModelProto, data: Any) -> None:
    """One constant becomes an input: what follows from it is refused, and names it."""
    made = data.draw(st.sampled_from([t.name for t in model.graph.initializer]))
    tensor = next(t for t in model.graph.initializer if t.name == made)
    model.graph.initializer.remove(tensor)
    model.graph.input.append(helper.make_tensor_value_info(made, tensor.data_type, list(tensor.dims)))
    after, report = run(SPEC, model)
    kept = {n.SerializeToString() for n in after.graph.node}
    readers = [n for n in model.graph.node if made in n.input]
    assert all(n.SerializeToString() in kept for n in readers)
    assert all(f"'{made}'" in r.reason for r in report.refusals)


def parsed(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 18]>\n{text}')


def test_large_constants_are_neither_read_nor_copied(tmp_path: Path) -> None:
    model = parsed(
        "g (float[4] x) => (float[n] y, float[400000] z) {"
        " c = Cast <to = 7> (w) s = ReduceSum (c) y = Tile (x, s)"
        " d = Shape (w) z = Expand (x, d) }"
    )
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[400000], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w.bin")
    model.graph.initializer.append(tensor)
    np.ones(400000, np.float32).tofile(tmp_path / "w.bin")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    loaded = Model.load(tmp_path / "m.onnx")
    report = load_pass(SPEC).run(loaded)
    assert report.rewrites == 1  # the shape of w needs no values
    assert "it reads 'w' of 1,600,000 bytes" in report.refusals[0].reason
    after = loaded.to_proto()
    assert [i.name for i in after.graph.initializer if i.data_location != TensorProto.EXTERNAL] == ["d"]


def test_what_would_take_much_memory_is_not_computed() -> None:
    model = parsed(
        "g (float[1] x) => (float[n] y)"
        " <int64[2] huge = {100000, 100000}, int64 a = {0}, int64 b = {9000000}, int64 c = {1}> {"
        " f = ConstantOfShape <value = int64[1] {1}> (huge) s = ReduceSum <keepdims = 0> (f)"
        " r = Range (a, b, c) t = ReduceMax (r) u = Mul (s, t) y = Expand (x, u) }"
    )
    _, report = run(SPEC, model)
    said = [r.reason for r in report.refusals]
    assert any("would take 80,000,000,000 bytes" in text or "takes 72,000,000 bytes" in text for text in said)


def test_a_long_way_from_an_input_is_walked_once() -> None:
    model = parsed("g (float[4] x) => (float[n] y) { a0 = Cast <to = 7> (x) y = Tile (x, a0) }")
    last = model.graph.node.pop()
    for i in range(3000):
        model.graph.node.append(helper.make_node("Add", [f"a{i}", f"a{i}"], [f"a{i + 1}"]))
    for i in range(200):
        last.input[1] = "a3000"
        last.output[0] = f"y{i}"
        model.graph.node.append(last)
    model.graph.output[0].name = "y0"
    start = time.perf_counter()
    _, report = run(SPEC, model)
    assert time.perf_counter() - start < 10
    assert len(report.refusals) == 200
    assert {r.reason for r in report.refusals} == {"its repeats cannot be inlined: it follows from input 'x'"}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int8", "uint8", "int64"])
def test_the_bound_that_a_clip_leaves_out_is_the_limit_of_its_dtype(dtype: str) -> None:
    import ml_dtypes

    kind = helper.np_dtype_to_tensor_dtype(np.dtype(getattr(ml_dtypes, dtype, dtype)))
    nodes = [helper.make_node("Clip", ["x", "", "top"], ["y"]), helper.make_node("Clip", ["x", "top"], ["z"])]
    ends = [helper.make_tensor_value_info(n, kind, [3]) for n in "xyz"]
    top = helper.make_tensor("top", kind, [], [2])
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [top])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    after, report = run(f"{SPEC}:clip=true", model)
    assert report.rewrites == 2
    least, most = (
        numpy_helper.to_array(next(t for t in after.graph.initializer if t.name == name))
        for name in (after.graph.node[0].input[1], after.graph.node[1].input[2])
    )
    limits: Any = np.iinfo(dtype) if "int" in dtype else ml_dtypes.finfo(least.dtype)
    assert least == limits.min
    assert most == limits.max


def test_a_clip_of_an_unknown_dtype_is_refused() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 18, "l": 1]>
        g (float[2] x, float low) => (float[2] y) { y = l.f (x, low) }
        <domain: "l", opset_import: ["": 18]> f (v, a) => (o) { o = Clip (v, a) }"""
    )
    after, report = run(f"{SPEC}:clip=true", model)
    assert after == model
    assert "the dtype of 'v' is not known" in [r.reason for r in report.refusals]
