"""Types of arguments: pass specs and sizes, with their completion, and tolerances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    _Text = click.ParamType[str, str]
    _Number = click.ParamType[int, int]
    _Named = click.ParamType[tuple[str, float], tuple[str, float]]
else:  # generic since click 8.5 only
    _Text = _Number = _Named = click.ParamType

__all__ = ["PassSpec", "SizeParam", "ToleranceParam"]


class PassSpec(_Text):
    """``name``, ``name:key=value,…`` or ``./file.py:name``; built, and refused, by the registry."""

    name = "pass"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if str(value).startswith("-"):
            self.fail(f"a pass must follow, not '{value}'; for instance --pass silu", param, ctx)
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Installed passes; after ``name:``, the options of that pass; after ``.`` or ``/``, files."""
        if incomplete.startswith((".", "/", "~")):
            return [CompletionItem(incomplete, type="file")]
        from graphkit.errors import GraphkitError

        try:
            return _options(incomplete) if ":" in incomplete else _names(incomplete)
        except GraphkitError:  # a completion has nowhere to say what is wrong
            return []


def _names(incomplete: str) -> list[CompletionItem]:
    from graphkit.rewrite.registry import installed

    return [CompletionItem(name) for name in installed() if name.startswith(incomplete)]


def _options(incomplete: str) -> list[CompletionItem]:
    from graphkit.rewrite.options import is_rest, key_of
    from graphkit.rewrite.registry import pass_class

    name, _, arguments = incomplete.partition(":")
    given, comma, last = arguments.rpartition(",")
    head = f"{name}:{given}{comma}"
    fields = [f for f in pass_class(name).options() if not is_rest(f) and key_of(f).startswith(last)]
    return [CompletionItem(f"{head}{key_of(f)}=", help=f.metadata["help"]) for f in fields]


class SizeParam(_Number):
    """A number of bytes: ``4096``, ``64k``, ``1M``, ``4G``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from graphkit.rewrite.options import Size

        if isinstance(value, int):
            return value
        try:
            return int(Size.parse(value))
        except ValueError:
            self.fail(f"'{value}' is not a size; write 512M or 4G", param, ctx)


class ToleranceParam(_Named):
    """A bound on errors, ``1e-3``, or one tensor's, ``logits=1e-3``: (tensor or "", bound)."""

    name = "tolerance"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        if isinstance(value, tuple):
            return value[0], value[1]
        tensor, equals, text = str(value).rpartition("=")
        try:
            bound = float(text)
        except ValueError:
            bound = -1.0
        if not bound >= 0 or (equals and not tensor):
            self.fail(f"'{value}' is no tolerance; write 1e-3 or TENSOR=1e-3", param, ctx)
        return tensor, bound
