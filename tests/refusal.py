"""Running the command on something it has to refuse: exit 2, one line on stderr, nothing written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from graphkit.cli import main
from tests.features.base import FUNCTION, IF, model

COMMAND = [sys.executable, "-c", "from graphkit.cli import main; main()"]
GOOD = "g (float[2,3] x, bool c) => (float[2,3] y) { h = Relu (x)  y = Neg (h) }"
BRANCH = "g (float[2,3] x, bool c) => (float[2,3] y) {" + IF.format(out="y") + "}"
CALL = "g (float[2,3] x) => (float[2,3] y) { y = local.f (x) }\n" + FUNCTION
SCRIPT = """
def edit(graph, name="edited"):
    graph.nodes[0].name = name

def read(graph):
    for tensor in graph.tensors().values():
        getattr(tensor, "values", None)

not_a_pass = 3
"""


def good() -> bytes:
    return model(GOOD).SerializeToString()


def snapshot(folder: Path) -> dict[str, Any]:
    """Every entry of a folder, with what it is and what it holds."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path)] = os.readlink(path)
        else:
            found[str(path)] = (path.stat().st_mode, path.read_bytes() if path.is_file() else None)
    return found


def one_line(stderr: str) -> None:
    """One line, and no control character in it (file and tensor names come from elsewhere)."""
    assert stderr.endswith("\n") and stderr.count("\n") == 1, f"not one line: {stderr!r}"
    assert stderr[:-1].isprintable() and len(stderr) > 20, repr(stderr)
    assert len(stderr) < 2000, "a line of that length is no help"


def refused(folder: Path, *arguments: str | Path) -> str:
    """Run the command here; returns the one line it said."""
    before = snapshot(folder)
    result = CliRunner().invoke(main, ["rewrite", *map(str, arguments)])
    assert result.exit_code == 2, (result.exit_code, result.output, result.exception)
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.stdout == "", result.stdout
    one_line(result.stderr)
    assert snapshot(folder) == before
    return result.stderr


def refused_apart(folder: Path, *arguments: str | Path, limit: int | None = None) -> str:
    """The same in a process of its own; ``limit`` is the largest file it may write, in bytes."""
    before = snapshot(folder)

    def set_limit() -> None:
        if limit is not None:
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [*COMMAND, "rewrite", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, preexec_fn=set_limit)
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    one_line(done.stderr)
    assert snapshot(folder) == before
    return done.stderr
