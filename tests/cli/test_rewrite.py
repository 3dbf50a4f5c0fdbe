"""``graphkit rewrite``: exit codes, one-line errors, and the report."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

from graphkit.cli import main
from graphkit.cli.rewrite import _wrapped
from graphkit.report import text
from graphkit.report.records import PassReport, Refusal, RewriteReport, TensorDifference, Verification
from tests.rewrite.helpers import SILU_TWICE, ops, proto, saved

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
    assert "changed what the model computes: first differs at 'h'" in error(result, 1)
    assert "numbers" not in result.stdout and not Path("out.onnx").exists()
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


def test_what_is_not_proven_is_loud_and_can_be_refused(source: Path) -> None:
    spec = f"{SCRIPT}:Doubling"
    unproven = ("rewrite", "in.onnx", "-o", "o.onnx", "--pass", spec, "--verify-memory", "1")
    lines = graphkit(*unproven).stdout.splitlines()
    assert lines[-2].startswith("NOT VERIFIED: ") and lines[-1] == "wrote o.onnx, unproven"
    Path("o.onnx").unlink()
    result = graphkit(*unproven, "--require-proof", "--report", "r.json")
    assert "a proof is required" in error(result, 1) and not Path("o.onnx").exists()
    assert json.loads(Path("r.json").read_text())["verification"]["status"] == "not-run"
    assert "contradict" in error(graphkit(*unproven, "--require-proof", "--no-verify"))
    proven = graphkit("rewrite", "in.onnx", "-o", "o.onnx", "--pass", spec, "--require-proof")
    assert proven.exit_code == 0 and "(x 2x3)" in proven.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["in.onnx", "--pass", "silu", "--pass", "-o", "o.onnx"], "a pass must follow, not '-o'"),
        (["in.onnx", "o.onnx"], "say where to write, for instance -o out.onnx"),
        (["in.onnx", "--pass", "silu", "remove-dead", "-o", "o.onnx"], "give each pass its own --pass"),
        (["in.onnx", "--pass", "rename", "to=a", "-o", "o.onnx"], "options follow a colon: rename:to=a"),
        (["in.onnx", "--pass", "a:b=1", "to=a", "-o", "o.onnx"], "colon: a:b=1,to=a"),
        (["in.onnx", "two.onnx", "-o", "o.onnx"], "one model is read"),
        (["in.onnx", "--seed", "-5", "-o", "o.onnx"], "not in the range x>=0"),
    ],
)
def test_slips_in_a_command_line(source: Path, arguments: list[str], said: str) -> None:
    assert said in error(graphkit("rewrite", *arguments))


def test_a_crash_is_said_once(source: Path) -> None:
    result = graphkit("rewrite", "in.onnx", "--pass", f"{SCRIPT}:crash", "-o", "o.onnx")
    assert result.stdout == "" and "KeyError" in error(result, 1)


def test_a_traceback_of_a_pass(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHKIT_TRACEBACK", "1")
    result = graphkit("rewrite", "in.onnx", "--pass", f"{SCRIPT}:crash", "-o", "o.onnx")
    assert result.exit_code == 1 and "Traceback" in result.stderr and "in crash" in result.stderr


def test_a_report_on_stdout(source: Path) -> None:
    arguments = ("rewrite", "in.onnx", "-o", "o.onnx", "--pass", f"{SCRIPT}:Doubling", "--report")
    result = graphkit(*arguments, "-")
    assert json.loads(result.stdout)["written"] and "numbers held" in result.stderr
    assert not Path("-").exists()
    device = subprocess.run(
        [sys.executable, "-m", "graphkit", *arguments, "/dev/stdout", "-q"], capture_output=True, text=True
    )
    assert json.loads(device.stdout)["written"], device.stderr


def test_lines_break_between_words_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")

    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    text = "numbers held: 58 tensors compared in 3 runs by onnxruntime\n\nwrote o.onnx"
    lines = _wrapped(text, Screen()).split("\n")
    assert lines[:2] == ["numbers held: 58 tensors compared in 3", "    runs by onnxruntime"]
    assert lines[2:] == ["", "wrote o.onnx"] and _wrapped(text, io.StringIO()) == text


def test_equal_refusals_are_one_line() -> None:
    refusals = [Refusal("main", f"n{i}", "Mul", "opset 17 has no Swish") for i in range(57)]
    report = PassReport("fuse-silu", 0, tuple(refusals), {}, {f"Op{i}": 1 for i in range(8)})
    done = RewriteReport("a", "b", (report,), Verification("held", compared=1), True)
    shown = text.render(done)
    assert "  refused 57 Mul: opset 17 has no Swish\n" in shown and "and 2 more types" in shown
    assert "1 tensor compared in 0 runs" in shown
    verbose = text.render(done, verbose=True)
    assert verbose.count("refused Mul 'n") == 57 and "more types" not in verbose


def test_the_first_and_the_worst_difference() -> None:
    first = TensorDifference("a", "a", "float32", 1.0, 0.0024, 1e-4, False)
    worst = TensorDifference("z", "z", "float32", 1.0, 0.24, 1e-4, False, "has other values")
    said = text.differences(Verification("differs", first=first, worst=worst))
    assert said.startswith(
        "first differs at 'a' (off by 0.0024 of its range, tolerance 0.0001), worst at 'z'"
    )
    assert text.differences(Verification("differs", reason="no output")) == "no output"


@pytest.mark.parametrize(
    ("report", "said"),
    [
        ("w.bin", "is data file 'w.bin' too"),
        ("sub/w.bin", "is data file 'w.bin' too"),
        ("script.py", "is the script of pass"),
        ("r.toml", "is the recipe too"),
    ],
)
def test_a_report_replaces_nothing_that_is_used(source: Path, report: str, said: str) -> None:
    Path("sub").mkdir()
    Path("r.toml").write_text("passes = []")
    Path("script.py").write_bytes(SCRIPT.read_bytes())
    weights = onnx.numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    made = proto("g (float[4,4] x) => (float[4,4] y) { y = MatMul (x, w) }")
    made.graph.initializer.append(weights)
    onnx.save(made, "in.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    before = {p: p.read_bytes() for p in source.parent.rglob("*") if p.is_file()}
    arguments = ("--pass", "./script.py:nothing", "--recipe", "r.toml", "-o", "sub/o.onnx")
    assert said in error(graphkit("rewrite", "in.onnx", *arguments, "--report", report))
    assert {p: p.read_bytes() for p in source.parent.rglob("*") if p.is_file()} == before


def test_a_report_keeps_its_mode_and_goes_through_a_pipe(source: Path) -> None:
    Path("r.json").touch(0o600)
    assert graphkit("rewrite", "in.onnx", "-o", "o.onnx", "--report", "r.json").exit_code == 0
    assert Path("r.json").stat().st_mode & 0o777 == 0o600
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert graphkit("rewrite", "in.onnx", "-o", "o.onnx", "--report", "pipe").exit_code == 0
    assert json.loads(os.read(reader, 1 << 16))["written"] and Path("pipe").is_fifo()
    os.close(reader)


def test_a_refusal_is_said_with_a_report_that_fails(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("graphkit.report.json.dumps", fail)
    arguments = ("rewrite", "in.onnx", "-o", "o.onnx", "--report", "r.json")
    said = error(graphkit(*arguments, "--pass", f"{SCRIPT}:Wrong"), 1)
    assert "changed what the model computes" in said and "No space left" in said
    assert "o.onnx was written" in error(graphkit(*arguments)) and Path("o.onnx").exists()


@pytest.mark.parametrize("tail", ["| true; exit ${PIPESTATUS[0]}", ">&-"])
def test_nobody_reads_the_output(source: Path, tail: str) -> None:
    command = f"{sys.executable} -m graphkit rewrite in.onnx -o o.onnx {tail}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and Path("o.onnx").exists()


def test_another_format_is_not_byte_for_byte(source: Path) -> None:
    assert "in another format" in graphkit("rewrite", "in.onnx", "-o", "o.onnxtxt").stdout
    assert "byte for byte" in graphkit("rewrite", "o.onnxtxt", "-o", "p.onnxtxt").stdout


def test_explain_drops_no_option(source: Path) -> None:
    assert "has no option 'x'" in error(graphkit("explain", f"{SCRIPT}:Doubling:x=1"))
