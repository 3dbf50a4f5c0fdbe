"""The ``fuse-constants`` pass beyond its fixtures: random chains."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphkit.testing import run
from tests.passes.arithmetic import Net, fused, ops, values

slowly = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SHAPES = [(), (1,), (3,), (2, 1), (2, 3), (1, 2, 3)]
steps = st.tuples(
    st.sampled_from(["Mul", "Div", "Add", "Sub", "Neg"]), st.sampled_from(SHAPES), st.booleans()
)


@slowly
@given(st.lists(steps, min_size=2, max_size=6), st.sampled_from(["float32", "float64"]), st.integers(0, 99))
def test_random_chains(chain: list[tuple[str, tuple[int, ...], bool]], dtype: str, seed: int) -> None:
    net = Net([2, 3], dtype, seed=seed)
    for op, shape, first in chain:
        net.step(op, shape, first)
    fused("fuse-constants", net.model())


@slowly
@given(
    st.lists(st.tuples(st.sampled_from(["Mul", "Div", "Add", "Sub"]), st.booleans()), min_size=2, max_size=8)
)
def test_a_chain_of_numbers_is_two_nodes_at_most(chain: list[tuple[str, bool]]) -> None:
    net = Net([4], "float64")
    for op, first in chain:
        net.step(op, (), first)
    after, report = run("fuse-constants", net.model())
    assert len(ops(after)) <= 3 or "cancel" in report.refusals[0].reason


@slowly
@given(st.integers(1, 4), st.integers(0, 99))
def test_what_is_read_between_stays(place: int, seed: int) -> None:
    net = Net([3], seed=seed)
    made = [net.add("Mul", net.random(())) for _ in range(5)]
    after = fused("fuse-constants", net.model(made[place]))
    assert made[place] in {o.name for o in after.graph.output}
    assert ops(after).count("Mul") == (1 if place == 4 else 2)


def test_constants_are_multiplied_in_float64() -> None:
    net = Net([3])
    net.add("Div", net.constant(3.0))
    net.add("Mul", net.constant(7.0))
    after = fused("fuse-constants", net.model())
    (factor,) = values(after).values()
    assert factor == np.float32(7 / 3)


@pytest.mark.parametrize("op", ["Floor", "Ceil", "Round", "Cast"])
def test_what_makes_a_step_of_the_last_bit_is_refused(op: str) -> None:
    net = Net([3])
    net.step("Mul", ())
    net.step("Mul", ())
    net.add(op, **({"to": 1} if op == "Cast" else {}))
    _, report = run("fuse-constants", net.model())
    assert report.rewrites == (op == "Cast")  # a Cast to floats makes none


def test_a_default_that_an_input_can_override_is_no_constant() -> None:
    net = Net([3])
    net.step("Mul", ())
    net.step("Mul", ())
    model = net.model()
    model.graph.input.append(type(model.graph.input[0])())
    model.graph.input[1].CopyFrom(model.graph.input[0])
    model.graph.input[1].name = "c0"
    model.graph.input[1].type.tensor_type.shape.ClearField("dim")
    after, report = run("fuse-constants", model)
    assert after == model and report.rewrites == 0
