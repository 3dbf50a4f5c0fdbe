"""The ``drop-defaults`` pass beyond its fixtures: random recurrent layers, all directions and states."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from graphkit.testing import assert_equivalent

slowly = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
HIDDEN, WIDTH, BATCH = 2, 3, 2


@dataclass(frozen=True)
class Layer:
    """A recurrent layer, and how each of its states is given: as zeros, made, as numbers, or not at all."""

    op: str
    direction: str
    states: tuple[str, str]
    bias: bool
    seed: int


layers = st.builds(
    Layer,
    op=st.sampled_from(sorted(GATES)),
    direction=st.sampled_from(["forward", "reverse", "bidirectional"]),
    states=st.tuples(*[st.sampled_from(["zeros", "made", "numbers", "none"])] * 2),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)


def build(layer: Layer) -> tuple[onnx.ModelProto, int]:
    """The model, and how many inputs of its layer are not zero by default."""
    rng = np.random.default_rng(layer.seed)
    ways, gates = 2 if layer.direction == "bidirectional" else 1, GATES[layer.op]
    shape = (ways, BATCH, HIDDEN)
    values = {
        "w": rng.standard_normal((ways, gates * HIDDEN, WIDTH)),
        "r": rng.standard_normal((ways, gates * HIDDEN, HIDDEN)),
        "b": rng.standard_normal((ways, 2 * gates * HIDDEN)),
        "zeros": np.zeros(shape),
        "numbers": rng.standard_normal(shape),
    }
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["made"])]
    states = layer.states if layer.op == "LSTM" else layer.states[:1]
    inputs = ["x", "w", "r", "b" if layer.bias else "", "", *("" if s == "none" else s for s in states)]
    nodes.append(
        helper.make_node(layer.op, inputs, ["y", "h"], hidden_size=HIDDEN, direction=layer.direction)
    )
    tensors = [numpy_helper.from_array(v.astype(np.float32), n) for n, v in values.items() if n in inputs]
    tensors.append(numpy_helper.from_array(np.array(shape, np.int64), "shape"))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [4, BATCH, WIDTH])],
        [helper.make_tensor_value_info("y", 1, None), helper.make_tensor_value_info("h", 1, None)],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model, list(states).count("numbers")


@given(layer=layers)
@slowly
def test_the_same_numbers(layer: Layer) -> None:
    model, given_states = build(layer)
    done = assert_equivalent("drop-defaults", model)
    inputs = next(n for n in done.graph.node if n.op_type == layer.op).input
    assert sum(bool(name) for name in inputs[5:]) == given_states
