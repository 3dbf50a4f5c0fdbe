"""The other commands, and what all of them share: errors, progress, completion."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from graphkit.cli import _progress, main
from graphkit.rewrite import registry

SCRIPT = Path(__file__).parent.parent / "rewrite" / "script.py"


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two passes that need no installation."""
    found = {
        name: registry.Installed(name, "tests.rewrite.script", "example", attribute)
        for name, attribute in (("doubling", "Doubling"), ("needy", "Needy"))
    }
    monkeypatch.setattr(registry, "installed", lambda: found)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_passes() -> None:
    lines = run("passes").splitlines()
    assert [line.split()[0] for line in lines if not line.startswith("recipe ")] == ["doubling", "needy"]
    assert any(line.startswith("recipe trt: ") for line in lines)
    assert "Turn x * 2 into x + x." in lines[0] and lines[0].endswith("example")
    tree = json.loads(run("passes", "--format", "json"))
    assert tree["schema"] == "graphkit.passes/1"
    assert tree["passes"][0] == {
        "name": "doubling",
        "summary": "Turn x * 2 into x + x.",
        "package": "example",
        "group": "",
    }
    assert {"trt", "yolo", "transformer"} <= {one["name"] for one in tree["recipes"]}


def test_no_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "installed", dict)
    assert run("passes") == "no pass is installed\n"


def test_explain() -> None:
    page = run("explain", "doubling:times=2")
    assert page.startswith("# doubling\n\nTurn ``x * 2`` into ``x + x``.\n\n## Options\n")
    assert "- `times=1|2` (default `1`): how often" in page
    assert "- `what=text` (required): what it needs" in run("explain", "needy")
    page = run("explain", f"{SCRIPT}:tag")
    assert "`prefix=text` (default `n`)" in page and "- `KEY=VALUE`: every other key" in page
    assert "It has no description." in run("explain", f"{SCRIPT}:crash") and "None." in run(
        "explain", f"{SCRIPT}:crash"
    )


def test_explain_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphkit.cli import explain

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    monkeypatch.setattr(sys, "stdout", shown)
    explain.command.callback(name="doubling")  # type: ignore[misc]
    text = click.unstyle(shown.getvalue())
    assert "Turn x * 2 into x + x." in text and "##" not in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    script = run("completion", shell)
    assert "_GRAPHKIT_COMPLETE" in script and "graphkit" in script


def completed(*words: str) -> list[str]:
    environment = {"COMP_WORDS": " ".join(["graphkit", *words]), "COMP_CWORD": str(len(words))}
    result = CliRunner().invoke(
        main, env={**environment, "_GRAPHKIT_COMPLETE": "bash_complete"}, prog_name="graphkit"
    )
    return [line.partition(",")[2] for line in result.stdout.splitlines() if line]


def test_pass_names_are_completed() -> None:
    assert completed("rewrite", "in.onnx", "--pass", "dou") == ["doubling"]
    assert completed("explain", "n") == ["needy"]
    assert completed("explain", "doubling:t") == ["doubling:times="]
    assert completed("explain", "nothing:t") == []
    assert completed("explain", "./x") == ["./x"]
    assert completed("exp") == ["explain"]


def test_a_broken_installation_completes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphkit import BadPass

    def broken() -> dict[str, registry.Installed]:
        raise BadPass("two of one name")

    monkeypatch.setattr(registry, "installed", broken)
    assert completed("explain", "x") == []


def test_version_and_help() -> None:
    assert CliRunner().invoke(main, []).stdout == run("--help")
    assert "rewrite" in run("--help")
    version = CliRunner().invoke(main, ["--version"])
    assert version.exit_code in (0, 2)


@pytest.mark.parametrize(
    ("raised", "said", "code"),
    [
        (OSError(28, "No space left on device", "out.onnx"), "out.onnx: No space left on device", 2),
        (OSError(5, "Input/output error"), "Input/output error", 2),
        (MemoryError(), "out of memory", 2),
        (KeyboardInterrupt(), "interrupted", 130),
        (ValueError("of\nmany lines"), "internal error: ValueError: of (test_commands.py:", 2),
        (click.UsageError("bad \x1b[31m name"), r"bad \x1b[31m name", 2),
        (click.ClickException("x" * 3000), "…", 2),
    ],
)
def test_every_error_is_one_line(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException, said: str, code: int
) -> None:
    def fail() -> None:
        raise raised

    monkeypatch.setattr(main, "get_command", lambda ctx, name: click.Command(name, callback=fail))
    result = CliRunner().invoke(main, ["anything"])
    assert result.exit_code == code and said in result.stderr
    assert result.stderr.count("\n") == 1 and len(result.stderr) < 1100


def test_a_traceback_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ValueError("inside")

    monkeypatch.setattr(main, "get_command", lambda ctx, name: click.Command(name, callback=fail))
    monkeypatch.setenv("GRAPHKIT_TRACEBACK", "1")
    assert isinstance(CliRunner().invoke(main, ["anything"]).exception, ValueError)
    with pytest.raises(ValueError, match="inside"):
        main.main(["anything"], standalone_mode=False)


def test_an_unknown_command() -> None:
    result = CliRunner().invoke(main, ["nothing"])
    assert result.exit_code == 2 and "No such command 'nothing'; see `graphkit --help`" in result.stderr


def test_a_reader_that_goes_away() -> None:
    command = f"{sys.executable} -m graphkit --help | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env={**os.environ})
    assert done.stderr == ""


class Screen(io.StringIO):
    """A terminal that remembers."""

    def isatty(self) -> bool:
        return True


def test_progress_appears_after_a_while_and_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    with _progress.Progress(delay=0.05) as progress:
        progress("silu", 0, 4)
        assert screen.getvalue() == ""
        time.sleep(0.4)
        progress("verifying [bold]", 2, 4)
        time.sleep(0.2)
    assert "silu (1/4)" in screen.getvalue() and "verifying [bold] (3/4)" in screen.getvalue()
    silent = io.StringIO()
    monkeypatch.setattr(sys, "stderr", silent)
    with _progress.Progress(delay=0.0) as progress:
        progress("bisecting", 0, 0)
        time.sleep(0.05)
    assert silent.getvalue() == ""


def test_short_help_fits_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert "..." not in run("-h").split("Commands:")[1] and run("rewrite", "-h") == run("rewrite", "--help")


def test_passes_wrap_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphkit.cli import passes

    monkeypatch.setattr(passes, "_room", lambda taken: 12)
    monkeypatch.setattr(sys, "stdout", Screen())
    lines = passes._table([passes._Line("a", "one two three four", "b")]).splitlines()
    assert lines == ["a  one two       b", "   three four"]


def test_a_full_stdout_is_said_once() -> None:
    command = [sys.executable, "-m", "graphkit", "passes"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and done.stderr == "graphkit: error: No space left on device\n"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("graphkit explain dou", "doubling"),
        ("graphkit explain doubling:ti", "times="),
        ("graphkit rew", "rewrite"),
        ("graphkit rewrite m.onnx --pass needy:w", "what="),
    ],
)
def test_completion_in_bash(line: str, expected: str, tmp_path: Path) -> None:
    """Words are split by the script itself: bash would end them at : and =."""
    stub = tmp_path / "graphkit"
    stub.write_text(
        f"#!{sys.executable}\nfrom graphkit.rewrite import registry\n"
        "found = {n: registry.Installed(n, 'tests.rewrite.script', 'e', a)\n"
        "         for n, a in (('doubling', 'Doubling'), ('needy', 'Needy'))}\n"
        "registry.installed = lambda: found\nfrom graphkit.cli import main\nmain()\n"
    )
    stub.chmod(0o755)
    (tmp_path / "script").write_text(run("completion", "bash"))
    code = (
        "compopt() { :; }; source script; "
        f"COMP_LINE='{line}' COMP_POINT={len(line)}; _graphkit_completion; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    done = subprocess.run(
        ["bash", "--norc", "-c", f'COMP_WORDBREAKS=" :="; {code}'],
        capture_output=True, text=True, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert done.stdout.split() == [expected], done.stderr
