"""The ``fuse-rms-norm`` pass beyond its fixtures: random spellings, and numbers that overflow in float16."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnx.reference
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from onnx import helper

from graphkit.testing import assert_equivalent, run
from tests.passes.norm_graphs import Norm, build, norms, overflowing

slowly = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@slowly
@given(norms(centred=False, opsets=(23, 24)))
def test_any_spelling_is_fused_and_keeps_its_numbers(norm: Norm) -> None:
    model = build(norm)
    after = assert_equivalent("fuse-rms-norm", model)
    ops = [n.op_type for n in after.graph.node]
    assert ops.count("RMSNormalization") == 1, norm
    assert "Sqrt" not in ops and not any(op.startswith("Reduce") for op in ops)
    again, second = run("fuse-rms-norm", after)
    assert second.rewrites == 0
    assert again.SerializeToString() == after.SerializeToString()
    onnx.checker.check_model(after, full_check=True)


@slowly
@given(norms(centred=False, opsets=(8, 11, 13, 17, 18, 22)))
def test_below_opset_23_it_is_refused(norm: Norm) -> None:
    model = build(replace(norm, mean="reduce") if norm.opset < 13 else norm)
    after, report = run("fuse-rms-norm", model)
    assert after == model
    assert [r.reason for r in report.refusals] == [
        f"opset {norm.opset} has no RMSNormalization; convert to opset 23 first"
    ]


@slowly
@given(norms(centred=False, opsets=(11, 14, 18)))
def test_an_island_keeps_its_numbers_and_comes_to_rest(norm: Norm) -> None:
    norm = replace(norm, half=True, mean="reduce" if norm.opset < 13 else norm.mean)
    after = assert_equivalent("fuse-rms-norm:island=true", build(norm))
    assert run("fuse-rms-norm:island=true", after)[1].rewrites == 0
    onnx.checker.check_model(after, full_check=True)


@pytest.mark.parametrize(("spec", "opset"), [("fuse-rms-norm", 23), ("fuse-rms-norm:island=true", 14)])
def test_what_overflows_in_float16_does_not_any_more(spec: str, opset: int) -> None:
    model = build(Norm(centred=False, opset=opset, half=True, scale=False, epsilon=1e-5))
    feed = overflowing(model)
    wide = feed["x"].astype(np.float64).clip(0)
    right = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-5)
    with np.errstate(over="ignore", invalid="ignore"):
        before = onnx.reference.ReferenceEvaluator(model).run(None, feed)[0]
    assert np.abs(np.nan_to_num(before) - right).max() > 1
    after, report = run(spec, model)
    assert report.rewrites == 1
    now = onnxruntime.InferenceSession(after.SerializeToString()).run(None, feed)[0]
    assert np.abs(now - right).max() < 5e-3


@slowly
@given(norms(centred=True, opsets=(23,)))
def test_layer_norms_are_left_to_their_own_pass(norm: Norm) -> None:
    model = build(norm)
    after, report = run("fuse-rms-norm", model)
    assert after == model
    assert not report.refusals


def test_a_sum_of_squares_that_is_no_norm_is_left_alone() -> None:
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["s"]),
        helper.make_node("ReduceMean", ["s"], ["v"], keepdims=1),
        helper.make_node("Sqrt", ["v"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(n, 1, d) for n, d in (("x", [2, 4]), ("y", [1, 1]))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    after, report = run("fuse-rms-norm", model)
    assert after == model
    assert not report.refusals
