"""The ``insert`` pass: one node on an edge, and nothing else is another."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphkit import BadOption
from graphkit.testing import assert_equivalent, run
from graphkit_passes._operator import as_text, value_of
from graphkit_passes.insert import Insert
from tests.passes.named_edits import FEED, applied, close, ends, escaped, made, parse, slowly, values
from tests.passes.scoped_models import graphs, models

TWO = """g (float[2] x) => (float[2] y, float[2] z) {
  h = Relu (x)
  [sum] y = Add (h, h)
  z = Abs (h)
}"""


@slowly
@given(models(), st.data())
def test_an_identity_anywhere(model: onnx.ModelProto, data: st.DataObject) -> None:
    read = {i for g in graphs(model) for n in g.node for i in n.input} | set(ends(model)[1])
    name = data.draw(st.sampled_from(sorted({"x", *made(model)} & read)))
    got = assert_equivalent(f"insert:on={escaped(name)}", model)
    assert ends(got) == ends(model)
    close(values(got, FEED, ends(got)[1]), values(model, FEED, ends(model)[1]))
    onnx.checker.check_model(got, full_check=True)


@slowly
@given(models(), st.data())
def test_a_node_that_computes_reaches_all_readers(model: onnx.ModelProto, data: st.DataObject) -> None:
    """With -x behind the input, the model computes what it computed of -x."""
    got, report = run("insert:op=Neg,on=x", model)
    outputs = ends(model)[1]
    if report.rewrites:
        close(values(got, FEED, outputs), values(model, {**FEED, "x": -FEED["x"]}, outputs))


def test_the_others_are_compared() -> None:
    model = parse("g (float[2] x) => (float[2] y, float[2] z) { h = Relu (x)  y = Neg (h)  z = Exp (x) }")
    _, report = run("insert:op=Softmax,on=h,axis=0", model)
    assert report.notes == ("a Softmax was put in behind 'h'",)
    got = assert_equivalent("insert:op=Softmax,on=h,axis=0", model)
    before, after = values(model, {"x": FEED["x"]}, ["z"]), values(got, {"x": FEED["x"]}, ["z"])
    close(after, before)


def test_one_reader_or_one_of_its_inputs() -> None:
    got = applied("insert:op=Neg,on=h,reader=sum,input=1", parse(TWO))
    assert [list(n.input) for n in got.graph.node if n.op_type != "Neg"] == [["x"], ["h", "h_Neg"], ["h"]]
    got = applied("insert:op=Neg,on=h,reader=y", parse(TWO))
    assert [list(n.input) for n in got.graph.node if n.op_type != "Neg"] == [["x"], ["h_Neg", "h_Neg"], ["h"]]


def test_twins_are_told_apart() -> None:
    """GraphSurgeon compares nodes by their names: only the one that is meant may change."""
    model = parse("g (float[2] x) => (float[2] y, float[2] z) { [n] y = Neg (x)  [n] z = Neg (x) }")
    got = applied("insert:on=x,reader=z", model)
    assert [list(n.input) for n in got.graph.node] == [["x"], ["x"], ["x_Identity"]]


def test_an_output_gets_the_type_of_the_new_node() -> None:
    got = applied("insert:op=Cast,on=z,to=float16", parse(TWO))
    assert [o.type.tensor_type.elem_type for o in got.graph.output] == [1, 10]
    got, _ = run("insert:op=Mystery,domain=custom,on=z", parse(TWO))
    assert [o.type.tensor_type.elem_type for o in got.graph.output] == [1, 1]
    assert [(o.domain, o.version) for o in got.opset_import][-1] == ("custom", 1)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("op=Relu", "needs on"),
        ("on=hh", "there is no tensor 'hh'; did you mean h?"),
        ("on=h,op=Relo", "ONNX has no operator 'Relo' in opset 17; did you mean Relu"),
        ("on=h,op=RMSNormalization", "ONNX has no operator 'RMSNormalization' in opset 17"),
        ("on=h,op=Add", "Add takes 2 inputs"),
        ("on=h,op=Relu,alpha=1", "Relu has no attribute 'alpha'; it has none"),
        ("on=h,op=LeakyRelu,alhpa=1", "LeakyRelu has no attribute 'alhpa'; did you mean alpha?"),
        ("on=h,op=LeakyRelu,alpha=much", "alpha=much is no float"),
        ("on=h,op=Cast", "Cast needs the attribute 'to'"),
        ("on=h,op=Foo,domain=d,a=ints:", "a=ints: is no value"),
        ("on=h,reader=summ", "no node 'summ' reads 'h'; did you mean sum?"),
        ("on=h,reader=sum,input=2", "'sum' reads 'h' as input 0 and 1, not 2"),
        ("on=h,input=0", "give that node with reader=NAME"),
    ],
)
def test_what_cannot_be(spec: str, said: str) -> None:
    with pytest.raises(BadOption) as caught:
        run(f"insert:{spec}", parse(TWO))
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-1", -1),
        ("0.5", 0.5),
        ("1e+5", 1e5),
        ("1+2", [1, 2]),
        ("1+0.5", [1.0, 0.5]),
        ("linear", "linear"),
        ("a+b", "a+b"),
        ("string:1", "1"),
        ("strings:a+b", ["a", "b"]),
        (r"strings:a\+b+c", ["a+b", "c"]),
        ("ints:3", [3]),
        ("float:1", 1.0),
        ("int:float16", 10),
        ("x:1", "x:1"),
    ],
)
def test_attributes_by_their_looks(text: str, value: object) -> None:
    found = value_of(text)
    assert found == value and type(found) is type(value)


SCALARS = st.one_of(
    st.integers(-(2**62), 2**62),
    st.floats(allow_nan=False),
    st.text(max_size=8).filter(lambda t: t.isprintable()),
)


@given(st.one_of(SCALARS, *(st.lists(s, min_size=1, max_size=3) for s in SCALARS.original_strategies)))
def test_what_a_recipe_gives_is_what_a_spec_says(value: object) -> None:
    assert value_of(as_text(value)) == value
    made = Insert.from_values({"on": "h", "op": "Foo", "domain": "d", "a": value})
    again = Insert.from_spec(str(made).partition(":")[2])
    assert again == made and value_of(again.attributes["a"]) == value


def test_what_no_attribute_is() -> None:
    for value in (None, True, [], [1, "a"], {}):
        with pytest.raises(BadOption, match="an attribute is a number"):
            as_text(value)


def test_a_constant_may_have_a_node_behind_it() -> None:
    model = parse("g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add (x, w) }")
    got = assert_equivalent("insert:on=w", model)
    assert [n.op_type for n in got.graph.node] == ["Identity", "Add"]
    assert got.graph.initializer[0] == model.graph.initializer[0]
