"""The ``add-output`` pass: inner tensors become outputs, with the types that inference finds."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphkit import BadOption
from graphkit.testing import assert_equivalent, run
from tests.passes.named_edits import FEED, applied, close, ends, escaped, made, parse, slowly, values
from tests.passes.scoped_models import models


@slowly
@given(models(), st.data())
def test_random_models(model: onnx.ModelProto, data: st.DataObject) -> None:
    wanted = data.draw(st.lists(st.sampled_from(made(model)), min_size=1, max_size=3, unique=True))
    got = assert_equivalent("add-output:" + "+".join(map(escaped, wanted)), model)
    before = ends(model)[1]
    assert ends(got)[1] == before + [n for n in wanted if n not in before]
    close(values(got, FEED, wanted), values(model, FEED, wanted))
    assert [n.SerializeToString() for n in got.graph.node] == [
        n.SerializeToString() for n in model.graph.node
    ]


def test_the_type_is_the_inferred_one_and_keeps_the_names_of_dims() -> None:
    model = parse("""g (float[batch,2,3] x) => (bool y) <float[batch,3,wide] a> {
      a = Transpose <perm = [0, 2, 1]> (x)  s = ReduceSum <keepdims = 0> (a)  y = IsNaN (s) }""")
    got = applied("add-output:a", model)
    dims = got.graph.output[1].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == ["batch", 3, 2]
    assert not got.graph.value_info


def test_doubles_too() -> None:
    """To numpy, None is a name of float64."""
    got = applied(
        "add-output:d", parse("g (float[2] x) => (bool[2] y) { d = Cast <to = 11> (x)  y = IsNaN (d) }")
    )
    assert got.graph.output[1].type.tensor_type.elem_type == onnx.TensorProto.DOUBLE


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("", "needs names"),
        ("names=", "names no tensor"),
        ("hh", "there is no tensor 'hh'; did you mean h?"),
        ("p", "'p' lies in main/y.then_branch"),
        ("x", "'x' is a graph input"),
        ("w", "'w' is a constant"),
        ("h+h", "'h' is given twice"),
    ],
)
def test_what_cannot_be(spec: str, said: str) -> None:
    model = parse("""g (bool c, float[2] x) => (float[2] y) <float[2] w = {1, 2}> { h = Add (x, w)
      y = If (c) <then_branch = t () => (float[2] p) { p = Neg (h) },
                  else_branch = e () => (float[2] q) { q = Abs (x) }> }""")
    with pytest.raises(BadOption) as caught:
        run(f"add-output:{spec}", model)
    assert said in str(caught.value)
