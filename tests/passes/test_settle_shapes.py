"""The ``settle-shapes`` pass beyond its fixtures: random shape code, and names that say nothing."""

from __future__ import annotations

import onnx
import onnx.parser
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphkit.testing import assert_equivalent, run

slowly = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
HEADER = '<ir_version: 8, opset_import: ["": 17]>\n'
DIMS = (2, 3, 4, 6)  # of the input; the model is told its names alone


def parse(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(HEADER + text)


def ops(model: onnx.ModelProto) -> list[str]:
    return sorted(n.op_type for n in model.graph.node)


elements = st.one_of(st.integers(0, 3).map(lambda axis: f"d{axis}"), st.just("one"))


@given(parts=st.lists(elements, min_size=1, max_size=5), first=st.booleans())
@slowly
def test_expands_as_before(parts: list[str], first: bool) -> None:
    """An Expand of ones to dims of another tensor, gathered from it before or after a Relu."""
    source = "x" if first else "r"
    code = "\n".join(f"d{i} = Gather (s, i{i})" for i in range(4))
    constants = ", ".join(f"int64[1] i{i} = {{{i}}}" for i in range(4))
    outputs = ", ".join(f"o{i}" for i in range(len(parts)))
    model = parse(
        f"g (float[2,3,4,6] x) => (float[{outputs}] y) <{constants}, int64[1] one = {{1}}, float k = {{2}}> "
        f"{{ r = Relu (x)\n s = Shape ({source})\n {code}\n t = Concat <axis = 0> ({', '.join(parts)})\n"
        "y = Expand (k, t)\n}"
    )
    model.graph.input[0].type.tensor_type.shape.ClearField("dim")
    for name in "abcd":
        model.graph.input[0].type.tensor_type.shape.dim.add().dim_param = name
    assert_equivalent("settle-shapes", model)


@given(order=st.permutations([0, 1, 2, 3]), joined=st.integers(1, 3), left=st.integers(0, 3))
@slowly
def test_reshapes_as_before(order: list[int], joined: int, left: int) -> None:
    """Some dims kept at their places, the others multiplied into one."""
    kept = order[:joined]
    rest = [i for i in range(4) if i not in kept]
    product = f"p0 = Mul (d{rest[0]}, one)\n" + "\n".join(
        f"p{k} = Mul (p{k - 1}, d{i})" for k, i in enumerate(rest[1:], 1)
    )
    parts = [f"d{i}" for i in sorted(kept)]
    parts.insert(min(left, len(parts)), f"p{len(rest) - 1}")
    code = "\n".join(f"d{i} = Gather (s, i{i})" for i in range(4))
    constants = ", ".join(f"int64[1] i{i} = {{{i}}}" for i in range(4))
    outputs = ", ".join(f"o{i}" for i in range(len(parts)))
    model = parse(
        f"g (float[a,b,c,d] x) => (float[{outputs}] y) <{constants}, int64[1] one = {{1}}> {{\n"
        f"s = Shape (x)\n{code}\n{product}\nt = Concat <axis = 0> ({', '.join(parts)})\n"
        "y = Reshape (x, t)\n}"
    )
    assert_equivalent("settle-shapes", model)


def test_names_follow_through_what_inference_loses() -> None:
    """[T, 1] joined and split again: the last Reshape finds T although inference has no name for it."""
    weights = ", ".join(["0.5"] * 32)
    model = parse(
        "g (float[t,1,8] x) => (float[a,b,c] y) <int64[1] zero = {0}, int64[1] one = {1}, "
        f"int64[1] two = {{2}}, int64[1] minus = {{-1}}, float[8,4] w = {{{weights}}}> {{\n"
        "s = Shape (x) n = Gather (s, zero) m = Gather (s, one) k = Gather (s, two) p = Mul (n, m)\n"
        "flat = Concat <axis = 0> (p, k) r = Reshape (x, flat) g = MatMul (r, w)\n"
        "u = Concat <axis = 0> (n, m, minus) y = Reshape (g, u) }"
    )
    assert ops(assert_equivalent("settle-shapes", model)) == ["MatMul", "Reshape", "Reshape"]


@pytest.mark.parametrize("names", [("k", "k"), ("?", "?"), ("?", "n")])
def test_names_that_say_nothing(names: tuple[str, str]) -> None:
    """A file calls two dims alike that are not: its name is not believed."""
    model = parse(
        "g (float[p,q] x) => (float[a,b] y) <int64[1] zero = {0}, int64[1] one = {1}> {\n"
        "s = Shape (x) n = Gather (s, one) m = Gather (s, zero) t = Concat <axis = 0> (n, m)\n"
        "y = Reshape (x, t) }"
    )
    for dim, name in zip(model.graph.input[0].type.tensor_type.shape.dim, names, strict=True):
        dim.dim_param = name
    assert ops(run("settle-shapes", model)[0]) == ops(model)


def test_a_positions_range_has_the_size_that_it_counts_to() -> None:
    model = parse(
        "g (float[b,n] x) => (float[p,q] y) "
        "<int64 one = {1}, int64 zero = {0}, int64[1] axes = {0}, int64[1] first = {0}> {\n"
        "s = Shape (x) n = Gather (s, one) r = Range (zero, n, one) f = Cast <to = 1> (r)\n"
        "u = Unsqueeze (n, axes) v = Concat <axis = 0> (u) e = Expand (f, v)\n"
        "z = Add (x, e) y = Relu (z) }"
    )
    assert ops(assert_equivalent("settle-shapes", model)).count("Expand") == 0
