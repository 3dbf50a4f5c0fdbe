"""The ``extract`` pass: a part of a model computes what it computed in the whole."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphkit import BadOption, PassFailed
from graphkit.testing import assert_equivalent, run
from tests.passes.named_edits import FEED, applied, close, ends, escaped, made, parse, slowly, values
from tests.passes.scoped_models import graphs, models

TWO = """g (float[2] x, float[2] z) => (float[2] y, bool[2] unused) <float[2] w = {1, 2}> {
  a = Relu (x)
  b = Mul (a, w)
  y = Add (b, z)
  unused = IsNaN (z)
}"""


@slowly
@given(models(), st.data())
def test_what_outputs_need(model: onnx.ModelProto, data: st.DataObject) -> None:
    wanted = data.draw(st.lists(st.sampled_from(made(model)), min_size=1, max_size=3, unique=True))
    spec = "extract:outputs=" + "+".join(map(escaped, wanted))
    got = assert_equivalent(spec, model)
    assert ends(got)[1] == wanted
    close(values(got, FEED, wanted), values(model, FEED, wanted))
    needed = {i for g in graphs(got) for n in g.node for i in n.input}
    assert all(t.name in needed for t in got.graph.initializer)
    onnx.checker.check_model(got, full_check=True)


@slowly
@given(models(), st.data())
def test_between_two_tensors(model: onnx.ModelProto, data: st.DataObject) -> None:
    """Fed with what the whole computed there, the part computes the same behind it."""
    first, last = (data.draw(st.sampled_from(made(model))) for _ in range(2))
    spec = f"extract:inputs={escaped(first)}+x+c,outputs={escaped(last)}"
    try:
        got, _ = run(spec, model)
    except BadOption as error:
        assert "no output depends" in str(error) or "both an input" in str(error)
        return
    assert_equivalent(spec, model)
    known = values(model, FEED)
    close(values(got, {**FEED, first: known[first]}, [last]), {last: known[last]})


@pytest.mark.parametrize(
    ("spec", "error", "said"),
    [
        ("inputs=b,outputs=y", PassFailed, "output 'y' cannot be computed from b: it needs 'z'; add that"),
        ("inputs=b+x,outputs=y+b", BadOption, "'b' is both an input and an output"),
        ("inputs=a+z,outputs=b", BadOption, "no output depends on the input 'z'; leave it out"),
        ("inputs=w,outputs=b", BadOption, "'w' is a constant; only what is computed can be an input"),
        ("outputs=w", BadOption, "'w' is a constant; name a tensor that a node computes"),
        ("outputs=x", BadOption, "'x' is a graph input"),
        ("yy", BadOption, "there is no tensor 'yy'; did you mean y?"),
        ("inputs=aa,outputs=y", BadOption, "there is no tensor 'aa'; did you mean a?"),
        ("inputs=a+a,outputs=b", BadOption, "'a' is given twice as an input"),
        ("outputs=b+b", BadOption, "'b' is given twice as an output"),
        ("outputs=", BadOption, "names no tensor"),
        ("inputs=a", BadOption, "needs outputs"),
    ],
)
def test_what_cannot_be(spec: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match="^(extract|pass 'extract')") as caught:
        run(f"extract:{spec}", parse(TWO))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_tensor_of_a_branch_is_named_with_its_place() -> None:
    text = """g (bool c, float[2] x) => (float[2] y) { y = If (c) <then_branch = t () => (float[2] p)
    { p = Neg (x) }, else_branch = e () => (float[2] q) { q = Abs (x) }> }"""
    with pytest.raises(BadOption, match="'p' lies in main/y.then_branch; name a tensor of the main graph"):
        run("extract:p", parse(text))


def test_inputs_come_in_the_order_given_and_keep_their_messages() -> None:
    model = parse(TWO)
    model.graph.input[1].doc_string = "kept"
    got = applied("extract:inputs=z+a,outputs=y", model)
    assert ends(got) == (["z", "a"], ["y"])
    assert got.graph.input[0].SerializeToString() == model.graph.input[1].SerializeToString()
    kept = {n.SerializeToString() for n in model.graph.node}
    assert all(n.SerializeToString() in kept for n in got.graph.node)


def test_a_default_of_an_input_stays_one_and_goes_when_it_is_not_needed() -> None:
    model = parse("""g (float[2] x, float[2] k) => (float[2] y, float[2] z) <float[2] k = {1, 2}> {
      h = Add (x, k)  y = Neg (h)  z = Relu (x) }""")
    got = applied("extract:y", model)
    assert ends(got)[0] == ["x", "k"] and [t.name for t in got.graph.initializer] == ["k"]
    got = applied("extract:z", model)
    assert ends(got)[0] == ["x"] and not got.graph.initializer


def test_it_is_a_bridge() -> None:
    """Without what the original computed for the new input, nothing could be compared."""
    _, report = run("extract:inputs=a,outputs=b", parse(TWO))
    assert report.notes == ("kept 1 of 4 nodes", "the model is what makes 'b' from 'a'")
    assert run("extract:y+unused", parse(TWO))[1].rewrites == 0


def test_a_training_graph_is_not_cut() -> None:
    model = parse(TWO)
    info = model.training_info.add()
    info.algorithm.node.add(op_type="Neg", input=["b"], output=["grad"])
    info.algorithm.name = "step"
    with pytest.raises(PassFailed, match="'b' cannot go: a training graph"):
        run("extract:a", model)
