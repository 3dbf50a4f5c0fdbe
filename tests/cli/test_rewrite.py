"""``graphkit rewrite``: exit codes, one-line errors, and the report."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner, Result

from graphkit.cli import main
from tests.rewrite.helpers import SILU_TWICE, ops, saved

SCRIPT = Path(__file__).parent.parent / "rewrite" / "script.py"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return saved(SILU_TWICE, tmp_path / "in.onnx")


def graphkit(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


def error(result: Result, code: int = 2) -> str:
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("graphkit: error: ") and result.stderr.count("\n") == 1
    return result.stderr


def test_a_rewrite_says_what_it_did(source: Path) -> None:
    result = graphkit(
        "rewrite", "in.onnx", "--pass", f"{SCRIPT}:Doubling", "-o", "out.onnx", "--report", "r.json"
    )
    assert result.exit_code == 0 and result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["pass", "rewrites", "refusals", "nodes", "seconds"]
    assert f"{SCRIPT}:Doubling: -1 Constant, -1 Mul, +1 Add" in lines
    assert lines[-1] == "wrote out.onnx" and lines[-2].startswith("numbers held: ")
    report = json.loads(Path("r.json").read_text())
    assert (
        report["schema"] == "graphkit.rewrite/1"
        and report["written"]
        and report["passes"][0]["rewrites"] == 1
    )
    assert ops(onnx.load("out.onnx"))["Add"] == 1


def test_without_a_pass_and_in_silence(source: Path) -> None:
    result = graphkit("rewrite", "in.onnx", "-o", "out.onnx")
    assert "byte for byte" in result.stdout and Path("out.onnx").read_bytes() == source.read_bytes()
    assert graphkit("rewrite", "in.onnx", "-o", "out.onnx", "-q").output == ""
    result = graphkit("rewrite", "in.onnx", "-o", "out.onnx", "--pass", f"{SCRIPT}:Doubling", "--no-verify")
    assert "not verified: --no-verify" in result.stdout


def test_a_refused_rewrite_still_has_its_report(source: Path) -> None:
    result = graphkit(
        "rewrite", "in.onnx", "--pass", f"{SCRIPT}:Wrong", "-o", "out.onnx", "--report", "r.json"
    )
    assert "changed what the model computes: tensor 'h'" in error(result, 1)
    assert "nothing was written" in result.stdout and not Path("out.onnx").exists()
    report = json.loads(Path("r.json").read_text())
    assert not report["written"] and report["verification"]["culprit"] == f"{SCRIPT}:Wrong"


def test_a_crash_of_a_pass(source: Path) -> None:
    result = graphkit(
        "rewrite", "in.onnx", "--pass", f"{SCRIPT}:crash", "-o", "o.onnx", "--report", "r.json", "-q"
    )
    assert "crash' failed: KeyError: 'axis' (script.py:" in error(result, 1) and result.stdout == ""
    assert json.loads(Path("r.json").read_text())["verification"]["status"] == "not-run"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["in.onnx"], "Missing option '-o'"),
        (["in.onnx", "-o", "o.onnx", "--nothing"], "No such option"),
        (["none.onnx", "-o", "o.onnx"], "no such file"),
        (["in.onnx", "-o", "."], "not the name of a model"),
        (["in.onnx", "-o", "o.onnx", "--pass", "sliu-no"], "no pass 'sliu-no'"),
        (["in.onnx", "-o", "o.onnx", "--pass", f"{SCRIPT}:Doubling:x=1"], "no option 'x'"),
        (["in.onnx", "-o", "o.onnx", "--pass", f"{SCRIPT}:Doubling:times=3"], "must be 1|2"),
        (["in.onnx", "-o", "o.onnx", "--recipe", "none.toml"], "cannot be read"),
        (["in.onnx", "-o", "o.onnx", "--verify-memory", "lots"], "not a size"),
        (["in.onnx", "-o", "o.onnx", "--seed", "x"], "not a valid integer"),
        (["in.onnx", "-o", "o.onnx", "--report", "no/r.json"], "no folder"),
        (["in.onnx", "-o", "o.onnx", "--report", "."], "is a directory"),
        (["in.onnx", "-o", "o.onnx", "--report", "in.onnx"], "is IN too"),
        (["in.onnx", "-o", "o.onnx", "--report", "./o.onnx"], "is OUT too"),
    ],
)
def test_bad_usage_is_one_line(source: Path, arguments: list[str], said: str) -> None:
    before = sorted(source.parent.iterdir())
    assert said in error(graphkit("rewrite", *arguments))
    assert sorted(source.parent.iterdir()) == before


def test_a_report_that_fails_at_the_end(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("r.json").write_text("old")

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("graphkit.report.json.dumps", fail)
    assert "No space left" in error(graphkit("rewrite", "in.onnx", "-o", "o.onnx", "--report", "r.json"))
    assert Path("r.json").read_text() == "old" and len(list(source.parent.iterdir())) == 3


def test_many_refusals_are_cut_and_verbose_shows_them(source: Path) -> None:
    lines = " ".join(f"s{i} = Sigmoid (x) m{i} = Mul (x, s{i}) n{i} = Add (s{i}, m{i})" for i in range(8))
    saved(f"g (float[2] x) => (float[2] n7) {{ {lines} }}", source)
    shown = graphkit("rewrite", "in.onnx", "-o", "o.onnx", "--pass", f"{SCRIPT}:Wrong").stdout
    assert shown.count("refused") == 5 and "and 3 more refusals" in shown
    shown = graphkit("rewrite", "in.onnx", "-o", "o.onnx", "--pass", f"{SCRIPT}:Wrong", "-v").stdout
    assert shown.count("refused") == 8


def test_notes_are_shown(source: Path) -> None:
    shown = graphkit("rewrite", "in.onnx", "-o", "o.onnx", "--pass", f"{SCRIPT}:Needy:what=x").stdout
    assert "note: needs x" in shown
