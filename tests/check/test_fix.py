"""``--fix``: passes that findings name, run; a result that is better, written; nothing else touched."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import graphkit
from graphkit.errors import BadOutput
from tests.check.checking import DETECTOR, fine, hopeless, run, save, swish
from tests.check.test_check_cli import old, rtx


@old
def test_the_detector_is_mended(tmp_path: Path) -> None:
    before, out = DETECTOR.read_bytes(), tmp_path / "mended.onnx"
    done = run(DETECTOR, "--fix", "-o", out, "--target", "sm89,sm120")
    assert done.exit_code == 0, done.output
    assert f"fix: --pass silu: wrote {out}" in done.stdout and "by TensorRT-RTX" in done.stdout
    assert DETECTOR.read_bytes() == before
    ops = {n.op_type for n in onnx.load(out).graph.node}
    assert "Swish" not in ops and {"Sigmoid", "Mul"} <= ops
    again = graphkit.check(out, targets=["sm89", "sm120"])
    assert again.ok and again.models[0].verdicts == {"sm89": "ok", "sm120": "ok"}


@old
def test_several_into_a_folder(tmp_path: Path) -> None:
    models, out = tmp_path / "models", tmp_path / "out"
    models.mkdir()
    out.mkdir()
    (models / "odd.onnx").write_bytes(b"\x0a\xff")
    paths = [
        swish(models / "a.onnx"),
        hopeless(models / "b.onnx"),
        fine(models / "c.onnx"),
        models / "odd.onnx",
    ]
    before = [p.read_bytes() for p in paths]
    report = graphkit.check(paths, output=out)
    assert [p.name for p in out.iterdir()] == ["a.onnx"]  # whole, and nothing beside it
    mended, *others = report.models
    assert mended.fixed is not None and mended.fixed.passes == ("silu",)
    assert mended.fixed.written == str(out / "a.onnx") and mended.fixed.reason == ""
    assert mended.fixed.before == {"sm89": "fails-parse"} and mended.verdict == "ok"
    assert mended.path == str(paths[0])
    for model in others:
        assert model.fixed is not None and (model.fixed.written, model.fixed.passes) == ("", ())
        assert model.fixed.reason == "no finding names a pass"
    assert [p.read_bytes() for p in paths] == before


@rtx
def test_what_gets_no_better_is_not_written(tmp_path: Path) -> None:
    # the operator is mended, and the other one is refused all the same; float64 has a pass of its own
    model = save(
        tmp_path / "m.onnx",
        "g (double[2] x) => (double[2] y) { a = Relu (x)  y = acme.Magic (a) }",
        domain="acme",
    )
    out = tmp_path / "out.onnx"
    out.write_bytes(b"precious")
    report = graphkit.check(model, output=out, ignore=["float64", "io-dtype"])
    (only,) = report.models
    assert only.verdict == "fails-parse" and only.fixed is not None and only.fixed.reason
    assert out.read_bytes() == b"precious" and sorted(p.name for p in tmp_path.iterdir()) == [
        "m.onnx",
        "out.onnx",
    ]


def test_places_are_checked_first(tmp_path: Path) -> None:
    model, twin = fine(tmp_path / "m.onnx"), tmp_path / "other" / "m.onnx"
    twin.parent.mkdir()
    fine(twin)
    out = tmp_path / "out"
    out.mkdir()
    for models, output, said in (
        ([model], model, "is a model that is checked; the original stays"),
        ([model, twin], tmp_path / "none", "is no folder; several models are written into one"),
        ([model, twin], out, "two of the models have one name"),
        ([model, DETECTOR], tmp_path, "is a model that is checked"),
        ([model], out, "not the name of a model"),
    ):
        with pytest.raises(BadOutput, match=said):
            graphkit.check(models, output=output)
