"""``graphkit diff``: exit codes, reports that hurt nothing, options that say what is wrong with them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import numpy_helper

from graphkit.cli import main
from tests.report.diff_reports import complaints

DETECTOR = Path(__file__).resolve().parents[2] / "fixtures" / "demo" / "detector.onnx"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["diff", *map(str, arguments)])


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """The detector with one percent more in the weights of its third convolution."""
    model = onnx.load(DETECTOR)
    node = [n for n in model.graph.node if n.op_type == "Conv"][2]
    tensor = next(t for t in model.graph.initializer if t.name == node.input[1])
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 1.01, tensor.name))
    onnx.save(model, tmp_path / "changed.onnx")
    return tmp_path / "changed.onnx"


def test_a_match_exits_with_0() -> None:
    result = run(DETECTOR, DETECTOR)
    assert result.exit_code == 0 and result.stdout.startswith("MATCH: ")


def test_a_mismatch_exits_with_1_and_names_the_node_in_every_report(changed: Path, tmp_path: Path) -> None:
    reports = [tmp_path / f"r.{suffix}" for suffix in ("json", "html", "xml")]
    result = run(DETECTOR, changed, *(word for path in reports for word in ("--report", path)))
    assert result.exit_code == 1, result.output
    name = "/model.2/cv1/conv/Conv"
    assert f"the first bad node is {name}" in result.stdout.splitlines()[0]
    tree = json.loads(reports[0].read_text())
    assert complaints(tree, "diff-1") == [] and tree["first_bad"]["kernel"] == name
    assert [x["kernel"] for x in tree["layers"] if not x["ok"]] == [name]
    assert name in reports[1].read_text()
    failed = [c.get("name") for c in ET.parse(reports[2]).iter("testcase") if c.find("failure") is not None]
    assert failed == ["output0", name]


def test_own_bounds_and_metrics(changed: Path, tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text("def worst(a, b):\n    return abs(a - b).max()\n")
    result = run(DETECTOR, changed, "--atol", "1e9", "--metric", f"{script}:worst", "--report", "-")
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("MATCH: ")
    outputs = json.loads(result.stdout)["outputs"]
    assert outputs[0]["metrics"]["custom"]["worst"] == pytest.approx(outputs[0]["metrics"]["max_abs"])
    assert run(DETECTOR, changed, "--atol", "1e9", "--atol", "output0=1e-9").exit_code == 1


def test_a_report_never_replaces_what_is_read(changed: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.json"
    shutil.copy(changed, model)
    before = model.read_bytes()
    for arguments in ((DETECTOR, model), (model, DETECTOR)):
        result = run(*arguments, "--report", model)
        assert result.exit_code == 2 and f"--report {model}: would replace " in result.stderr
    external = tmp_path / "weights.json"
    whole, model_ = tmp_path / "large.onnx", onnx.load(DETECTOR)
    onnx.save(model_, whole, save_as_external_data=True, location=external.name, size_threshold=0)
    size = external.stat().st_size
    result = run(whole, DETECTOR, "--report", external)
    assert result.exit_code == 2 and "would replace a part of A" in result.stderr
    assert model.read_bytes() == before and external.stat().st_size == size


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--report", "r.txt"], "must end in .json, .html or .xml"),
        (["--report", "no/such/r.json"], "there is no folder"),
        (["--report", "r.json", "--report", "./r.json"], "is given twice"),
        (["--atol", "much"], "'much' is no tolerance"),
        (["--rtol", "=1"], "'=1' is no tolerance"),
        (["--atol", "nan"], "'nan' is no tolerance"),
        (["--metric", "mine"], "names no function"),
        (["--memory", "lots"], "is not a size"),
        (["--determinism", "1"], "1 is not in the range"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_written(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(DETECTOR, DETECTOR, *arguments)
    assert result.exit_code == 2 and said in result.stderr
    assert len(result.stderr.splitlines()) == 1 and result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_missing_model_is_an_error(tmp_path: Path) -> None:
    result = run(DETECTOR, tmp_path / "none.onnx")
    assert result.exit_code == 2 and "there is no such file" in result.stderr


CAPTURE = DETECTOR.with_name("detector.capture")


@pytest.mark.parametrize(
    "asked, named",
    [
        (["--inputs", "x.npz"], "--inputs"),
        (["--shapes", "images=1x3x96x96", "--same-rows"], "--shapes, --same-rows"),
        (["--determinism", "2"], "--determinism"),
        (["--rebuild"], "--rebuild"),
    ],
)
def test_what_a_capture_cannot_follow_is_refused(asked: list[str], named: str) -> None:
    result = run(DETECTOR, CAPTURE, "--other-model", *asked)
    assert result.exit_code == 2
    assert f"{named}: a capture has run already" in result.stderr


def test_a_bound_for_a_tensor_that_is_not_there_is_told() -> None:
    result = run(DETECTOR, DETECTOR, "--atol", "nosuch=1", "--atol", "output0=1", "--rtol", "1e-3")
    assert result.exit_code == 0
    assert result.stderr == "warning: --atol nosuch: no tensor of that name was compared\n"
