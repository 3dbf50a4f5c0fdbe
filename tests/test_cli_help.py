"""Asking for help loads none of the heavy libraries: one stray import is what makes a command slow."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "google.protobuf",
    "networkx",
    "numpy",
    "onnx",
    "onnx_graphsurgeon",
    "onnxruntime",
    "polygraphy",
    "rich",
    "torch",
)

RUN = """
import sys
from graphkit.cli import main
try:
    main(sys.argv[1:])
finally:
    print("\\n".join(["", "LOADED", *sys.modules]))
"""


def loaded_by(*arguments: str) -> set[str]:
    """Every module that ``graphkit ARGUMENTS`` imports, in a fresh interpreter."""
    result = subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    shown, _, modules = result.stdout.partition("\nLOADED\n")
    assert "Usage" in shown or "version" in shown
    return set(modules.split())


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["rewrite", "--help"], ["diff", "--help"], ["passes", "--help"], ["explain", "--help"]],
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    assert loaded_by(*arguments).isdisjoint(HEAVY)


def test_importing_graphkit_imports_nothing_heavy() -> None:
    code = "import graphkit, sys; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(result.stdout.split()).isdisjoint(HEAVY)
