"""The ``cut`` pass: what comes before a tensor is as it was, what comes after it is gone."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphkit import BadOption
from graphkit.testing import assert_equivalent, run
from tests.passes.named_edits import FEED, applied, close, ends, escaped, made, parse, slowly, values
from tests.passes.scoped_models import graphs, models

HEADS = """g (float[N,4] x, float limit) => (float[N,4] kept, float[N,4] other) {
  h = Relu (x)
  boxes = Neg (h)
  scores = Sigmoid (h)
  both = Mul (boxes, scores)
  kept = Max (both, limit)
  other = Exp (x)
}"""


@slowly
@given(models(), st.data())
def test_random_models(model: onnx.ModelProto, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(made(model)))
    got = assert_equivalent(f"cut:{escaped(name)}", model)
    _, outputs = ends(got)
    assert name in outputs
    assert not any(name in n.input for g in graphs(got) for n in g.node if n in list(got.graph.node))
    close(values(got, FEED, outputs), values(model, FEED, outputs))
    onnx.checker.check_model(got, full_check=True)


def test_outputs_that_do_not_depend_on_it_come_first() -> None:
    got = applied("cut:after=scores+boxes", parse(HEADS))
    assert ends(got) == (["x"], ["other", "scores", "boxes"])
    assert made(got) == ["h", "boxes", "scores", "other"]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("", "needs after"),
        ("after=", "names no tensor"),
        ("boxs", "there is no tensor 'boxs'; did you mean boxes or both?"),
        ("x", "'x' is a graph input"),
        ("h+boxes", "'boxes' comes after another one of 'h', 'boxes'"),
        ("h+h", "'h' is given twice"),
    ],
)
def test_what_cannot_be(spec: str, said: str) -> None:
    with pytest.raises(BadOption) as caught:
        run(f"cut:{spec}", parse(HEADS))
    assert said in str(caught.value)


def test_several_heads_say_what_went() -> None:
    _, report = run("cut:boxes+scores", parse(HEADS))
    assert report.notes == (
        "the model ends at 'boxes', 'scores'; 'kept' is gone; nothing reads 'limit' any more: "
        "gone from the inputs",
    )
