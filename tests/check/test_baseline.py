"""A baseline: what it accepts, what it does not, and files that are none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from graphkit.check.baseline import Baseline
from graphkit.errors import BadInput
from graphkit.report.checks import Finding, ModelCheck, Report
from tests.check.checking import run, save, without_tensorrt

ONE = Finding("unused", "warning", "nobody reads it", tensor="z")
TWO = Finding("parser", "error", "no \udc80", node="\udc80", op="Swish", targets=("sm89",))
UNUSED = "g (float[2] x, float[2] z) => (float[2] y) { y = Relu (x) }"


def kept(tmp_path: Path, *findings: Finding) -> Baseline:
    path = tmp_path / "known.json"
    path.write_text(Baseline.dumps(Report((ModelCheck("models/a.onnx", findings=findings),))), "utf-8")
    return Baseline.load(path)


def test_it_goes_by_file_name_rule_place_and_message(tmp_path: Path) -> None:
    found = kept(tmp_path, ONE)
    assert found.accepts("/elsewhere/a.onnx", ONE)
    assert found.accepts("a.onnx", replace(ONE, severity="error", targets=("sm120",), raw="x", fix="cse"))
    assert not found.accepts("b.onnx", ONE)
    assert not found.accepts("a.onnx", replace(ONE, tensor="w"))
    assert not found.accepts("a.onnx", replace(ONE, message="other"))


def test_it_is_stable_and_has_a_finding_once() -> None:
    twice, none = ModelCheck("b.onnx", findings=(ONE, ONE)), ModelCheck("a.onnx")
    both = (ONE, replace(ONE, tensor="w"))
    reports = [Report((twice, none, ModelCheck("c.onnx", findings=f))) for f in (both, both[::-1])]
    first, second = map(Baseline.dumps, reports)
    assert first == second
    tree = json.loads(first)
    assert [len(fs) for fs in tree["models"].values()] == [1, 2] and list(tree["models"]) == [
        "b.onnx",
        "c.onnx",
    ]


def test_names_that_are_no_unicode(tmp_path: Path) -> None:
    assert kept(tmp_path, TWO).accepts("a.onnx", TWO)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": "x"}', '{"schema": "graphkit.check.baseline/1", "models": 3}',
             '{"schema": "graphkit.check.baseline/1", "models": {"a": [{}]}}', "\udc80"],
)  # fmt: skip
def test_what_is_none_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "known.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadInput, match="is no baseline of graphkit check; --write-baseline makes one"):
        Baseline.load(path)


def test_only_what_is_new_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_tensorrt(tmp_path / "no-tensorrt", monkeypatch)
    model, known = save(tmp_path / "m.onnx", UNUSED), tmp_path / "known.json"
    strict = ("--fail-on", "note")
    assert run(model, *strict, "--baseline", known).exit_code == 2
    # the baseline may be named before it is there, and may accept more each time
    assert run(model, *strict, "--baseline", known, "--write-baseline", known).exit_code == 0
    done = run(model, *strict, "--baseline", known)
    assert done.exit_code == 0 and "(2 accepted)" in done.stdout and "unused" not in done.stdout
    save(model, UNUSED.replace("float[2] z", "float[2] z, float[2] w"))
    done = run(model, *strict, "--baseline", known)
    assert done.exit_code == 1 and "'w'" in done.stdout and "'z'" not in done.stdout
    run(model, "--baseline", known, "--write-baseline", known)
    assert run(model, *strict, "--baseline", known).exit_code == 0
