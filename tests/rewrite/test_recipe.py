"""Recipes: passes with options from a TOML file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from graphkit import BadOption, BadPass, BadRecipe, UnknownPass, load_recipe

SCRIPT = Path(__file__).with_name("script.py")

TABLES = """
[[pass]]
name = "./script.py:tag"
prefix = "a,b"
count = 2

[[pass]]
name = "./script.py:Needy"
what = "x"
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    shutil.copy(SCRIPT, tmp_path / "script.py")
    return tmp_path / "recipe.toml"


def test_tables_and_lists(recipe: Path) -> None:
    recipe.write_text(TABLES)
    first, second = load_recipe(recipe)
    assert str(first) == f"{recipe.parent}/./script.py:tag:prefix=a\\,b,count=2"
    assert str(second).endswith("script.py:Needy:what=x")
    recipe.write_text('passes = ["./script.py:Doubling:times=2", "./script.py:nothing"]')
    assert [type(p).name for p in load_recipe(str(recipe))] == ["doubling", "nothing"]
    recipe.write_text(f'passes = ["{SCRIPT}:nothing"]')
    assert str(load_recipe(recipe)[0]) == f"{SCRIPT}:nothing"


def test_a_recipe_beside_the_shell(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe.write_text('passes = ["./script.py:nothing"]')
    monkeypatch.chdir(recipe.parent)
    assert str(load_recipe("recipe.toml")[0]) == "./script.py:nothing"


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        (None, BadRecipe, "cannot be read"),
        (b"\xff\xfe", BadRecipe, "not UTF-8"),
        (b"passes = [", BadRecipe, "is not TOML"),
        (b"", BadRecipe, "no passes in it"),
        (b"passes = []\n[[pass]]\nname = 'x'", BadRecipe, "both"),
        (b"steps = []", BadRecipe, "has no use for 'steps'"),
        (b"passes = 'silu'", BadRecipe, "must be a list"),
        (b"passes = [1]", BadRecipe, "must be a list"),
        (b"[[passes]]\nname = 'x'", BadRecipe, r"write \[\[pass\]\], not"),
        (b"[[pass]]\nname = 'rename:pattern=a,to=b'", BadRecipe, 'lines of their own, such as pattern = "a"'),
        (b"[[pass]]\nname = './script.py:tag:prefix=a'", BadRecipe, "lines of their own"),
        (b"[pass]\nname = 'x'", BadRecipe, "two brackets"),
        (b"[[pass]]\nwhat = 'x'", BadRecipe, "number 1 needs a name"),
        (b"[[pass]]\nname = './script.py:Needy'", BadOption, "needs what="),
        (b"[[pass]]\nname = './script.py:Needy'\nwhat = 3", BadOption, "must be text, not int"),
        (b"[[pass]]\nname = './script.py:Needy'\nwhich = 3", BadOption, "no option 'which'"),
        (b"passes = ['no-such-pass-anywhere']", UnknownPass, "no pass"),
        (b"passes = ['./nothing.py:f']", BadPass, "cannot be read"),
    ],
)
def test_what_is_wrong_is_said_with_the_name_of_the_recipe(
    recipe: Path, text: bytes | None, kind: type[Exception], said: str
) -> None:
    if text is not None:
        recipe.write_bytes(text)
    with pytest.raises(kind, match=said) as caught:
        load_recipe(recipe)
    assert str(caught.value).startswith(str(recipe)) and "\n" not in str(caught.value)
