"""The check's options in ``pyproject.toml``, under ``[tool.graphkit.check]``: a team has them once."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphkit.errors import BadInput
from graphkit.rewrite.suggest import did_you_mean

__all__ = ["find", "load"]

_KINDS: Mapping[str, tuple[type, ...]] = {
    "target": (list, str),
    "trt": (str,),
    "shapes": (list, str),
    "fail-on": (str,),
    "baseline": (str,),
    "ignore": (list,),
    "severity": (dict,),
    "rules": (dict,),
    "jobs": (int,),
    "timeout": (int, float),
    "memory": (int, str),
}


def find(start: Path) -> Path | None:
    """The nearest pyproject.toml at or above ``start`` that has the table."""
    for folder in (start, *start.parents):
        file = folder / "pyproject.toml"
        if file.is_file() and _table(file) is not None:
            return file
    return None


def load(file: Path) -> dict[str, Any]:
    """The options, by their name without dashes; a baseline's path is relative to the file.

    Raises BadInput for a key that there is not, or a value of another type.
    """
    table = _table(file) or {}
    found: dict[str, Any] = {}
    for key, value in table.items():
        kinds = _KINDS.get(key)
        if kinds is None:
            hint = did_you_mean(key, _KINDS) or f"it may have {', '.join(_KINDS)}"
            raise BadInput(f"{file}: [tool.graphkit.check] has no use for '{key}'; {hint}")
        texts = not isinstance(value, list) or all(isinstance(v, str) for v in value)
        if not isinstance(value, kinds) or isinstance(value, bool) or not texts:
            wanted = " or ".join(dict.fromkeys(_NAMES[k] for k in kinds))
            raise BadInput(f"{file}: [tool.graphkit.check] {key} must be {wanted}, not {value!r}")
        found[key.replace("-", "_")] = value
    for key in ("target", "shapes"):
        if isinstance(found.get(key), str):
            found[key] = [part.strip() for part in found[key].split(",")]
    if "baseline" in found:
        found["baseline"] = file.parent / found["baseline"]
    return found


_NAMES = {list: "a list of texts", str: "a text", dict: "a table", int: "a number", float: "a number"}


def _table(file: Path) -> dict[str, Any] | None:
    try:
        tree = tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{file}: cannot be read: {error}; mend it, or give --no-config") from error
    for key in ("tool", "graphkit", "check"):
        tree = tree.get(key) if isinstance(tree, dict) else None  # type: ignore[assignment]
        if tree is None:
            return None
    return tree if isinstance(tree, dict) else None
