"""The pipeline: proven, or refused with the pass that did it; nothing half-written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import graphkit
from graphkit import BadInput, BadOutput, Model, PassFailed, RewriteRefused, Verification, rewrite
from graphkit.model import file
from graphkit.rewrite.bisect import first
from tests.rewrite.helpers import CALLS, SILU_TWICE, ops, proto, saved

SCRIPT = Path(__file__).with_name("script.py")
TAG, DOUBLING, WRONG = f"{SCRIPT}:tag", f"{SCRIPT}:Doubling", f"{SCRIPT}:Wrong"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return saved(SILU_TWICE, tmp_path / "in.onnx")


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_without_a_pass_the_bytes_are_the_same(source: Path) -> None:
    out = source.with_name("out.onnx")
    report = rewrite(source, output=out)
    assert out.read_bytes() == source.read_bytes()
    assert (report.verification.status, report.written, report.passes) == ("unchanged", True, ())
    assert names(source.parent) == ["in.onnx", "out.onnx"]


def test_a_pass_that_finds_nothing_changes_nothing(tmp_path: Path) -> None:
    source = saved("g (float[2] x) => (float[2] y) { y = Neg (x) }", tmp_path / "in.onnx")
    report = rewrite(source, [DOUBLING], source)
    assert report.verification.status == "unchanged" and report.passes[0].rewrites == 0


def test_a_rewrite_is_run_beside_the_original(source: Path) -> None:
    stages: list[str] = []
    report = rewrite(
        str(source),
        [DOUBLING],
        source.with_name("out.onnx"),
        progress=lambda s, done, total: stages.append(s),
    )
    assert report.verification.status == "held" and report.verification.runs
    assert ops(onnx.load(source.with_name("out.onnx")))["Add"] == 1
    assert stages == [DOUBLING, "checking", "verifying", "saving"]
    assert report.to_json()["schema"] == "graphkit.rewrite/1" and report.versions["onnx"] == onnx.__version__


def test_in_may_be_out(source: Path) -> None:
    rewrite(source, [DOUBLING], source)
    assert ops(onnx.load(source))["Add"] == 1


def test_without_an_output_or_verification_and_from_memory() -> None:
    model = proto(SILU_TWICE)
    report = rewrite(model, [DOUBLING], verify=False)
    assert (report.verification.status, report.written, report.output) == ("not-asked", False, None)
    assert report.input == "model in memory" and model == proto(SILU_TWICE)


def test_a_model_that_was_edited_is_the_source(tmp_path: Path) -> None:
    twin = Model.from_proto(proto(SILU_TWICE))
    assert rewrite(twin, output=tmp_path / "same.onnx").verification.status == "unchanged"
    twin.main.nodes[0].name = "edited"
    assert rewrite(twin, output=tmp_path / "out.onnx").verification.status == "unchanged"
    assert onnx.load(tmp_path / "out.onnx").graph.node[0].name == "edited"


@pytest.mark.parametrize("place", range(4))
def test_the_pass_that_broke_the_numbers_is_named(source: Path, place: int) -> None:
    specs = [f"{TAG}:prefix={i}" for i in range(3)]
    specs.insert(place, WRONG)
    with pytest.raises(RewriteRefused) as caught:
        rewrite(source, specs, source.with_name("out.onnx"))
    report = caught.value.report  # type: ignore[attr-defined]
    assert report.verification.culprit == WRONG and WRONG in str(caught.value)
    assert report.verification.first is not None and report.verification.first.tensor == "h"
    assert not report.written and len(report.passes) == 4
    assert names(source.parent) == ["in.onnx"]


def test_an_invalid_result_is_the_fault_of_the_pass_that_made_it(source: Path) -> None:
    for verify in (True, False):
        with pytest.raises(PassFailed, match="Invalid' left a model that onnx.checker refuses: ") as caught:
            rewrite(source, [TAG, f"{SCRIPT}:Invalid", DOUBLING], source.with_name("out.onnx"), verify=verify)
        assert "\n" not in str(caught.value)
        assert caught.value.report.verification.culprit == f"{SCRIPT}:Invalid"  # type: ignore[attr-defined]
    assert names(source.parent) == ["in.onnx"]


def test_an_original_that_is_invalid_already_is_nobodys_fault(tmp_path: Path) -> None:
    text = SILU_TWICE.replace("c = Constant", "n = NoSuchOperator (x) c = Constant")
    report = rewrite(saved(text, tmp_path / "in.onnx"), [DOUBLING], tmp_path / "out.onnx")
    assert "onnx.checker refuses the original too" in report.passes[-1].notes[0]
    assert report.verification.status == "not-run" and report.written


def test_a_crash_has_the_report_of_what_came_before(source: Path) -> None:
    with pytest.raises(PassFailed, match="KeyError") as caught:
        rewrite(source, [DOUBLING, f"{SCRIPT}:crash"], source.with_name("out.onnx"))
    assert [p.spec for p in caught.value.report.passes] == [DOUBLING]  # type: ignore[attr-defined]
    assert names(source.parent) == ["in.onnx"]


def test_what_cannot_be_exported_is_blamed(source: Path, tmp_path: Path) -> None:
    script = tmp_path / "bad.py"
    script.write_text("def odd(graph):\n    graph.nodes[0].attrs['x'] = object()\n")
    with pytest.raises(PassFailed, match="odd' left a graph that cannot be written") as caught:
        rewrite(source, [TAG, f"{script}:odd"], source.with_name("out.onnx"))
    assert caught.value.report.verification.culprit == f"{script}:odd"  # type: ignore[attr-defined]


def test_bad_input_is_told_before_any_pass_runs(tmp_path: Path) -> None:
    text = "g (float[2] x) => (float[2] y) { a = Neg (b)  b = Abs (a)  y = Add (x, b) }"
    with pytest.raises(BadInput, match=r"in.onnx: main has a cycle: Neg 'a' -> Abs 'b' -> Neg 'a'"):
        rewrite(saved(text, tmp_path / "in.onnx"), [f"{SCRIPT}:crash"], tmp_path / "out.onnx")
    twice = "g (float[2] x) => (float[2] y) { y = Neg (x)  y = Abs (x) }"
    with pytest.raises(BadInput, match="tensor 'y' in main is written by Neg 'y' and by Abs 'y'"):
        rewrite(proto(twice))
    with pytest.raises(BadOutput):
        rewrite(tmp_path / "in.onnx", output=tmp_path / "no" / "out.onnx")


def test_recipes_come_first(source: Path) -> None:
    recipe = source.with_name("r.toml")
    recipe.write_text(f'passes = ["{TAG}"]')
    report = rewrite(source, [DOUBLING], recipe=recipe)
    assert [p.spec for p in report.passes] == [TAG, DOUBLING]


def test_inputs_of_ones_own(source: Path) -> None:
    feeds = [{"x": np.ones((2, 3), np.float32)}]
    report = rewrite(source, [DOUBLING], feeds=feeds)
    assert report.verification.status == "held" and len(report.verification.runs) == 1


def test_bisecting_finds_the_first_that_holds() -> None:
    for count in range(1, 9):
        for least in range(1, count + 1):
            asked: list[int] = []
            assert first(count, lambda n, k=least, a=asked: a.append(n) or n >= k) == least  # type: ignore[misc]
            assert len(asked) <= 3


def test_parts_are_compared_without_joining_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "_CHUNK", 3)
    data = memoryview(b"0123456789")
    assert file.same_bytes([b"01234", memoryview(b"56789")], data)
    assert not file.same_bytes([b"01234", b"5678x"], data)
    assert not file.same_bytes([b"01234"], data)


def test_what_is_compared_besides_the_outputs(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def verify(*args: Any, **kwargs: Any) -> Verification:
        seen.update(kwargs)
        return Verification("held")

    monkeypatch.setattr("graphkit.compare.equivalence.verify", verify)
    script = source.with_name("io.py")
    script.write_text(
        "def io(graph):\n    graph.inputs[0].name = 'in0'\n    graph.outputs[0].name = 'out0'\n"
    )
    rewrite(source, [WRONG, f"{script}:io"], seed=3, verify_memory=5)
    assert seen["touched"] == [("h", "h")]
    assert seen["names"] == {"x": "in0", "y": "out0"}
    assert (seen["seed"], seen["memory"]) == (3, 5)


def test_apply_works_in_memory_and_leaves_the_original() -> None:
    model = proto(CALLS)
    before = model.SerializeToString()
    made = graphkit.apply(model, f"{SCRIPT}:Wrong")
    assert model.SerializeToString() == before
    assert ops(made)["If"] == 1 and made.functions[0].node[0].op_type == "Relu"


def test_the_package_and_the_function_share_a_name() -> None:
    import graphkit.rewrite.framework

    assert graphkit.rewrite is rewrite
    assert rewrite(proto(SILU_TWICE)).verification.status == "unchanged"


def test_public_names() -> None:
    for name in graphkit.__all__:
        if name != "__version__":
            assert getattr(graphkit, name) is not None
    assert set(graphkit.__all__) <= set(dir(graphkit))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = graphkit.nothing  # type: ignore[attr-defined]


def test_the_checker_needs_no_weights(tmp_path: Path) -> None:
    from graphkit.rewrite import validity

    big = onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    made = proto("g (float[64,64] x) => (float[64,64] y) { y = MatMul (x, w) }")
    made.graph.initializer.append(big)
    onnx.save(made, tmp_path / "e.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    for model in (Model.from_proto(proto_with(made, big)), Model.load(tmp_path / "e.onnx")):
        assert model.skeleton().ByteSize() < 1000
        assert validity.invalid(model) is None
        model.main.nodes[0].op = "NoSuchOperator"
        assert "NoSuchOperator" in (validity.invalid(model) or "")


def proto_with(made: onnx.ModelProto, weight: onnx.TensorProto) -> onnx.ModelProto:
    """``made`` with its weight inside again: saving took it out."""
    whole = onnx.ModelProto.FromString(made.SerializeToString())
    del whole.graph.initializer[:]
    whole.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), weight.name))
    return whole


def test_every_tensor_is_found() -> None:
    from graphkit.rewrite.validity import _tensors

    def found(model: onnx.ModelProto) -> Iterator[Mapping[str, Any]]:
        return (t for t in _tensors(model))  # type: ignore[return-value]

    made = proto(CALLS)
    made.graph.node[0].attribute[0].g.initializer.add(name="inner")
    sparse = made.graph.sparse_initializer.add()
    sparse.values.name, sparse.indices.name = "values", "indices"
    made.functions[0].node[0].attribute.add(name="t").t.name = "attribute"
    assert {t.name for t in found(made)} == {"inner", "values", "indices", "attribute"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("ends", ["inputs", "outputs"])
def test_ends_that_swap_their_names_are_not_renamed(ends: str) -> None:
    def swap(graph: Any) -> None:
        a, b = getattr(graph, ends)
        a.name, b.name = b.name, a.name

    from graphkit.rewrite.script import function_pass

    made = proto("g (float[2] x, float[2] z) => (float[2] y, float[2] w) { y = Neg (x)  w = Abs (z) }")
    with pytest.raises(RewriteRefused):
        rewrite(made, [function_pass(swap)()])


def test_inputs_keep_their_order() -> None:
    def turn(graph: Any) -> None:
        graph.inputs = graph.inputs[::-1]

    from graphkit.rewrite.script import function_pass

    made = proto("g (float[2] x, float[2] z) => (float[2] y) { y = Sub (x, z) }")
    with pytest.raises(RewriteRefused, match="the inputs are z, x, were x, z"):
        rewrite(made, [function_pass(turn)()])


def test_a_proof_can_be_required(source: Path) -> None:
    out = source.with_name("out.onnx")
    with pytest.raises(RewriteRefused, match="a proof is required: .*; nothing was written") as caught:
        rewrite(source, [DOUBLING], out, verify_memory=1, require_proof=True)
    assert caught.value.report.verification.status == "not-run" and not out.exists()  # type: ignore[attr-defined]
    assert rewrite(source, [], out, require_proof=True).verification.status == "unchanged"
    assert rewrite(source, [DOUBLING], out, require_proof=True).verification.status == "held"


def test_arguments_that_are_none(source: Path) -> None:
    with pytest.raises(graphkit.BadOption, match="leave out one"):
        rewrite(source, verify=False, require_proof=True)
    with pytest.raises(graphkit.BadOption, match="seed must be 0 or more, not -5"):
        rewrite(source, seed=-5)
    with pytest.raises(TypeError, match=r'must be a list of passes, such as \["silu"\], not a str'):
        rewrite(source, "silu")
    with pytest.raises(TypeError, match=r"takes a ModelProto in memory, not a str; onnx.load"):
        graphkit.apply("d.onnx", DOUBLING)  # type: ignore[arg-type]


def test_help_shows_the_function() -> None:
    import inspect
    import pydoc

    shown = pydoc.plain(pydoc.render_doc(graphkit.rewrite))
    assert "Run passes on a model" in shown and "require_proof" in shown
    assert "source" in inspect.signature(graphkit.rewrite).parameters
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = graphkit.rewrite.nothing  # type: ignore[attr-defined]


def test_what_onnx_does_not_know_hides_no_new_complaint(tmp_path: Path) -> None:
    text = SILU_TWICE.replace("c = Constant", "n = NoSuchPlugin (x) c = Constant")
    source = saved(text, tmp_path / "in.onnx")
    with pytest.raises(PassFailed, match="Invalid' left a model that onnx.checker refuses: .*NoSuchOperator"):
        rewrite(source, [DOUBLING, f"{SCRIPT}:Invalid"], tmp_path / "out.onnx")
    assert names(tmp_path) == ["in.onnx"]


def test_without_a_pass_an_export_that_fails_blames_none(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(model: Model) -> None:
        raise ValueError("odd")

    monkeypatch.setattr(Model, "export", fail)
    with pytest.raises(BadInput, match="in.onnx: cannot be written: odd"):
        rewrite(source)
