"""The ``unbake-batch`` pass beyond its fixtures: random heads, and operators that mix rows."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphkit.errors import BadOption
from graphkit.testing import assert_equivalent, run

slowly = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def parse(text: str, opset: int = 17) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}]>\n{text}')


@slowly
@given(size=st.integers(1, 4), heads=st.integers(1, 3), rows=st.integers(1, 3), merged=st.booleans())
def test_random_heads(size: int, heads: int, rows: int, merged: bool) -> None:
    """Heads split, put in front, joined with the batch or not, and back."""
    width = 2 * heads
    inner = f"{size * heads}, {rows}, 2" if merged else f"{size}, {heads}, {rows * 2}"
    back = "{" + f"{size}, {heads}, {rows}, 2" + "}"
    model = parse(
        f"""g (float[{size},{rows},{width}] x) => (float[{size},{rows},{width}] y)
        <int64[4] a = {{{size}, {rows}, {heads}, 2}}, int64[3] b = {{{inner}}}, int64[4] c = {back},
         int64[3] d = {{{size}, {rows}, {width}}}>
        {{ s = Reshape (x, a)  t = Transpose <perm = [0, 2, 1, 3]> (s)  u = Reshape (t, b)  v = Relu (u)
           w = Reshape (v, c)  z = Transpose <perm = [0, 2, 1, 3]> (w)  y = Reshape (z, d) }}"""
    )
    after, report = run("unbake-batch", model)
    if report.rewrites:
        assert_equivalent("unbake-batch", model)
        assert after.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
        assert run("unbake-batch", after)[0] == after
    else:
        assert size == 1 or rows == 1 or heads == 1
        assert after == model


MIXED = {
    "y = Softmax <axis = 0> (x)": "works along the batch",
    "y = Concat <axis = 0> (x, x)": "joins along the batch",
    "y = Slice (x, zero, one, zero)": "it slices the batch",
    "y = Gather (x, zero)": "takes rows out of the batch",
    "t = Transpose (x)  y = MatMul (t, x)": "it sums over the batch",
    "t = Transpose (x)  y = Add (t, x)": "on different axes",
    "y, i = TopK <axis = 0> (x, one)": "it sorts the batch",
    "y = Unique (x)": "it is not known what Unique does",
    "s = Shape (x)  y = Neg (s)": "it computes Neg of the batch",
    "y = Identity (three)": "no output has the batch",
}


@pytest.mark.parametrize("body", MIXED)
def test_what_mixes_rows_is_refused(body: str) -> None:
    constants = "int64[1] zero = {0}, int64[1] one = {1}, float[3] three = {1, 2, 3}"
    model = parse(f"g (float[3,3] x) => (float y) <{constants}> {{ {body} }}")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    after, report = run("unbake-batch", model)
    assert after == model
    assert MIXED[body] in report.refusals[0].reason


@pytest.mark.parametrize(
    "body",
    [
        "s = Shape (x)  n = Gather (s, zero)  t = Concat <axis = 0> (n, six)  y = Reshape (x, t)",
        "s = Shape (x)  c = ConstantOfShape (s)  y = Add (c, x)",
        "y = Resize (w, , , sizes)",
        "p = Mul (x, x)  y = Reshape <allowzero = 1> (p, flat)",
    ],
)
def test_sizes_that_are_computed(body: str) -> None:
    constants = (
        "int64[1] zero = {0}, int64[1] six = {6}, int64[4] sizes = {2, 1, 4, 6}, int64[2] flat = {2, 6}"
    )
    model = parse(f"g (float[2,2,3] x, float[2,1,2,3] w) => (float y) <{constants}> {{ {body} }}")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert_equivalent("unbake-batch", model)


def test_recurrent_states_are_given_to_every_row() -> None:
    model = parse(
        """g (float[1,3,2] x) => (float y)
        <float[1,4,2] w = {1, 2, 3, 4, 5, 6, 7, 8}, float[1,4,1] r = {1, 2, 3, 4},
        float[1,1,1] h = {0.5}, float[1,1,1] c = {0.25}>
        { t = Transpose <perm = [1, 0, 2]> (x)  y = LSTM <hidden_size = 1> (t, w, r, , , h, c) }"""
    )
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert_equivalent("unbake-batch", model)


def test_inputs_are_chosen_by_name() -> None:
    model = parse("g (float[2,3] x, float[4,3] z) => (float[2,4] y) { t = Transpose (z)  y = MatMul (x, t) }")
    after = assert_equivalent("unbake-batch:inputs=x", model)
    dims = [[d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim] for i in after.graph.input]
    assert dims == [["N", 3], [4, 3]]
    with pytest.raises(BadOption):
        run("unbake-batch:inputs=q", model)
