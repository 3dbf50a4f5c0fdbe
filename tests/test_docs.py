"""The documentation is true: generated pages are current, links lead somewhere, examples do as shown."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(?P<info>[^\n]+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


@dataclass(frozen=True)
class Example:
    """A fenced block: ``language``, its ``words`` (``file=NAME``, ``exit=CODE``) and its text."""

    language: str
    words: dict[str, str]
    body: str


def examples(page: Path) -> list[Example]:
    found = []
    for match in FENCE.finditer(page.read_text("utf-8")):
        language, *rest = match["info"].split()
        found.append(Example(language, dict(word.split("=", 1) for word in rest), match["body"]))
    return found


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def executed(page: Path) -> bool:
    return any(e.language in ("console", "python") for e in examples(page))


def run(command: str, folder: Path, code: int = 0) -> str:
    """What a person sees of ``command`` in ``folder``, this environment first on PATH; it exits with code."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    env = {**os.environ, "PATH": path, "NO_COLOR": "1", "COLUMNS": "110"}
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=env, stdin=subprocess.DEVNULL, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == code, f"$ {command}\n{done.stdout}"
    return done.stdout


def shown(expected: str) -> re.Pattern[str]:
    """A line ``...`` stands for any lines, ``…`` within a line for any text of that line."""
    lines = [
        r"(?:.*\n)*?" if line.strip() == "..." else re.escape(line).replace("…", ".*") + r"\n"
        for line in expected.splitlines()
    ]
    return re.compile("".join(lines))


def check_console(body: str, folder: Path, code: int) -> None:
    """Run each ``$`` command; when output is shown below it, that is what it has to print."""
    for step in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        command, _, expected = step.partition("\n")
        output = run(command, folder, code)
        if expected.strip():
            assert shown(expected.rstrip("\n") + "\n").fullmatch(output), f"$ {command}\n{output}"


@pytest.mark.parametrize("page", [p for p in PAGES if executed(p)], ids=name_of)
def test_examples_do_what_they_show(page: Path, tmp_path: Path) -> None:
    demo = tmp_path / "fixtures" / "demo"  # as in the repository: examples run word for word
    demo.mkdir(parents=True)
    for path in (ROOT / "fixtures" / "demo").iterdir():
        if path.suffix in (".onnx", ".capture"):
            shutil.copy(path, demo)
    for example in examples(page):
        if "file" in example.words:
            target = tmp_path / example.words["file"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(example.body, "utf-8")
        elif example.language == "console":
            check_console(example.body, tmp_path, int(example.words.get("exit", "0")))
        elif example.language == "python":
            (tmp_path / "_example.py").write_text(example.body, "utf-8")
            run(f"{sys.executable} _example.py", tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    broken = [link for link in LINK.findall(page.read_text("utf-8")) if not (page.parent / link).exists()]
    assert not broken


def test_generated_pages_are_current() -> None:
    command = [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
