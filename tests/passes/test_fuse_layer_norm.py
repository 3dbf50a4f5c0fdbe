"""The ``fuse-layer-norm`` pass beyond its fixtures: random spellings, and what overflows in float16."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnx.reference
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from graphkit.testing import assert_equivalent, run
from tests.passes.norm_graphs import SHAPE, Norm, build, norms, overflowing

slowly = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@slowly
@given(norms(centred=True, opsets=(17, 18, 20, 23)))
def test_any_spelling_is_fused_and_keeps_its_numbers(norm: Norm) -> None:
    model = build(norm)
    after = assert_equivalent("fuse-layer-norm", model)
    ops = [n.op_type for n in after.graph.node]
    assert ops.count("LayerNormalization") == 1, norm
    assert "Sqrt" not in ops and not any(op.startswith("Reduce") for op in ops)
    assert len(ops) <= 3 + 2 * (norm.half and norm.casts != "none")
    again, second = run("fuse-layer-norm", after)
    assert second.rewrites == 0
    assert again.SerializeToString() == after.SerializeToString()
    onnx.checker.check_model(after, full_check=True)


@slowly
@given(norms(centred=True, opsets=(8, 11, 13, 16)))
def test_below_opset_17_it_is_refused(norm: Norm) -> None:
    model = build(replace(norm, mean="reduce") if norm.opset < 13 else norm)
    after, report = run("fuse-layer-norm", model)
    assert after == model
    assert [r.reason for r in report.refusals] == [
        f"opset {norm.opset} has no LayerNormalization; convert to opset 17 first"
    ]


@slowly
@given(norms(centred=True, opsets=(11, 14, 16)))
def test_an_island_keeps_its_numbers_and_comes_to_rest(norm: Norm) -> None:
    norm = replace(norm, half=True, mean="reduce" if norm.opset < 13 else norm.mean)
    after = assert_equivalent("fuse-layer-norm:island=true", build(norm))
    casts = [n for n in after.graph.node if n.op_type == "Cast"]
    assert len(casts) >= 2 or norm.casts != "none"
    assert run("fuse-layer-norm:island=true", after)[1].rewrites == 0
    onnx.checker.check_model(after, full_check=True)


def _right(x: np.ndarray, epsilon: float = 1e-3) -> np.ndarray:
    wide = x.astype(np.float64).clip(0)
    centred = wide - wide.mean(-1, keepdims=True)
    return (centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)).clip(0)


@pytest.mark.parametrize(("spec", "opset"), [("fuse-layer-norm", 18), ("fuse-layer-norm:island=true", 14)])
@pytest.mark.parametrize("square", ["pow", "mul"])
def test_what_overflows_in_float16_does_not_any_more(spec: str, opset: int, square: str) -> None:
    """onnx's evaluator computes each float16 node in float16, as an engine of that type does.

    It does so even where the operator says float32 (`stash_type`), so that ONNX Runtime computes the result.
    """
    norm = Norm(opset=opset, half=True, square=square, scale=False, bias=False)
    model = build(norm)
    feed = overflowing(model)
    right = _right(feed["x"])
    with np.errstate(over="ignore", invalid="ignore"):
        before = onnx.reference.ReferenceEvaluator(model).run(None, feed)[0]
    assert np.abs(np.nan_to_num(before) - right).max() > 1
    after, report = run(spec, model)
    assert report.rewrites == 1
    now = onnxruntime.InferenceSession(after.SerializeToString()).run(None, feed)[0]
    assert np.abs(now - right).max() < 5e-3


def test_an_epsilon_that_an_input_can_override_is_no_epsilon() -> None:
    model = build(Norm())
    epsilon = next(t for t in model.graph.initializer if onnx.numpy_helper.to_array(t).shape == ())
    names = [t.name for t in model.graph.initializer if not t.dims]
    model.graph.input.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, []) for n in names)
    assert epsilon.name in names
    after, report = run("fuse-layer-norm", model)
    assert after == model
    assert report.rewrites == 0


def test_a_scale_that_an_input_can_override_is_taken() -> None:
    model = build(Norm())
    scale = next(t for t in model.graph.initializer if list(t.dims) == [SHAPE[-1]])
    model.graph.input.append(helper.make_tensor_value_info(scale.name, TensorProto.FLOAT, scale.dims))
    after = assert_equivalent("fuse-layer-norm", model)
    fused = next(n for n in after.graph.node if n.op_type == "LayerNormalization")
    assert fused.input[1] == scale.name


def test_ones_are_shared() -> None:
    one = build(Norm(scale=False, bias=False))
    nodes = [n for n in one.graph.node if n.name != "last"]
    second = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    for node in second:
        node.name += "b"
        node.input[:] = [nodes[-1].output[0] if i == "x" else i.replace("t", "u") for i in node.input]
        node.output[:] = [o.replace("t", "u") for o in node.output]
    last = one.graph.node[-1]
    last.input[0] = last.input[0].replace("t", "u")
    del one.graph.node[:]
    one.graph.node.extend([*nodes, *second, last])
    after = assert_equivalent("fuse-layer-norm", one)
    assert [t.name for t in after.graph.initializer] == ["ones"]
    assert [n.op_type for n in after.graph.node].count("LayerNormalization") == 2


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("half", [False, True])
def test_other_axes_go_between_transposes(axis: int, half: bool) -> None:
    norm = Norm(axes=(axis,), half=half, scale=False, bias=False)
    after = assert_equivalent("fuse-layer-norm:channels=true", build(norm))
    ops = [n.op_type for n in after.graph.node]
    assert ops == ["Relu", "Transpose", "LayerNormalization", "Transpose", "Relu"]


@given(st.integers(1, 40))
@settings(max_examples=3, deadline=None)
def test_a_long_chain(length: int) -> None:
    text = "".join(
        f"m{i} = ReduceMean (x{i}, a) d{i} = Sub (x{i}, m{i}) s{i} = Mul (d{i}, d{i}) "
        f"v{i} = ReduceMean (s{i}, a) r{i} = Sqrt (v{i}) x{i + 1} = Div (d{i}, r{i}) "
        for i in range(length)
    )
    model = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 18]>
        g (float[2,4] x0) => (float[2,4] x{length}) <int64[1] a = {{-1}}> {{ {text} }}"""
    )
    after, report = run("fuse-layer-norm", model)
    assert report.rewrites == length
    assert [n.op_type for n in after.graph.node] == ["LayerNormalization"] * length
