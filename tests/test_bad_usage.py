"""Passes, options, recipes and arguments that are none are refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.refusal import SCRIPT, good, refused, refused_apart

PASSES = {
    "unknown": "slu",
    "unknown_and_odd": "\x1b[31m\n",
    "empty": "",
    "colon": ":",
    "unknown_option": "fold-constants:nope=1",
    "wrong_value": "fold-constants:max-size=lots",
    "option_without_value": "fold-constants:max-size",
    "script_missing": "{folder}/nope.py:edit",
    "script_without_name": "{folder}/edits.py",
    "script_name_missing": "{folder}/edits.py:nope",
    "script_name_no_pass": "{folder}/edits.py:not_a_pass",
    "script_unknown_option": "{folder}/edits.py:edit:nope=1",
    "script_syntax": "{folder}/syntax.py:edit",
    "script_raises": "{folder}/raises.py:edit",
    "script_exits": "{folder}/exits.py:edit",
    "script_imports_nothing": "{folder}/imports.py:edit",
    "script_is_folder": "{folder}/folder.py:edit",
}


def _scripts(folder: Path) -> None:
    (folder / "in.onnx").write_bytes(good())
    (folder / "edits.py").write_text(SCRIPT)
    (folder / "syntax.py").write_text("def edit(graph:\n")
    (folder / "raises.py").write_text("raise RuntimeError('two\\nlines')\n")
    (folder / "exits.py").write_text("import sys\nsys.exit(0)\n")
    (folder / "imports.py").write_text("import no_such_module_at_all\n")
    (folder / "folder.py").mkdir()


@pytest.mark.parametrize("name", PASSES)
def test_passes_that_are_none(name: str, tmp_path: Path) -> None:
    _scripts(tmp_path)
    spec = PASSES[name].format(folder=tmp_path)
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    try:
        refused(tmp_path, tmp_path / "in.onnx", "--pass", spec, "-o", tmp_path / "out.onnx")
    finally:
        sys.dont_write_bytecode = before


def test_a_script_leaves_no_bytecode(tmp_path: Path) -> None:
    """Nothing is written but OUT: not beside somebody's script either."""
    _scripts(tmp_path)
    refused_apart(
        tmp_path, tmp_path / "in.onnx", "--pass", f"{tmp_path}/edits.py:nope", "-o", tmp_path / "out.onnx"
    )


def test_an_unknown_pass_is_told_of_its_neighbours(tmp_path: Path) -> None:
    _scripts(tmp_path)
    said = refused(tmp_path, tmp_path / "in.onnx", "--pass", "fold-constant", "-o", tmp_path / "out.onnx")
    assert "fold-constants" in said


RECIPES = {
    "not_toml": "[[pass]\nname = silu",
    "empty": "",
    "unknown_key": 'passes = []\nspeed = "high"\n',
    "no_name": "[[pass]]\nmax-size = 3\n",
    "name_no_text": "[[pass]]\nname = 3\n",
    "unknown_pass": '[[pass]]\nname = "slu"\n',
    "unknown_option": '[[pass]]\nname = "fold-constants"\nnope = 1\n',
    "wrong_type": '[[pass]]\nname = "fold-constants"\nmax-size = [1, 2]\n',
    "pass_no_table": 'pass = "silu"\n',
    "passes_no_list": "passes = 3\n",
    "passes_no_text": "passes = [1]\n",
    "date": '[[pass]]\nname = "fold-constants"\nmax-size = 2020-01-01\n',
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_that_are_none(name: str, tmp_path: Path) -> None:
    (tmp_path / "in.onnx").write_bytes(good())
    (tmp_path / "recipe.toml").write_text(RECIPES[name])
    refused(tmp_path, tmp_path / "in.onnx", "--recipe", tmp_path / "recipe.toml", "-o", tmp_path / "out.onnx")


@pytest.mark.parametrize("kind", ["missing", "directory", "binary"])
def test_recipe_files_that_are_none(kind: str, tmp_path: Path) -> None:
    (tmp_path / "in.onnx").write_bytes(good())
    if kind == "directory":
        (tmp_path / "recipe.toml").mkdir()
    if kind == "binary":
        (tmp_path / "recipe.toml").write_bytes(b"\xff\0\1")
    refused(tmp_path, tmp_path / "in.onnx", "--recipe", tmp_path / "recipe.toml", "-o", tmp_path / "out.onnx")


@pytest.mark.parametrize(
    "arguments", [[], ["{in}"], ["-o", "{out}"], ["{in}", "-o", "{out}", "--nope"],
                  ["{in}", "{in}", "-o", "{out}"], ["{in}", "-o"],
                  ["{in}", "-o", "{out}", "--seed", "x"], ["{in}", "-o", "{out}", "--recipe"]]
)  # fmt: skip
def test_wrong_usage(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "in.onnx").write_bytes(good())
    names = {"in": str(tmp_path / "in.onnx"), "out": str(tmp_path / "out.onnx")}
    refused(tmp_path, *(argument.format(**names) for argument in arguments))
