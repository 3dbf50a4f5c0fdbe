"""The ``fuse-matmul-bias`` pass beyond its fixtures: products and what is added to them, of many shapes."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from graphkit.testing import run
from tests.passes.arithmetic import Net, fused, ops, values

slowly = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
FITTING = [(), (1,), (8,), (1, 1), (1, 8), (3, 1), (3, 8)]
dtypes = st.sampled_from(["float32", "float64"])


@slowly
@given(
    st.sampled_from(FITTING), st.booleans(), dtypes, st.sampled_from([7, 9, 11, 13, 22]), st.integers(0, 99)
)
def test_random_biases(shape: tuple[int, ...], first: bool, dtype: str, opset: int, seed: int) -> None:
    net = Net([3, 4], dtype, opset, seed)
    net.add("MatMul", net.random((4, 8)))
    net.add("Add", net.random(shape), first=first)
    assert ops(fused("fuse-matmul-bias", net.model())) == ["Gemm", "Relu"]


@slowly
@given(
    st.sampled_from(FITTING),
    st.sampled_from(FITTING),
    st.sampled_from([0.5, 1.0]),
    st.booleans(),
    st.integers(0, 99),
)
def test_random_gemms(own: tuple[int, ...], more: tuple[int, ...], beta: float, has: bool, seed: int) -> None:
    net = Net([3, 4], seed=seed)
    bias = [net.random(own)] if has else []
    net.add("Gemm", net.random((8, 4)), *bias, transB=1, alpha=2.0, beta=beta)
    net.add("Add", net.random(more))
    together = np.broadcast_shapes(own, more) if has else more
    grows = has and int(np.prod(together)) > max(int(np.prod(own)), int(np.prod(more)))
    assert ops(fused("fuse-matmul-bias", net.model())) == (
        ["Gemm", "Add", "Relu"] if grows else ["Gemm", "Relu"]
    )


@slowly
@given(st.integers(1, 4), st.sampled_from([(8,), (1, 8), (1, 1, 8)]), st.integers(0, 99))
def test_only_products_of_matrices_are_rewritten(rank: int, shape: tuple[int, ...], seed: int) -> None:
    net = Net([2] * (rank - 1) + [4], seed=seed)
    net.add("MatMul", net.random((4, 8)))
    net.add("Add", net.random(shape))
    made = fused("fuse-matmul-bias", net.model())
    assert ("Gemm" in ops(made)) == (rank == 2 and len(shape) < 3)


def test_a_bias_that_widens_the_product_is_none() -> None:
    net = Net([1, 4])
    net.add("MatMul", net.random((4, 1)))
    net.add("Add", net.random((3, 5)))
    after, report = run("fuse-matmul-bias", net.model())
    assert report.rewrites == 0
    assert "might broadcast" in report.refusals[0].reason


def test_biases_are_added_in_float64() -> None:
    net = Net([3, 4])
    net.add("Gemm", net.random((4, 8)), net.random((8,)), beta=0.25)
    net.add("Add", net.random((8,)))
    own, more = (values(net.model())[n].astype(np.float64) for n in ("c1", "c2"))
    after = fused("fuse-matmul-bias", net.model())
    np.testing.assert_array_equal(values(after)["c1_1"], (0.25 * own + more).astype(np.float32))


def test_a_default_that_an_input_can_override_is_no_constant_bias() -> None:
    net = Net([3, 4])
    net.add("Gemm", net.random((4, 8)), net.random((8,)))
    net.add("Add", net.random((8,)))
    model = net.model()
    model.graph.input.append(helper.make_tensor_value_info("c2", 1, [8]))
    assert run("fuse-matmul-bias", model)[0] == model
