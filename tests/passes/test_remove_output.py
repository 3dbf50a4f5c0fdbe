"""The ``remove-output`` pass: an output goes with all that only it needed, and nothing else does."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphkit import BadOption
from graphkit.testing import assert_equivalent, run
from tests.passes.named_edits import FEED, applied, close, ends, escaped, made, parse, slowly, values
from tests.passes.scoped_models import FLOAT, models


@slowly
@given(models(), st.data())
def test_random_models(model: onnx.ModelProto, data: st.DataObject) -> None:
    """What `add-output` adds goes again without a trace, and any output may go while one stays."""
    inner = [n for n in made(model) if n not in ends(model)[1]]
    for name in data.draw(st.lists(st.sampled_from(inner), max_size=2, unique=True)) if inner else []:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, FLOAT, [2]))
    outputs = ends(model)[1]
    gone = data.draw(st.lists(st.sampled_from(outputs), min_size=1, unique=True))
    spec = "remove-output:" + "+".join(map(escaped, gone))
    if len(gone) == len(outputs):
        assert [r.reason for r in run(spec, model)[1].refusals] == ["no output would be left"]
        return
    got = assert_equivalent(spec, model)
    left = [n for n in outputs if n not in gone]
    assert ends(got)[1] == left
    close(values(got, FEED, left), values(model, FEED, left))
    onnx.checker.check_model(got, full_check=True)


DEFAULT = """g (float[2] x, float[2] k, float[2] z) => (float[2] y, float[2] other) <float[2] k = {1, 2}> {
  h = Add (x, k)
  y = Sub (h, z)
  other = Neg (x)
}"""


def test_inputs_that_nothing_reads_any_more_go_with_it() -> None:
    got = applied("remove-output:y", parse(DEFAULT))
    assert ends(got) == (["x"], ["other"]) and not got.graph.initializer


def test_an_input_that_nothing_read_before_stays() -> None:
    model = parse(DEFAULT)
    model.graph.input.append(onnx.helper.make_tensor_value_info("idle", FLOAT, [2]))
    assert ends(applied("remove-output:y", model))[0] == ["x", "idle"]


def test_a_slip_is_an_error_and_what_is_gone_is_a_note() -> None:
    model = parse(DEFAULT)
    with pytest.raises(BadOption, match="there is no output 'othr'; did you mean other?"):
        run("remove-output:othr", model)
    for name in ("masks", "h"):
        got, report = run(f"remove-output:{name}", model)
        assert got == model
        assert report.notes == (f"'{name}' is no output (any more); the outputs are 'y', 'other'",)
    with pytest.raises(BadOption, match="needs names"):
        run("remove-output", model)
    with pytest.raises(BadOption, match="names no output"):
        run("remove-output:names=", model)
