"""``[tool.graphkit.check]``: what it may have, what is wrong with it, and that the command line wins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graphkit.check import config
from graphkit.errors import BadInput
from tests.check.checking import fine, run, save, without_tensorrt


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, where no TensorRT is installed: rules answer, quickly."""
    without_tensorrt(tmp_path / "no-tensorrt", monkeypatch)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(folder: Path, text: str) -> Path:
    path = folder / "pyproject.toml"
    path.write_text(f"[tool.graphkit.check]\n{text}\n")
    return path


def test_the_nearest_file_with_the_table_is_it(tmp_path: Path) -> None:
    outer = table(tmp_path, "")
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "a" / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert config.find(inner) == outer
    (inner / "pyproject.toml").write_text("[tool.graphkit]\ncheck = 5\n")
    assert config.find(inner) == outer


def test_all_options_are_read(tmp_path: Path) -> None:
    file = table(
        tmp_path,
        'target = "sm89, sm120"\ntrt = "rtx"\nshapes = ["x=1"]\nfail-on = "warning"\nbaseline = "k.json"\n'
        'ignore = ["unused"]\nseverity.unused = "error"\nrules.huge-tensor.limit = "2G"\njobs = 2\n'
        'timeout = 1.5\nmemory = "2G"',
    )
    assert config.load(file) == {
        "target": ["sm89", "sm120"], "trt": "rtx", "shapes": ["x=1"], "fail_on": "warning",
        "baseline": tmp_path / "k.json", "ignore": ["unused"], "severity": {"unused": "error"},
        "rules": {"huge-tensor": {"limit": "2G"}}, "jobs": 2, "timeout": 1.5, "memory": "2G",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fail_on = 'note'", "has no use for 'fail_on'; did you mean fail-on?"),
        ("zzz = 1", "has no use for 'zzz'; it may have target, trt,"),
        ("jobs = true", "jobs must be a number, not True"),
        ("timeout = 'long'", "timeout must be a number, not 'long'"),
        ("ignore = 'unused'", "ignore must be a list of texts, not 'unused'"),
        ("ignore = [1]", "ignore must be a list of texts, not [1]"),
        ("target = [89]", "target must be a list of texts or a text, not [89]"),
        ("rules = 1", "rules must be a table, not 1"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(tmp_path: Path, text: str, said: str) -> None:
    file = table(tmp_path, text)
    with pytest.raises(BadInput) as raised:
        config.load(file)
    assert str(raised.value).startswith(f"{file}: [tool.graphkit.check] ") and said in str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fail-on = 'fatal'", "there is no severity 'fatal'; say error, warning, note"),
        ("severity.unused = 3", "there is no severity '3'"),
        ("severity.unusd = 'note'", "there is no rule 'unusd'; did you mean unused?"),
        ("rules.huge-tensor = 3", "rule 'huge-tensor': its options are a table, option = value, not 3"),
        ("rules.huge-tensor.limt = 3", "rule 'huge-tensor' has no option 'limt'; it has limit"),
        ("rules.huge-tensor.limit = 'x'", "huge-tensor:limit must be a size"),
        ("rules.parser.limit = 1", "'parser' is told by TensorRT, and has no options"),
        ("trt = 'cuda'", "there is no TensorRT 'cuda'; say auto, tensorrt or rtx"),
        ("timeout = -1", "timeout is -1; it has to be more than 0"),
        ("jobs = 0", "jobs is 0; it has to be more than 0"),
        ("memory = '8X'", "memory is '8X'; write 512M or 8G"),
        ("shapes = ['x']", "is not NAME=MIN/OPT/MAX"),
        ("baseline = 'none.json'", "none.json: cannot be read: No such file or directory; --write-baseline"),
        ("= 1", "mend it, or give --no-config"),
    ],
)
def test_bad_values_are_bad_usage_and_not_findings(project: Path, text: str, said: str) -> None:
    table(project, text)
    fine(project / "m.onnx")
    result = run("m.onnx")
    assert result.exit_code == 2 and said in result.stderr and len(result.stderr.splitlines()) == 1


def test_a_file_that_cannot_be_read_can_be_left_out(project: Path) -> None:
    table(project, "= 1")
    fine(project / "m.onnx")
    assert run("m.onnx").exit_code == 2 and run("m.onnx", "--no-config").exit_code == 0


def test_the_command_line_wins(project: Path) -> None:
    save(project / "m.onnx", "g (float[2] x, float[2] z) => (float[2] y) { y = Relu (x) }")
    table(project, "fail-on = 'note'\nseverity.unused = 'warning'\nignore = ['no-tensorrt']")
    findings = json.loads(run("m.onnx", "--format", "json").stdout)["models"][0]["findings"]
    assert [(f["rule"], f["severity"]) for f in findings] == [("unused", "warning")]
    assert run("m.onnx").exit_code == 1
    assert run("m.onnx", "--fail-on", "error").exit_code == 0
    assert run("m.onnx", "--ignore", "unused").exit_code == 0  # and those of the file stay ignored
    told = run("m.onnx", "--no-config", "--fail-on", "warning")
    assert told.exit_code == 1 and "warning no-tensorrt" in told.stdout
