"""The ``merge`` pass: two models in one compute what they do one after the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

import graphkit
from graphkit import BadInput, BadOption
from graphkit.testing import assert_equivalent, run
from tests.passes.named_edits import FEED, applied, close, ends, escaped, parse, slowly, values
from tests.passes.scoped_models import FLOAT, models

FIRST = """g (float[N,4] x, bool c) => (float[N,4] y, float[N,4] z) <float[4] w = {1, 2, 3, 4}> {
  h = Mul (x, w)
  y = Relu (h)
  z = Neg (h)
}"""
SECOND = """g (float[N,4] y) => (float[N,4] s) { s = Softmax (y) }"""


def saved(folder: Path, model: onnx.ModelProto | str, name: str = "second") -> str:
    """The model as a file, and its path as an option."""
    path = folder / f"{name}.onnx"
    onnx.save(parse(model) if isinstance(model, str) else model, path)
    return escaped(str(path))


@slowly
@given(models(), models(), st.sampled_from(["", "b/"]), st.booleans())
def test_random_models(
    tmp_path_factory: pytest.TempPathFactory,
    first: onnx.ModelProto,
    second: onnx.ModelProto,
    prefix: str,
    keep: bool,
) -> None:
    """Names, subgraphs and functions of both clash in every way that the generator finds."""
    path = saved(tmp_path_factory.mktemp("m"), second)
    source = ends(first)[1][0]
    spec = f"merge:with={path},map={escaped(source)}->x,keep={keep},prefix={prefix}"
    got = assert_equivalent(spec, first)
    onnx.checker.check_model(got, full_check=True)
    kept = [o for o in ends(first)[1] if keep or o != source]
    assert ends(got)[0] == ["x", "c"] and ends(got)[1][: len(kept)] == kept
    before = values(first, FEED, ends(first)[1])
    behind = values(second, {"x": before[source], "c": FEED["c"]}, ends(second)[1])
    after = values(got, FEED, ends(got)[1])
    assert len(after) == len(kept) + len(behind)
    close({n: after[n] for n in kept}, {n: before[n] for n in kept})
    for name, value in zip(ends(got)[1][len(kept) :], behind.values(), strict=True):
        np.testing.assert_allclose(after[name], value, rtol=1e-5)
    again, report = run(spec, got)
    assert not report.rewrites and again == got


def test_the_bytes_of_both_are_kept(tmp_path: Path) -> None:
    second = parse("""g (float[N,4] y, bool c) => (float[N,4] s) <float[4] k = {1, 1, 2, 2}> {
      [n] t = Mul (y, k)
      s = If (c) <then_branch = a () => (float[N,4] p) { p = Neg (t) },
                  else_branch = b () => (float[N,4] q) { q = Abs (t) }> }""")
    second.graph.node[0].doc_string = second.graph.initializer[0].doc_string = "kept"
    second.graph.node[0].metadata_props.add(key="namespace", value="kept")
    first = parse(FIRST)
    got = applied(f"merge:with={saved(tmp_path, second)}", first)
    nodes = {n.SerializeToString() for n in got.graph.node}
    assert all(n.SerializeToString() in nodes for n in (*first.graph.node, second.graph.node[0]))
    assert second.graph.initializer[0] in list(got.graph.initializer)


def test_inputs_are_fed_shared_or_new(tmp_path: Path) -> None:
    second = (
        "g (float[N,4] y, bool c, float[4] bias) => (float[N,4] s) { t = Add (y, bias)  s = Where (c, t, y) }"
    )
    got = applied(f"merge:with={saved(tmp_path, second)}", parse(FIRST))
    assert ends(got) == (["x", "c", "bias"], ["z", "s"])
    assert_equivalent(f"merge:with={saved(tmp_path, second)},map=h->y", parse(FIRST))


def test_an_output_of_the_second_that_is_its_input(tmp_path: Path) -> None:
    second = "g (float[N,4] y) => (float[N,4] y, float[N,4] s) { s = Softmax (y) }"
    got = assert_equivalent(f"merge:with={saved(tmp_path, second)},prefix=b/", parse(FIRST))
    assert ends(got)[1] == ["z", "b/y", "b/s"]


def test_functions_of_one_name_and_one_body_are_one(tmp_path: Path) -> None:
    function = '<domain: "local", opset_import: ["": 17]> f (v) => (o) { o = Exp (v) }'
    first = parse("g (float[2] x) => (float[2] y) { y = local.f (x) }" + function)
    same = parse("g (float[2] y) => (float[2] s) { s = local.f (y) }" + function)
    other = parse("g (float[2] y) => (float[2] s) { s = local.f (y) }" + function.replace("Exp", "Neg"))
    assert [f.name for f in applied(f"merge:with={saved(tmp_path, same)}", first).functions] == ["f"]
    got = assert_equivalent(f"merge:with={saved(tmp_path, other)}", first)
    assert [f.name for f in got.functions] == ["f", "f_1"]


def test_functions_with_overloads_are_refused_when_they_differ(tmp_path: Path) -> None:
    text = """g (float[2] x) => (float[2] y) {{ y = local.f (x) }}
      <domain: "local", opset_import: ["": 17]> f (v) => (o) {{ o = {} (v) }}"""
    first, second = (parse(text.format(op)) for op in ("Exp", "Neg"))
    for model in (first, second):
        model.functions[0].overload = model.graph.node[0].overload = "float"
    _, report = run(f"merge:with={saved(tmp_path, second)},map=y->x", first)
    assert "functions of one name that differ, and have overloads" in report.refusals[0].reason
    got, report = run(f"merge:with={saved(tmp_path, first)},map=y->x", first)
    assert report.rewrites == 1 and len(got.functions) == 1


def test_metadata_and_domains_of_both_are_kept(tmp_path: Path) -> None:
    first, second = parse(FIRST), parse(SECOND)
    first.metadata_props.add(key="author", value="a")
    for key, value in (("author", "b"), ("names", "cat,dog")):
        second.metadata_props.add(key=key, value=value)
    second.opset_import.add(domain="ai.onnx.ml", version=3)
    second.ir_version = 11
    got, report = run(f"merge:with={saved(tmp_path, second)}", first)
    assert [(p.key, p.value) for p in got.metadata_props] == [("author", "a"), ("names", "cat,dog")]
    assert ("ai.onnx.ml", 3) in [(o.domain, o.version) for o in got.opset_import] and got.ir_version == 11
    assert "the metadata says 'author' in both models: this one's stays" in report.notes


def test_a_default_of_the_second_is_a_constant(tmp_path: Path) -> None:
    second = (
        """g (float[N,4] y, float[4] k) => (float[N,4] s) <float[4] k = {1, 2, 3, 4}> { s = Mul (y, k) }"""
    )
    got, report = run(f"merge:with={saved(tmp_path, second)}", parse(FIRST))
    assert ends(got)[0] == ["x", "c"] and "the default of 'k' is a constant now" in " ".join(report.notes)
    fed = applied(f"merge:with={saved(tmp_path, second)},map=y->y+w->k", parse(FIRST))
    assert [t.name for t in fed.graph.initializer] == ["w"]


@pytest.mark.parametrize(
    ("versions", "result"),
    [((17, 18), 18), ((18, 17), 18), ((13, 23), 13), ((12, 23), None)],
)
def test_versions(tmp_path: Path, versions: tuple[int, int], result: int | None) -> None:
    """Of what is in them, Mul and Relu are the same from opset 14 on, and Softmax from 13."""
    first, second = parse(FIRST), parse(SECOND)
    first.opset_import[0].version, second.opset_import[0].version = versions
    got, report = run(f"merge:with={saved(tmp_path, second)}", first)
    if result is None:
        assert "use versions 12 and 23 of ai.onnx" in report.refusals[0].reason
    else:
        assert {o.domain: o.version for o in got.opset_import}[""] == result


def weighted(folder: Path, size: int = 4) -> Path:
    """A model whose weight, and whose branch's weight, lie in a file beside it."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    values_ = {n: rng.normal(size=(size,)).astype(np.float32) for n in ("big", "inner")}
    tensors = {n: numpy_helper.from_array(v, n) for n, v in values_.items()}
    branch = [
        helper.make_graph(
            [helper.make_node("Mul", ["t", "inner"], [f"{k}_out"])],
            k,
            [],
            [helper.make_tensor_value_info(f"{k}_out", FLOAT, ["N", 4])],
            [tensors["inner"]] if k == "then" else [numpy_helper.from_array(np.ones(4, np.float32), "inner")],
        )
        for k in ("then", "else")
    ]
    nodes = [
        helper.make_node("Mul", ["y", "big"], ["t"]),
        helper.make_node("If", ["c"], ["s"], then_branch=branch[0], else_branch=branch[1]),
    ]
    inputs = [helper.make_tensor_value_info("y", FLOAT, ["N", 4]), helper.make_tensor_value_info("c", 9, [])]
    outputs = [helper.make_tensor_value_info("s", FLOAT, ["N", 4])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [tensors["big"]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(
        model, folder / "second.onnx", save_as_external_data=True, location="second.data", size_threshold=0
    )
    return folder / "second.onnx"


def test_external_data_of_one_folder_stays_where_it_is(tmp_path: Path) -> None:
    second = weighted(tmp_path / "a")
    onnx.save(parse(FIRST), tmp_path / "a" / "first.onnx")
    out = tmp_path / "a" / "out.onnx"
    report = graphkit.rewrite(tmp_path / "a" / "first.onnx", [f"merge:with={escaped(str(second))}"], out)
    assert report.verification.status == "held"
    made = onnx.load(out, load_external_data=False)
    assert [t.name for t in made.graph.initializer if t.external_data] == ["big"]
    elsewhere = tmp_path / "b"
    elsewhere.mkdir()
    graphkit.rewrite(
        tmp_path / "a" / "first.onnx", [f"merge:with={escaped(str(second))}"], elsewhere / "out.onnx"
    )
    assert (elsewhere / "second.data").read_bytes() == (tmp_path / "a" / "second.data").read_bytes()


def test_external_data_of_another_folder_goes_into_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = weighted(tmp_path / "a")
    (tmp_path / "b").mkdir()
    onnx.save(parse(FIRST), tmp_path / "b" / "first.onnx")
    spec = f"merge:with={escaped(str(second))}"
    report = graphkit.rewrite(tmp_path / "b" / "first.onnx", [spec], tmp_path / "b" / "out.onnx")
    assert report.verification.status == "held"
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["first.onnx", "out.onnx"]
    onnx.checker.check_model(onnx.load(tmp_path / "b" / "out.onnx"), full_check=True)
    monkeypatch.setattr("graphkit_passes._merging.MOST", 8)
    _, told = run(spec, parse(FIRST))
    assert "bytes of external data; put both in one folder" in told.refusals[0].reason


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("map=y->inn", "has no input 'inn'; its inputs are 'y'"),
        ("map=yy->y", "there is no tensor 'yy'; did you mean y?"),
        ("map=y", "'y' is no pair; write out->in"),
        ("map=y->y+z->y", "feeds the input 'y' twice"),
        ("prefix=a", ""),
    ],
)
def test_what_cannot_be(tmp_path: Path, options: str, said: str) -> None:
    spec = f"merge:with={saved(tmp_path, SECOND)},{options}"
    if not said:
        assert run(spec, parse(FIRST))[1].rewrites
        return
    with pytest.raises(BadOption) as caught:
        run(spec, parse(FIRST))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    for name, said in (("none.onnx", "there is no such file"), ("text.onnx", "not an ONNX model")):
        with pytest.raises(BadInput, match=said):
            run(f"merge:with={escaped(str(tmp_path / name))}", parse(FIRST))
    with pytest.raises(
        BadOption, match="nothing feeds .*: this model makes 'y', 'z', and that one takes 'v'"
    ):
        run(f"merge:with={saved(tmp_path, SECOND.replace('y', 'v'))}", parse(FIRST))


def test_a_training_graph_is_refused(tmp_path: Path) -> None:
    second = parse(SECOND)
    info = second.training_info.add()
    info.algorithm.node.add(op_type="Neg", input=["s"], output=["grad"])
    info.algorithm.name = "step"
    _, report = run(f"merge:with={saved(tmp_path, second)}", parse(FIRST))
    assert "has a training graph" in report.refusals[0].reason
