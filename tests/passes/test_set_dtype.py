"""The ``set-dtype`` pass: the caller's dtype changes, what is computed does not."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from graphkit import BadOption
from graphkit.testing import assert_equivalent, run
from graphkit_passes.set_dtype import SetDtype
from tests.passes.named_edits import applied, close, ends, escaped, parse, slowly, values
from tests.passes.scoped_models import models

INTS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
FLOATS = ["float16", "float32", "float64"]


def declared(model: onnx.ModelProto, name: str) -> np.dtype:
    (found,) = [i for i in (*model.graph.input, *model.graph.output) if i.name == name]
    return np.dtype(helper.tensor_dtype_to_np_dtype(found.type.tensor_type.elem_type))


@slowly
@given(models(), st.sampled_from([*INTS, *FLOATS]), st.sampled_from(FLOATS))
def test_random_models(model: onnx.ModelProto, given_: str, made: str) -> None:
    output = ends(model)[1][0]
    got = assert_equivalent(f"set-dtype:x={given_},{escaped(output)}={made}", model)
    assert ends(got) == ends(model)
    assert declared(got, "x") == np.dtype(given_) and declared(got, output) == np.dtype(made)
    feed = {"x": np.array([3, 1], given_), "c": np.array(True)}
    before = values(model, {**feed, "x": feed["x"].astype(np.float32)}, [output])
    after = values(got, feed, [output])
    assert after[output].dtype == np.dtype(made)
    close({output: after[output].astype(np.float32)}, before, 1e-2)
    onnx.checker.check_model(got, full_check=True)


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.float16, ml_dtypes.bfloat16])
def test_each_kind_can_be_cast_from(dtype: type) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    info = [helper.make_tensor_value_info(n, kind, ["N"]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    got = applied("set-dtype:x=int32,y=float32", model)
    assert [n.op_type for n in got.graph.node] == ["Cast", "Identity", "Cast"]
    assert_equivalent("set-dtype:x=int32,y=float32", model)


def test_what_reads_and_what_makes_it_keep_their_bytes_but_for_the_name() -> None:
    model = parse("g (float[2] x) => (float[2] y) { h = Neg (x)  r = Relu (h)  y = Abs (r) }")
    got = applied("set-dtype:x=uint8,y=float16", model)
    assert got.graph.node[2] == model.graph.node[1]
    assert [list(n.input) + list(n.output) for n in got.graph.node] == [
        ["x", "x_float32"],
        ["x_float32", "h"],
        ["h", "r"],
        ["r", "y_float32"],
        ["y_float32", "y"],
    ]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("", "names no input or output"),
        ("x", "needs a value"),
        ("x=unit8", "there is no dtype 'unit8'; did you mean uint8"),
        ("x=string", "there is no dtype 'string'"),
        ("z=uint8", "there is no input or output 'z'; the inputs and outputs are y, x"),
        ("h=uint8", "there is no input or output 'h'"),
    ],
)
def test_what_cannot_be(spec: str, said: str) -> None:
    with pytest.raises(BadOption) as caught:
        run(f"set-dtype:{spec}", parse("g (float[2] x) => (float[2] y) { h = Neg (x)  y = Abs (h) }"))
    assert said in str(caught.value)


def test_its_spec_reads_back() -> None:
    made = SetDtype(dtypes={"a,b=c": "uint8"})
    assert SetDtype.from_spec(str(made).partition(":")[2]) == made
    assert SetDtype.from_values({"x": "uint8"}) == SetDtype(dtypes={"x": "uint8"})
