"""The ``clamp-masks`` pass beyond its fixtures: random masks, what float16 makes of them, and its options."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
import onnx.reference
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from graphkit import BadOption
from graphkit.testing import assert_equivalent, run

slowly = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SHAPE = (2, 2, 3, 5)


@dataclass(frozen=True)
class Mask:
    """How the scores of one or several layers are masked; ``mask`` is 1 where they are."""

    way: str = "product"  # product, less, fill, choice
    least: float = -3.4028235e38
    moved: str = "none"
    given: str = "bool"
    layers: int = 1
    opset: int = 17
    swap: bool = False


masks = st.builds(
    Mask,
    way=st.sampled_from(["product", "less", "fill", "choice", "max"]),
    least=st.sampled_from([-3.4028235e38, -1e12, -1e9]),
    moved=st.sampled_from(["none", "expand", "transpose", "reshape", "concat", "identity"]),
    given=st.sampled_from(["bool", "int64", "int32"]),
    layers=st.integers(1, 3),
    opset=st.sampled_from([9, 13, 17, 23]),
    swap=st.booleans(),
)


@dataclass
class Writer:
    """Collects nodes and constants."""

    how: Mask
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)

    def __call__(self, op: str, *inputs: str, **attrs: Any) -> str:
        made = f"t{len(self.nodes)}"
        given_ = inputs[::-1] if self.how.swap and op in ("Add", "Mul", "Max") else inputs
        self.nodes.append(helper.make_node(op, given_, [made], f"n{len(self.nodes)}", **attrs))
        return made

    def const(self, value: Any, dtype: str = "float32") -> str:
        self.tensors.append(numpy_helper.from_array(np.asarray(value, dtype), f"c{len(self.tensors)}"))
        return self.tensors[-1].name


def build(how: Mask) -> onnx.ModelProto:
    """Scores, a mask, and a Softmax for each layer."""
    w = Writer(how)
    kind = getattr(TensorProto, how.given.upper())
    ends = [helper.make_tensor_value_info("mask", kind, [2, 1, 1, 5])]
    added = _mask(w) if how.way in ("product", "less", "choice", "max") else ""
    outputs = []
    for layer in range(how.layers):
        ends.append(helper.make_tensor_value_info(f"s{layer}", TensorProto.FLOAT, SHAPE))
        outputs.append(helper.make_tensor_value_info(f"p{layer}", TensorProto.FLOAT, SHAPE))
        score = w("Neg", f"s{layer}")
        if how.way == "fill":
            score = w("Where", _bool(w), w.const(how.least), score)
        else:
            score = w("Sub" if how.way == "less" else "Add", score, added)
        if how.way == "max":
            score = w("Max", score, w.const(how.least))
        w.nodes.append(helper.make_node("Softmax", [score], [f"p{layer}"], f"last{layer}", axis=3))
    graph = helper.make_graph(w.nodes, "g", ends, outputs, w.tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", how.opset)], ir_version=8)


def _bool(w: Writer) -> str:
    return "mask" if w.how.given == "bool" else w("Cast", "mask", to=TensorProto.BOOL)


def _mask(w: Writer) -> str:
    how = w.how
    if how.way == "choice":
        made = w("Where", _bool(w), w.const(how.least), w.const(0))
    else:
        number = w("Cast", _bool(w), to=TensorProto.FLOAT)
        made = w("Mul", number, w.const(-how.least if how.way == "less" else how.least))
    if how.moved == "expand":
        return w("Expand", made, w.const(SHAPE, "int64"))
    if how.moved == "transpose":
        return w("Transpose", w("Reshape", made, w.const([2, 5, 1, 1], "int64")), perm=[0, 2, 3, 1])
    if how.moved == "reshape":
        return w("Reshape", made, w.const([2, 1, 1, 5], "int64"))
    if how.moved == "concat":
        return w("Concat", made, made, axis=1)
    return w("Identity", made) if how.moved == "identity" else made


@slowly
@given(masks)
def test_a_clamped_mask_masks_the_same(how: Mask) -> None:
    model = build(how)
    after = assert_equivalent("clamp-masks", model)
    values = [numpy_helper.to_array(t) for t in after.graph.initializer]
    assert not any((np.abs(v) > 65504).any() for v in values if v.dtype.kind == "f")
    ops = [n.op_type for n in after.graph.node]
    added = how.way != "fill"
    assert ops.count("Max") == how.layers * (added + (how.way == "max"))
    again, second = run("clamp-masks", after)
    assert second.rewrites == 0
    assert again.SerializeToString() == after.SerializeToString()
    onnx.checker.check_model(after, full_check=True)


@slowly
@given(masks, st.sampled_from(["TopK", "ArgMax", "output"]))
def test_what_goes_elsewhere_too_is_kept(how: Mask, where: str) -> None:
    how = replace(how, layers=1, opset=17, moved="none")
    model = build(how)
    masked = model.graph.node[-1].input[0]
    if where == "output":
        model.graph.output.append(helper.make_tensor_value_info(masked, TensorProto.FLOAT, SHAPE))
    elif where == "ArgMax":
        model.graph.node.append(helper.make_node("ArgMax", [masked], ["z"], axis=-1))
        model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.INT64, [*SHAPE[:-1], 1]))
    else:
        model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "one"))
        model.graph.node.append(helper.make_node("TopK", [masked, "one"], ["z", "i"]))
        model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [*SHAPE[:-1], 1]))
    after, report = run("clamp-masks", model)
    assert after == model
    wanted = "is a graph output" if where == "output" else f"it goes into {where}"
    refusals = [r.reason for r in report.refusals]
    assert len(refusals) == (2 if how.way == "max" else 1)
    assert all(wanted in r for r in refusals)


def _in_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same with every float32 made float16, as a build in float16 makes it."""
    half = onnx.ModelProto.FromString(model.SerializeToString())
    for info in (*half.graph.input, *half.graph.output):
        if info.type.tensor_type.elem_type == TensorProto.FLOAT:
            info.type.tensor_type.elem_type = TensorProto.FLOAT16
    for tensor in half.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            with np.errstate(over="ignore"):
                tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))
    for node in half.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
    return half


@pytest.mark.parametrize("way", ["product", "less", "choice", "fill", "max"])
@pytest.mark.parametrize("moved", ["none", "expand"])
def test_in_float16_there_is_no_nan_any_more(way: str, moved: str) -> None:
    """Also in rows that are masked altogether, and with scores that are added to -65504."""
    model = build(Mask(way=way, moved=moved, given="int64"))
    rng = np.random.default_rng(0)
    feed: dict[str, Any] = {"mask": np.zeros((2, 1, 1, 5), np.int64)}
    feed["mask"][0, ..., 3:] = 1
    feed["mask"][1] = 1
    wide = rng.standard_normal(SHAPE) * 40
    right = onnx.reference.ReferenceEvaluator(model).run(None, {**feed, "s0": wide.astype(np.float32)})[0]
    feed["s0"] = wide.astype(np.float16)
    after, report = run("clamp-masks", model)
    assert report.rewrites
    with np.errstate(all="ignore"):
        before = onnx.reference.ReferenceEvaluator(_in_float16(model)).run(None, feed)[0]
        now = onnx.reference.ReferenceEvaluator(_in_float16(after)).run(None, feed)[0]
    assert np.isnan(before).any()
    assert np.abs(now - right).max() < 0.05


@pytest.mark.parametrize("floor", [-65504.0, -10000.0, -1000.0])
def test_the_floor(floor: float) -> None:
    after = assert_equivalent(f"clamp-masks:floor={floor:g}", build(Mask(way="choice")))
    values = {float(v) for t in after.graph.initializer for v in numpy_helper.to_array(t).reshape(-1)}
    assert values == {floor, floor / 2, 0.0}


@pytest.mark.parametrize("floor", ["-65505", "-10", "0", "nan"])
def test_a_floor_that_is_none(floor: str) -> None:
    with pytest.raises(BadOption, match="is not between -65504 and -1000"):
        run(f"clamp-masks:floor={floor}", build(Mask()))


def test_a_small_one_leaves_something_of_the_scores() -> None:
    for way in ("product", "choice", "less", "max"):
        model = build(Mask(way=way, least=-1e5))
        report = run("clamp-masks", model)[1]
        assert "is weighed by what" in report.refusals[0].reason
        after = run("clamp-masks:even=false", model)[0]
        assert -65504 in {
            -abs(float(v)) for t in after.graph.initializer for v in numpy_helper.to_array(t).flat
        }
    assert_equivalent("clamp-masks", build(Mask(way="fill", least=-1e5)))


def test_without_a_max_the_report_says_what_becomes_of_rows() -> None:
    after, report = run("clamp-masks:even=false", build(Mask(layers=2)))
    assert "Max" not in {n.op_type for n in after.graph.node}
    assert len(report.notes) == 1 and "rows that are masked altogether" in report.notes[0]
    assert not run("clamp-masks", build(Mask()))[1].notes


def test_a_default_that_an_input_can_override_is_left_alone() -> None:
    model = build(Mask(way="fill"))
    name = next(t.name for t in model.graph.initializer)
    model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, []))
    after, report = run("clamp-masks", model)
    assert after == model
    assert not report.refusals


def test_large_weights_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphkit.model.graph import Graph

    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 17]>
        g (float[4,2048] x) => (float[4,2048] y) <float[4,2048] w> { y = Add (x, w) }"""
    )
    del model.graph.initializer[:]
    model.graph.initializer.append(numpy_helper.from_array(np.full((4, 2048), -1e9, np.float32), "w"))
    read: list[str] = []
    value = Graph.value

    def spy(self: Graph, tensor: Any) -> Any:
        read.append(tensor.name)
        return value(self, tensor)

    monkeypatch.setattr(Graph, "value", spy)
    after, report = run("clamp-masks", model)
    assert after == model
    assert read == [] and not report.refusals
