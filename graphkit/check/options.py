"""A check's options: how targets are spelled, and what is wrong with options, said before any work."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from graphkit.errors import BadOption
from graphkit.report.checks import SEVERITIES

__all__ = ["listed", "refuse_grades", "refuse_limits", "refuse_rules", "sm", "spelled_shapes", "target_of"]

_TARGET = re.compile(r"(?:sm_?)?(\d{2,3})|(\d{1,2}\.\d)", re.ASCII)


def target_of(text: str) -> str:
    """The compute capability, as "8.9", that ``sm89``, ``89`` or ``8.9`` names; BadOption for others."""
    found = _TARGET.fullmatch(str(text).strip().lower())
    if found is None:
        raise BadOption(f"'{text}' is no target; write sm89, or 8.9")
    return found[2] or f"{found[1][:-1]}.{found[1][-1]}"


def sm(capability: str) -> str:
    """``sm89`` for "8.9"."""
    return "sm" + capability.replace(".", "")


def spelled_shapes(shapes: Iterable[str] | Mapping[str, Any]) -> tuple[str, ...]:
    """Shapes as the command line spells them; BadOption for what are none."""
    from graphkit.run.profiles import parse_shapes

    return tuple(str(s) for s in parse_shapes(listed(shapes) if isinstance(shapes, str) else shapes))


def listed(names: str | Iterable[str]) -> tuple[str, ...]:
    """Several, or one text with commas between them."""
    if isinstance(names, str):
        return tuple(part.strip() for part in names.split(",") if part.strip())
    return tuple(names)


def refuse_rules(rules: Mapping[str, Mapping[str, Any]], others: Iterable[str]) -> None:
    """BadOption for a rule that there is not, or options that it does not have."""
    from graphkit.check.registry import installed, known

    for name in others:
        known(name)
    for name, values in rules.items():
        known(name)
        if not isinstance(values, Mapping):
            raise BadOption(f"rule '{name}': its options are a table, option = value, not {values!r}")
        if name not in installed():
            raise BadOption(f"'{name}' is told by TensorRT, and has no options; --ignore leaves it out")
        installed()[name].load().from_values(values)


def refuse_grades(grades: Iterable[str]) -> None:
    """BadOption for a severity that there is not."""
    for grade in grades:
        if grade not in SEVERITIES:
            raise BadOption(f"there is no severity '{grade}'; say {', '.join(SEVERITIES)}")


def refuse_limits(trt: str, jobs: int, timeout: float, memory: int) -> None:
    """BadOption for a TensorRT that there is not, or a limit that nothing can be done within."""
    from graphkit.run.trt import NAMES

    if trt not in ("auto", *NAMES):
        raise BadOption(f"there is no TensorRT '{trt}'; say auto, tensorrt or rtx")
    for name, value in (("jobs", jobs), ("timeout", timeout), ("memory", memory)):
        if not value > 0:
            raise BadOption(f"{name} is {value}; it has to be more than 0")
