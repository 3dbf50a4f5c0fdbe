"""The ``fuse-pad-conv`` pass beyond its fixtures: random paddings in front of random readers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphkit.testing import run
from tests.passes.arithmetic import Net, fused, ops

slowly = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
pads = st.lists(st.integers(0, 3), min_size=4, max_size=4)
own = st.lists(st.integers(0, 2), min_size=4, max_size=4)


def padded(net: Net, spatial: list[int], value: float | None = None, axes: bool = False) -> None:
    """A Pad of the two spatial axes, in the form of the opset."""
    whole = [0, 0, *spatial[:2], 0, 0, *spatial[2:]]
    if net.opset < 11:
        net.add("Pad", pads=whole, value=value or 0.0)
        return
    inputs = [net.constant(spatial if axes else whole, "int64")]
    if value is not None or axes:
        inputs.append(net.constant(value or 0.0))
    net.add("Pad", *inputs, *([net.constant([-2, 3], "int64")] if axes else []))


@slowly
@given(pads, own, st.sampled_from([9, 11, 13, 18]), st.booleans(), st.integers(1, 2), st.integers(0, 99))
def test_random_convolutions(
    outer: list[int], inner: list[int], opset: int, axes: bool, stride: int, seed: int
) -> None:
    net = Net([1, 2, 6, 7], opset=opset, seed=seed)
    padded(net, outer, axes=axes and opset >= 18)
    net.add("Conv", net.random((3, 2, 3, 3)), pads=inner, strides=[stride, stride])
    assert ("Pad" in ops(fused("fuse-pad-conv", net.model()))) == (not any(outer))


@slowly
@given(pads, own, st.integers(0, 1), st.integers(0, 1), st.integers(0, 99))
def test_random_average_pools(outer: list[int], inner: list[int], counts: int, up: int, seed: int) -> None:
    net = Net([1, 2, 6, 7], seed=seed)
    padded(net, outer)
    net.add(
        "AveragePool", kernel_shape=[3, 4], pads=inner, count_include_pad=counts, ceil_mode=up, strides=[2, 1]
    )
    after = ops(fused("fuse-pad-conv", net.model()))
    fits = all(a + b < k for a, b, k in zip(outer, inner, [3, 4] * 2, strict=True))
    can = any(outer) and fits and not up and (counts == 1 or not any(inner))
    assert ("Pad" not in after) == can


@slowly
@given(pads, own, st.sampled_from([-np.inf, 0.0, None, 1.0]), st.booleans(), st.integers(0, 99))
def test_random_max_pools(
    outer: list[int], inner: list[int], value: float | None, positive: bool, seed: int
) -> None:
    net = Net([1, 2, 6, 7], seed=seed)
    net.add("Sigmoid" if positive else "Neg")
    padded(net, outer, value)
    net.add("MaxPool", kernel_shape=[3, 4], pads=inner)
    after = ops(fused("fuse-pad-conv", net.model()))
    fits = all(a + b < k for a, b, k in zip(outer, inner, [3, 4] * 2, strict=True))
    can = any(outer) and fits and (value == -np.inf or (not value and positive))
    assert ("Pad" not in after) == can


@pytest.mark.parametrize(
    ("op", "attrs"),
    [("Conv", {"auto_pad": "SAME_LOWER"}), ("MaxPool", {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER"})],
)
def test_padding_by_size_is_refused(op: str, attrs: dict[str, Any]) -> None:
    net = Net([1, 2, 6, 7])
    padded(net, [1, 1, 1, 1], -np.inf if op == "MaxPool" else 0.0)
    net.add(op, *([net.random((3, 2, 2, 2))] if op == "Conv" else []), **attrs)
    after, report = run("fuse-pad-conv", net.model())
    assert report.rewrites == 0
    assert "auto_pad" in report.refusals[0].reason


def test_weights_that_are_padded_are_another_thing() -> None:
    net = Net([3, 2, 3, 3])
    padded(net, [1, 1, 1, 1])
    weights, net.at = net.at, net.constant(np.ones((1, 2, 8, 8)))
    net.add("Conv", weights)
    model = net.model()
    assert run("fuse-pad-conv", model)[0] == model
