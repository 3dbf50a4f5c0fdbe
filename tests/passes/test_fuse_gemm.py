"""The ``fuse-gemm`` pass beyond its fixtures: random products of two inputs."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from tests.passes.arithmetic import Net, fused, ops

slowly = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
prepares = st.lists(st.sampled_from(["Transpose", "Mul", "Div", "Neg"]), max_size=3)
scales = st.lists(st.sampled_from(["Mul", "Div", "Neg"]), max_size=2)


def prepared(net: Net, tensor: str, how: list[str]) -> str:
    net.at = tensor
    for op in how:
        if op == "Transpose":
            net.add(op, perm=[1, 0])
        else:
            net.step(op, (1,))
    return net.at


@slowly
@given(prepares, prepares, scales, st.sampled_from(["MatMul", "Gemm"]), st.booleans(), st.integers(0, 99))
def test_random_products(
    a: list[str], b: list[str], behind: list[str], op: str, bias: bool, seed: int
) -> None:
    net = Net([4, 4], seed=seed)
    net.inputs += [helper.make_tensor_value_info(n, net.kind, s) for n, s in (("w", [4, 4]), ("c", [4]))]
    second = prepared(net, "w", b)
    net.at = prepared(net, "x", a)
    if op == "Gemm":
        net.add(op, second, *(["c"] if bias else []), transA=1, alpha=0.5, beta=0.25)
    else:
        net.add(op, second)
    for one in behind:
        net.step(one, ())
    after = ops(fused("fuse-gemm", net.model()))
    if a or b or behind:
        assert after == ["Gemm", "Relu"]


@slowly
@given(st.integers(2, 4), st.booleans(), st.integers(0, 99))
def test_only_matrices_are_transposed(rank: int, default: bool, seed: int) -> None:
    shape = [3] * rank
    net = Net(shape, seed=seed)
    net.inputs.append(helper.make_tensor_value_info("w", net.kind, shape))
    perm = {"perm": [*range(rank - 2), rank - 1, rank - 2]} if not default or rank > 2 else {}
    net.add("Transpose", **perm)
    net.add("MatMul", "w")
    assert ("Gemm" in ops(fused("fuse-gemm", net.model()))) == (rank == 2)


def test_a_transpose_that_others_read_stays() -> None:
    net = Net([3, 3])
    turned = net.add("Transpose", perm=[1, 0])
    net.add("MatMul", "x")
    model = net.model(turned)
    assert fused("fuse-gemm", model) == model


def test_constant_weights_are_left_to_fuse_mul_conv() -> None:
    net = Net([3, 3])
    net.add("MatMul", net.random((3, 3)))
    net.step("Mul", ())
    model = net.model()
    assert fused("fuse-gemm", model) == model
    assert ops(fused("fuse-mul-conv", model)) == ["MatMul", "Relu"]
