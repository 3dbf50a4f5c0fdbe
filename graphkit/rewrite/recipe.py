"""Recipes: a TOML file that lists passes, with their options, in the order in which they run.

    passes = ["silu", "fold-constants:max-size=1M"]

or, when options are many,

    [[pass]]
    name = "fold-constants"
    max-size = "1M"

Packages ship recipes too: each ``graphkit.recipes`` entry point names a package whose ``NAME.toml`` files can
be asked for by name alone.
"""

from __future__ import annotations

import importlib.util
import os
import tomllib
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from graphkit.errors import BadRecipe, GraphkitError
from graphkit.rewrite.framework import Pass
from graphkit.rewrite.registry import load_pass, pass_class
from graphkit.rewrite.script import is_script, load_script
from graphkit.rewrite.suggest import did_you_mean

__all__ = ["GROUP", "about", "load_recipe", "recipe_file", "recipes"]

GROUP = "graphkit.recipes"


@cache
def recipes() -> dict[str, Path]:
    """The recipes of installed packages by name; of two with one name, that of the first package."""
    found: dict[str, Path] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda e: (e.name, e.value)):
        spec = importlib.util.find_spec(entry.value)
        for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
            for file in sorted(Path(folder).glob("*.toml")):
                found.setdefault(file.stem, file)
    return dict(sorted(found.items()))


def recipe_file(path: Path | str) -> Path:
    """The file of a recipe: the path itself, or that of an installed one when it is a bare name of one."""
    file = Path(path)
    bare = file.name == str(path) and not file.suffix and not file.exists()
    return recipes().get(file.name, file) if bare else file


def about(file: Path) -> str:
    """What a recipe says of itself: the comment at its top, on one line."""
    lines = file.read_text("utf-8", "replace").splitlines()
    end = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return " ".join(line.lstrip("# ").strip() for line in lines[:end] if line.strip("# "))


def load_recipe(path: Path | str) -> list[Pass]:
    """The passes that a recipe lists, built; a script's path in it is relative to the recipe's folder.

    ``path`` is a file, or the name of an installed recipe, such as ``trt``.

    Raises BadRecipe when the file is missing, is no TOML, or does not say what to run; what is wrong with a
    pass or an option is said with the recipe's name in front.
    """
    file = recipe_file(path)
    try:
        text = file.read_bytes().decode()
        tree = tomllib.loads(text)
    except OSError as error:
        raise BadRecipe(f"{file}: cannot be read: {error.strerror or error}; {_advice(file)}") from error
    except UnicodeDecodeError as error:
        raise BadRecipe(f"{file}: is not UTF-8 text; a recipe is a TOML file") from error
    except tomllib.TOMLDecodeError as error:
        raise BadRecipe(f"{file}: is not TOML: {error}") from error
    try:
        return _passes(tree, file)
    except BadRecipe:
        raise
    except GraphkitError as error:
        raise type(error)(f"{file}: {error}") from error


def _advice(file: Path) -> str:
    close = did_you_mean(file.stem, recipes())
    return (
        close
        or f"give the path of a recipe, or the name of one: {', '.join(recipes()) or 'none is installed'}"
    )


def _passes(tree: dict[str, Any], file: Path) -> list[Pass]:
    unknown = sorted(set(tree) - {"passes", "pass"})
    if unknown:
        raise BadRecipe(
            f"{file}: has no use for '{unknown[0]}'; a recipe has `passes = […]` or [[pass]] tables"
        )
    if len(tree) != 1:
        both = (
            "both `passes` and [[pass]], whose order would be a guess; use one" if tree else "no passes in it"
        )
        raise BadRecipe(f"{file}: has {both}")
    if "passes" in tree:
        specs = tree["passes"]
        if isinstance(specs, list) and specs and all(isinstance(s, dict) for s in specs):
            raise BadRecipe(f"{file}: write [[pass]], not [[passes]]")
        if not isinstance(specs, list) or not all(isinstance(s, str) for s in specs):
            raise BadRecipe(f'{file}: `passes` must be a list of texts, such as passes = ["silu"]')
        return [load_pass(_anchored(spec, file.parent)) for spec in specs]
    tables = tree["pass"]
    if not isinstance(tables, list):
        raise BadRecipe(f"{file}: write [[pass]] with two brackets: the passes are a list")
    return [_from_table(table, number, file) for number, table in enumerate(tables, 1)]


def _from_table(table: Any, number: int, file: Path) -> Pass:
    if not isinstance(table, dict) or not isinstance(table.get("name"), str):
        raise BadRecipe(f'{file}: [[pass]] number {number} needs a name, such as name = "silu"')
    spec = table["name"]
    arguments = load_script(_anchored(spec, file.parent))[1] if is_script(spec) else spec.partition(":")[2]
    if arguments:
        key, equals, value = arguments.partition(",")[0].partition("=")
        example = f'{key} = "{value}"' if equals else f"{key} = true"
        raise BadRecipe(
            f"{file}: [[pass]] number {number} has options in its name; put options on lines of their own, "
            f"such as {example}"
        )
    values = {k: v for k, v in table.items() if k != "name"}
    return pass_class(_anchored(table["name"], file.parent)).from_values(values)


def _anchored(spec: str, folder: Path) -> str:
    """A script's path, seen from the recipe's folder."""
    if not is_script(spec) or os.path.isabs(spec):
        return spec
    joined = os.path.join(folder, spec)
    return joined if os.path.isabs(joined) else os.path.join(".", os.path.normpath(joined))
