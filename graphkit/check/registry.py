"""Finds rules: each ``graphkit.rules`` entry point names a package, each public module holds one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from graphkit.check.rule import Rule
from graphkit.errors import BadOption
from graphkit.rewrite import plugins
from graphkit.rewrite.suggest import did_you_mean

__all__ = ["GROUP", "InstalledRule", "installed", "known", "rules"]

GROUP = "graphkit.rules"


@dataclass(frozen=True)
class InstalledRule(plugins.Installed):
    """Where an installed rule is; ``load`` imports it."""

    group = GROUP
    base = Rule


@cache
def installed() -> dict[str, InstalledRule]:
    """Every installed rule by name; two of one name are one with a problem."""
    return plugins.find(InstalledRule)


def rules() -> dict[str, type[Rule]]:
    """Every installed rule by name, imported."""
    return {name: one.load() for name, one in installed().items()}


def known(name: str) -> str:
    """``name``; BadOption when no rule has it."""
    from graphkit.check.verdicts import OWN

    if name not in installed() and name not in OWN:
        hint = did_you_mean(str(name), [*installed(), *OWN]) or "`graphkit check --rules` lists them"
        raise BadOption(f"there is no rule '{name}'; {hint}")
    return name
