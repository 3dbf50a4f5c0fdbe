"""What a built wheel holds: both packages, their types, the licence and the entry points."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_the_built_in_passes_are_an_entry_point() -> None:
    assert "graphkit_passes" in {entry.value for entry in entry_points(group="graphkit.passes")}


@pytest.mark.slow
def test_the_wheel_holds_both_packages(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("graphkit-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        points = archive.read(next(n for n in names if n.endswith("entry_points.txt"))).decode()
    assert {"graphkit/py.typed", "graphkit_passes/py.typed", "graphkit/cli/__init__.py"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith(("passes/", "tests/", "fixtures/")) for name in names)
    assert "graphkit = graphkit.cli:main" in points
    assert "builtin = graphkit_passes" in points
