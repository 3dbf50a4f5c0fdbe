"""``graphkit explain``: the page of one pass."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

import click

from graphkit.cli._types import PassSpec

if TYPE_CHECKING:
    from graphkit.rewrite.framework import Pass


@click.command("explain", short_help="Show what a pass does.")
@click.argument("name", metavar="PASS", type=PassSpec())
def command(name: str) -> None:
    """Show what PASS does, when it refuses, and its options; of a recipe, the passes that it runs."""
    from graphkit.rewrite.recipe import recipes
    from graphkit.rewrite.registry import parsed

    if name in recipes():
        click.echo(recipes()[name].read_text("utf-8").rstrip())
        return
    cls, arguments = parsed(name)
    if arguments:
        cls.from_spec(arguments)  # options that the pass does not have are said
    page = page_of(cls)
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.markdown import Markdown

        Console().print(Markdown(page))
    else:
        click.echo(page)


def page_of(cls: type[Pass]) -> str:
    """The page of a pass as Markdown: name, docstring, options."""
    text = inspect.cleandoc(cls.__doc__ or "") or "It has no description."
    return f"# {cls.origin or cls.name}\n\n{text}\n\n## Options\n\n{_options(cls)}"


def _options(cls: type[Pass]) -> str:
    types = cls.types()
    fields = cls.options()
    if not fields:
        return "None."
    return "\n".join(_option(field, types[field.name]) for field in fields)


def _option(field: Any, kind: Any) -> str:
    from graphkit.rewrite import options as opt

    help_ = field.metadata.get("help")
    meaning = f": {help_}" if help_ else ""
    metavar = field.metadata.get("metavar")
    if opt.is_rest(field):
        return f"- `{metavar}`{meaning}"
    default = opt.default_of(field)
    fallback = "required" if default is opt.MISSING else f"default `{shown_default(default, kind)}`"
    return f"- `{opt.key_of(field)}={metavar or opt.describe(kind)}` ({fallback}){meaning}"


def shown_default(value: Any, kind: Any) -> str:
    """A default as a spec would spell it."""
    from graphkit.rewrite import options as opt

    return opt.spell("", value, kind)[1:] or '""'
