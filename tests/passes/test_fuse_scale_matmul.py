"""The ``fuse-scale-matmul`` pass beyond its fixtures: random ways from the weights to the scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from graphkit.testing import assert_equivalent

slowly = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Attention:
    """Scores of queries and keys: which of them come from weights, with what behind the weights."""

    gemm: bool
    bias: bool
    by_keys: bool
    moved: bool
    divide: bool
    scale: float
    dtype: str
    seed: int


cases = st.builds(
    Attention,
    gemm=st.booleans(),
    bias=st.booleans(),
    by_keys=st.booleans(),
    moved=st.booleans(),
    divide=st.booleans(),
    scale=st.sampled_from([8.0, 5.656854, -0.3]),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 99),
)


def build(case: Attention) -> onnx.ModelProto:
    rng = np.random.default_rng(case.seed)
    dtype = np.dtype("float32" if case.gemm else case.dtype)
    tensors = {
        "w": rng.standard_normal((4, 6)).astype(dtype),
        "b": rng.standard_normal(6).astype(dtype),
        "k": np.array(case.scale, dtype),
        "heads": np.array([5, 2, 3]),
    }
    last = ["x", "w", "b"] if case.bias else ["x", "w"]
    if case.gemm:
        nodes = [helper.make_node("Gemm", last, ["a"], alpha=0.5, beta=2.0)]
    else:
        nodes = [helper.make_node("MatMul", ["x", "w"], ["m" if case.bias else "a"])]
        nodes += [helper.make_node("Add", ["b", "m"], ["a"])] if case.bias else []
    nodes.append(helper.make_node("Reshape", ["a", "heads"], ["r"]))
    perm = [1, 2, 0] if case.by_keys else [1, 0, 2]
    nodes.append(helper.make_node("Transpose", ["r"], ["t"], perm=perm))
    product = ["q", "t"] if case.by_keys else ["t", "q"]
    nodes.append(helper.make_node("MatMul", product, ["s"]))
    source = "s"
    if case.moved:
        nodes.append(helper.make_node("Transpose", ["s"], ["u"], perm=[0, 2, 1]))
        source = "u"
    nodes.append(helper.make_node("Div" if case.divide else "Mul", [source, "k"], ["y"]))
    kind = helper.np_dtype_to_tensor_dtype(dtype)
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("x", kind, [5, 4]),
            helper.make_tensor_value_info("q", kind, [2, 5, 3] if case.by_keys else [2, 3, 5]),
        ],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(v, n) for n, v in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@given(case=cases)
@slowly
def test_the_scale_is_gone_and_the_numbers_are_not(case: Attention) -> None:
    done = assert_equivalent("fuse-scale-matmul", build(case))
    assert done.graph.node[-1].op_type == ("Transpose" if case.moved else "MatMul")


def test_weights_in_a_data_file_stay_there(tmp_path: object) -> None:
    """More than 1 MiB would be copied into the model."""
    from pathlib import Path

    from graphkit import Model
    from graphkit_passes.fuse_scale_matmul import FuseScaleMatmul

    model = build(Attention(False, False, True, False, True, 8.0, "float32", 0))
    large = np.zeros((4, 300_000), np.float32)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(large, "w"))
    model.graph.initializer[3].CopyFrom(numpy_helper.from_array(np.array([5, 2, 150_000]), "heads"))
    path = Path(str(tmp_path)) / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="m.data", size_threshold=1024)
    report = FuseScaleMatmul().run(Model.load(path))
    assert report.rewrites == 0
    assert ["lies in a data file" in r.reason for r in report.refusals] == [True]
