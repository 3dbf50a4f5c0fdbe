"""The ``replace`` pass: one node in the place of many, where one can stand."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphkit import BadOption, PassFailed
from graphkit.testing import assert_equivalent, run
from graphkit_passes.replace import Replace
from tests.passes.named_edits import FEED, applied, close, ends, escaped, made, parse, slowly, values
from tests.passes.scoped_models import models

SOFTPLUS = """g (float[2] x, float[2] k) => (float[2] z, float[2] other) <float one = {1}> {
  e = Exp (x)
  p = Add (e, one)
  y = Log (p)
  z = Mul (y, k)
  other = Neg (e)
}"""


@slowly
@given(models(), st.data())
def test_a_plug_in_anywhere(model: onnx.ModelProto, data: st.DataObject) -> None:
    """Outputs that do not depend on it compute what they did."""
    name = data.draw(st.sampled_from(made(model)))
    got, report = run(f"replace:inputs=x+c,outputs={escaped(name)},op=Plug,domain=d", model)
    assert report.rewrites == 1
    (node,) = [n for n in got.graph.node if n.op_type == "Plug"]
    assert (list(node.input), list(node.output)) == (["x", "c"], [name])
    assert ends(got) == ends(model)
    free = [o for o in ends(model)[1] if o not in depending(got, name)]
    if free:
        part = run("extract:outputs=" + "+".join(map(escaped, free)), got)[0]
        close(values(part, FEED, free), values(model, FEED, free))


def depending(model: onnx.ModelProto, name: str) -> set[str]:
    found = {name}
    for node in model.graph.node:
        inner = [i for a in node.attribute for n in a.g.node for i in n.input]
        deeper = [
            i
            for a in node.attribute
            for n in a.g.node
            for b in n.attribute
            for m in b.g.node
            for i in m.input
        ]
        if found.intersection([*node.input, *inner, *deeper]):
            found.update(node.output)
    return found


def test_an_operator_is_held_to_what_it_replaces() -> None:
    model = parse(SOFTPLUS)
    got = assert_equivalent("replace:inputs=x,outputs=y,op=Softplus", model)
    assert [n.op_type for n in got.graph.node] == ["Exp", "Softplus", "Mul", "Neg"]
    with pytest.raises(AssertionError, match="differs"):
        assert_equivalent("replace:inputs=x,outputs=y,op=Relu", model)
    with pytest.raises(AssertionError, match="differs"):
        assert_equivalent("replace:inputs=x,outputs=y,op=LeakyRelu,alpha=2", model)


def test_attributes_have_the_types_of_the_schema() -> None:
    model = parse("g (float[2] x) => (float[2] y) { h = Neg (x)  y = Abs (h) }")
    got = applied("replace:inputs=x,outputs=y,op=LeakyRelu,alpha=2,name=leak", model)
    (node,) = got.graph.node
    assert (node.name, node.attribute[0].type, node.attribute[0].f) == (
        "leak",
        onnx.AttributeProto.FLOAT,
        2.0,
    )


def test_outputs_of_a_plug_in_keep_their_types() -> None:
    """What follows is inferred from them; the plug-in tells nothing."""
    got = applied("replace:inputs=x,outputs=y,op=Plug,domain=d", parse(SOFTPLUS))
    (info,) = [i for i in got.graph.value_info if i.name == "y"]
    assert info.type.tensor_type.elem_type == 1 and info.type.tensor_type.shape.dim[0].dim_value == 2
    again = applied("extract:inputs=y+k,outputs=z", got)
    assert ends(again) == (["y", "k"], ["z"])


@pytest.mark.parametrize(
    ("spec", "error", "said"),
    [
        (
            "inputs=x,outputs=z,op=P,domain=d",
            PassFailed,
            "output 'z' cannot be computed from x alone: it needs 'k'",
        ),
        (
            "inputs=,outputs=y,op=P,domain=d",
            PassFailed,
            "cannot be computed from constants alone: it needs 'x'",
        ),
        ("inputs=x,outputs=yy,op=P,domain=d", BadOption, "there is no tensor 'yy'; did you mean y?"),
        ("inputs=x,outputs=x,op=P,domain=d", BadOption, "'x' is a graph input"),
        ("inputs=x,outputs=y+y,op=P,domain=d", BadOption, "'y' is given twice"),
        ("inputs=x,outputs=,op=P,domain=d", BadOption, "names no tensor"),
        ("inputs=x,outputs=y,op=P", BadOption, "a plug-in needs a domain of its own"),
        ("inputs=x,outputs=y,op=Add", BadOption, "Add takes 2 inputs and makes 1 outputs, not 1 and 1"),
        ("inputs=x,outputs=y", BadOption, "needs op"),
    ],
)
def test_what_cannot_be(spec: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error) as caught:
        run(f"replace:{spec}", parse(SOFTPLUS))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_recipe_gives_typed_values() -> None:
    values_ = {
        "inputs": ["x"],
        "outputs": ["y"],
        "op": "P",
        "domain": "d",
        "alpha": 1.0,
        "axes": [1, 2],
        "s": "3",
    }
    made_ = Replace.from_values(values_)
    assert dict(made_.attributes) == {"alpha": "float:1.0", "axes": "ints:1+2", "s": "string:3"}
    got, _ = run(made_, parse(SOFTPLUS))
    (node,) = [n for n in got.graph.node if n.op_type == "P"]
    assert [onnx.helper.get_attribute_value(a) for a in node.attribute] == [1.0, [1, 2], b"3"]
