"""Finds passes: each ``graphkit.passes`` entry point names a package, each public module holds one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from graphkit.errors import UnknownPass
from graphkit.rewrite import plugins
from graphkit.rewrite.framework import Pass
from graphkit.rewrite.script import is_script, load_script
from graphkit.rewrite.suggest import did_you_mean

__all__ = ["GROUP", "Installed", "load_pass", "installed", "passes", "pass_class"]

GROUP = "graphkit.passes"


@dataclass(frozen=True)
class Installed(plugins.Installed):
    """Where an installed pass is; ``load`` imports it."""

    group = GROUP
    base = Pass


@cache
def installed() -> dict[str, Installed]:
    """Every installed pass by name, found without importing any; two of one name are one with a problem."""
    return plugins.find(Installed)


def passes() -> dict[str, type[Pass]]:
    """Every installed pass by name, imported."""
    return {name: one.load() for name, one in installed().items()}


def pass_class(name: str) -> type[Pass]:
    """The class of an installed pass, or of ``./file.py:name``; UnknownPass names the closest there are."""
    if is_script(name):
        return load_script(name)[0]
    found = installed().get(name)
    if found is None:
        raise UnknownPass(f"there is no pass '{name}'; {_hint(name)}")
    return found.load()


def _hint(name: str) -> str:
    if "," in name and name.partition(",")[0] in installed():
        return "give each pass its own --pass"
    if name.startswith((".", "/", "~")) or "/" in name:
        return f"a pass in a file is written {name.partition(',')[0].removesuffix('.py')}.py:NAME"
    return did_you_mean(name, installed()) or "`graphkit passes` lists those installed"


def load_pass(spec: str) -> Pass:
    """Turn ``silu``, ``silu:key=value`` or ``./file.py:name:key=value`` into a pass, its options checked."""
    cls, arguments = parsed(spec)
    return cls.from_spec(arguments)


def parsed(spec: str) -> tuple[type[Pass], str]:
    """The class that a spec names, and the options that it gives, as text."""
    if is_script(spec):
        return load_script(spec)
    name, _, arguments = spec.partition(":")
    return pass_class(name), arguments
