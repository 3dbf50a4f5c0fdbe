"""``graphkit passes``: what is installed."""

from __future__ import annotations

import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

import click

SCHEMA = "graphkit.passes/1"


@dataclass(frozen=True)
class _Line:
    name: str
    summary: str
    package: str
    group: str = ""


@click.command("passes", short_help="List the installed passes and recipes.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to print.")
def command(form: str) -> None:
    """List the installed passes, what each does, and the package it comes from; then the recipes."""
    lines, named = _lines(), _recipes()
    if form == "json":
        tree = {"schema": SCHEMA, "passes": [vars(line) for line in lines], "recipes": named}
        click.echo(json.dumps(tree, indent=2, ensure_ascii=False))
    elif not lines:
        click.echo("no pass is installed")
    else:
        click.echo(_table(lines))
        for recipe in named:
            click.echo(f"recipe {recipe['name']}: {recipe['summary']}")


def _lines() -> list[_Line]:
    from graphkit.errors import BadPass
    from graphkit.rewrite.registry import installed

    found = []
    for one in installed().values():
        try:
            cls = one.load()
            summary, group = summary_of(cls), cls.group
        except BadPass as error:  # one broken plug-in must not hide the others
            summary, group = f"cannot be used: {error}", ""
        found.append(_Line(one.name, summary, one.package, group))
    return found


def _recipes() -> list[dict[str, str]]:
    from graphkit.rewrite.recipe import about, recipes

    return [{"name": name, "summary": about(file)} for name, file in recipes().items()]


def summary_of(cls: type) -> str:
    """The first paragraph of a docstring, on one line, without its markup."""
    first = inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0]
    return " ".join(first.split()).replace("``", "").replace("`", "")


def _table(lines: list[_Line]) -> str:
    name = max(len(line.name) for line in lines)
    package = max(len(line.package) for line in lines)
    room = _room(name + package + 4) or max(len(line.summary) for line in lines)
    return "\n".join(row for line in lines for row in _rows(line, name, room))


def _room(taken: int) -> int:
    """How wide a summary may be on this terminal; 0 when there is none, and so no limit."""
    import shutil

    return max(30, shutil.get_terminal_size().columns - taken) if sys.stdout.isatty() else 0


def _rows(line: _Line, name: int, room: int) -> Iterator[str]:
    """A summary wraps in its own column."""
    first, *more = textwrap.wrap(line.summary, room, break_on_hyphens=False) or [""]
    yield f"{line.name:<{name}}  {first:<{room}}  {line.package}".rstrip()
    yield from (f"{'':<{name}}  {rest}" for rest in more)
