"""``graphkit check``: exit codes, options that say what is wrong with them, files that are never replaced."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

import graphkit
from graphkit.check import registry
from graphkit.errors import BadOption
from tests.check.checking import DETECTOR, fine, hopeless, run, save, swish, without_tensorrt
from tests.report.diff_reports import complaints
from tests.rewrite.test_registry import install_distribution

try:
    import tensorrt_rtx

    VERSION = tuple(map(int, tensorrt_rtx.__version__.split(".")[:2]))
except ImportError:
    VERSION = (0, 0)
rtx = pytest.mark.skipif(VERSION == (0, 0), reason="TensorRT-RTX is not installed")
old = pytest.mark.skipif(not (0, 0) < VERSION < (1, 5), reason="needs a TensorRT-RTX without Swish")


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with no TensorRT."""
    without_tensorrt(tmp_path / "no-tensorrt", monkeypatch)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@rtx
def test_exit_codes_formats_and_order(tmp_path: Path) -> None:
    paths = [maker(tmp_path / f"{n}.onnx") for n, maker in enumerate((fine, hopeless, fine, fine))]
    (tmp_path / "odd.onnx").write_bytes(b"\x0a\xff")
    paths.append(tmp_path / "odd.onnx")
    report = tmp_path / "r.json"
    seen = set()
    for jobs in (1, 4):
        done = run(*paths, "--jobs", jobs, "--format", "json", "--report", report, "--target", "8.9,sm_120")
        assert done.exit_code == 1 and done.stdout == ""
        tree = json.loads(report.read_text())
        assert complaints(tree, "check-1") == [] and tree["targets"] == ["sm89", "sm120"]
        for model in tree["models"]:
            model["seconds"] = 0
        seen.add(json.dumps(tree))
    assert len(seen) == 1 and [m["path"] for m in tree["models"]] == [str(p) for p in paths]
    assert [m["verdicts"]["sm120"] for m in tree["models"]] == [
        "ok", "fails-parse", "ok", "ok", "fails-parse",
    ]  # fmt: skip
    assert run(paths[0], "--fail-on", "note").exit_code == 0


@old
@pytest.mark.slow
def test_the_detector_in_every_format(tmp_path: Path) -> None:
    text = run(DETECTOR)
    assert text.exit_code == 1
    assert "Swish '/model.0/act/Swish' (and 56 more)" in text.stdout and "mend: --pass silu" in text.stdout
    sarif = json.loads(run(DETECTOR, "--format", "sarif").stdout)["runs"][0]
    assert len([r for r in sarif["results"] if r["ruleId"] == "parser"]) == 57
    assert all(r["shortDescription"]["text"] for r in sarif["tool"]["driver"]["rules"])
    junit = run(DETECTOR, "--format", "junit", "--report", tmp_path / "r.xml")
    assert junit.exit_code == 1 and len(list(ET.parse(tmp_path / "r.xml").iter("failure"))) == 58
    github = run(DETECTOR, "--format", "github", "--report", "-").stdout
    assert github.startswith("::error file=") and github.count("::error") == 1


def test_without_tensorrt_the_rules_answer(alone: Path) -> None:
    save(alone / "m.onnx", "g (float[2] x, float[2] z) => (float[2] y) { y = Relu (x) }")
    done = run("m.onnx")
    assert done.exit_code == 0 and "by rules alone" in done.stdout
    assert "warning no-tensorrt: " in done.stdout and "pip install 'graphkit[rtx]'" in done.stdout
    report = graphkit.check("m.onnx", ignore=["no-tensorrt"], severity={"unused": "error"})
    assert report.targets == () and report.runtime == "" and not report.ok
    assert [(f.rule, f.severity, f.tensor) for f in report.findings] == [("unused", "error", "z")]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--target", "sm89"], "--target needs TensorRT: "),
        (["--trt", "rtx"], "--trt rtx: "),
        (["--target", "gpu"], "'gpu' is no target; write sm89, or 8.9"),
        (["--ignore", "parsr"], "there is no rule 'parsr'; did you mean parser?"),
        (["--shapes", "x=1xa"], "is not NAME=MIN/OPT/MAX"),
        (["--fix"], "--fix needs -o OUT: the original stays as it is"),
        (["-o", "x.onnx"], "-o goes with --fix"),
        (["--fix", "-o", "m.onnx"], "-o m.onnx: is a model that is checked"),
        (["--fix", "-o", "none/x.onnx"], "there is no folder"),
        (["--report", "m.onnx"], "--report m.onnx: is a model that is checked"),
        (["--report", "none/x.json"], "--report none/x.json: there is no folder"),
        (["--write-baseline", "m.onnx"], "--write-baseline m.onnx: is a model that is checked"),
        (["--report", "a", "--write-baseline", "a"], "--write-baseline a: is what --report writes"),
        (["--repro", "m.onnx"], "m.onnx: is no folder"),
        (["other.onnx"], "other.onnx: there is no such file"),
        (["--fail-on", "fatal"], "'fatal' is not one of"),
        (["--timeout", "0"], "0 is not in the range"),
    ],
)
def test_bad_usage_is_told_and_changes_nothing(alone: Path, options: list[str], said: str) -> None:
    before = fine(alone / "m.onnx").read_bytes()
    done = run("m.onnx", *options)
    assert done.exit_code == 2 and said in done.stderr, done.output
    assert "Traceback" not in done.output and (alone / "m.onnx").read_bytes() == before
    assert sorted(p.name for p in alone.iterdir()) == ["m.onnx", "no-tensorrt"]


def test_no_model_is_bad_usage() -> None:
    done = run()
    assert done.exit_code == 2 and "give at least one MODEL; --rules lists what is looked for" in done.stderr


@rtx
def test_a_target_that_cannot_be_built_for(tmp_path: Path) -> None:
    done = run(fine(tmp_path / "m.onnx"), "--target", "sm89,sm20")
    assert done.exit_code == 2 and "--target sm20: TensorRT-RTX" in done.stderr and "sm120" in done.stderr


def test_texts_where_lists_are_wanted() -> None:
    with pytest.raises(BadOption, match="there is no rule 'unusd'; did you mean unused"):
        graphkit.check([], ignore="parser, unusd")
    with pytest.raises(BadOption, match="'gpu' is no target"):
        graphkit.check(DETECTOR, targets="gpu")


def test_a_rule_that_cannot_be_used_is_a_finding(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_distribution(alone / "site", "odd_rules", {"odd": "import nothing_there"}, group="graphkit.rules")
    monkeypatch.setenv("PYTHONPATH", f"{alone / 'no-tensorrt'}:{alone / 'site'}")
    monkeypatch.syspath_prepend(str(alone / "site"))
    registry.installed.cache_clear()
    try:
        fine(alone / "m.onnx")
        report = graphkit.check("m.onnx", ignore=["no-tensorrt"])
        assert run("--rules").stdout.count("cannot be used: rule module odd_rules.odd") == 1
    finally:
        registry.installed.cache_clear()
    (finding,) = report.findings
    assert finding.rule == "rule-failed" and finding.message.startswith("rule 'odd' cannot be used: ")
    assert "nothing_there" in finding.message


@rtx
def test_models_in_memory(tmp_path: Path) -> None:
    import onnx

    proto = onnx.load(swish(tmp_path / "m.onnx"))
    report = graphkit.check(
        [proto, graphkit.Model.from_proto(proto)] if hasattr(graphkit, "Model") else [proto]
    )
    assert report.models[0].path == "model 1 in memory" and report.models[0].verdicts
