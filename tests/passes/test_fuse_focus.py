"""The ``fuse-focus`` pass beyond its fixtures: random strides, orders of the slices, kernels and paddings."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from graphkit.testing import assert_equivalent, run

slowly = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
END = 2**63 - 1


@dataclass(frozen=True)
class Focus:
    """Slices of every ``steps`` rows and columns, in one node or two each, and the Conv behind them."""

    steps: tuple[int, int]
    chained: bool
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    channels: int
    seed: int


cases = st.builds(
    Focus,
    steps=st.sampled_from([(2, 2), (2, 1), (1, 2), (3, 2)]),
    chained=st.booleans(),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    channels=st.integers(1, 2),
    seed=st.integers(0, 99),
)


def build(case: Focus) -> onnx.ModelProto:
    rng = np.random.default_rng(case.seed)
    tensors = {"end": np.array([END]), "ends": np.array([END, END]), "axes": np.array([2, 3])}
    tensors |= {"rows": np.array([2]), "columns": np.array([3])}
    tensors |= {"steps": np.array(case.steps)} | {f"n{i}": np.array([i]) for i in range(4)}
    offsets = list(itertools.product(*map(range, case.steps)))
    rng.shuffle(offsets)
    nodes = []
    for place, (row, column) in enumerate(offsets):
        if case.chained:
            inputs = ["x", f"n{row}", "end", "rows", f"n{case.steps[0]}"]
            nodes.append(helper.make_node("Slice", inputs, [f"r{place}"]))
            inputs = [f"r{place}", f"n{column}", "end", "columns", f"n{case.steps[1]}"]
            nodes.append(helper.make_node("Slice", inputs, [f"s{place}"]))
        else:
            tensors[f"from{place}"] = np.array([row, column])
            inputs = ["x", f"from{place}", "ends", "axes", "steps"]
            nodes.append(helper.make_node("Slice", inputs, [f"s{place}"]))
    stacked = [f"s{i}" for i in range(len(offsets))]
    nodes.append(helper.make_node("Concat", stacked, ["f"], axis=1))
    nodes.append(helper.make_node("Conv", ["f", "w"], ["y"], pads=case.pads, strides=case.strides))
    weights = rng.standard_normal((3, case.channels * len(offsets), *case.kernel)).astype(np.float32)
    initializers = [numpy_helper.from_array(v, n) for n, v in tensors.items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [2, case.channels, 12, 18])],
        [helper.make_tensor_value_info("y", 1, None)],
        [*initializers, numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@given(case=cases)
@slowly
def test_one_convolution_with_the_same_numbers(case: Focus) -> None:
    done = assert_equivalent("fuse-focus", build(case))
    assert [n.op_type for n in done.graph.node] == ["Conv"]
    assert run("fuse-focus", done)[1].rewrites == 0
