"""Exact new names, from an option or a TOML, JSON or CSV file; and what new names of ends mean."""

from __future__ import annotations

import csv
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphkit import BadOption, Bridge, Graph, Tally
from graphkit.rewrite.suggest import did_you_mean

_ARROW = "->"


@dataclass
class Renames:
    """Old name -> new name, of nodes and of tensors."""

    nodes: dict[str, str] = field(default_factory=dict)
    tensors: dict[str, str] = field(default_factory=dict)

    def add(self, old: str, new: str, kinds: Iterable[str], where: str) -> None:
        """Take one in. BadOption when a name is empty, or gets two new ones."""
        if not old or not new:
            raise BadOption(f"{where}: '{old}{_ARROW}{new}' has an empty name")
        for kind in kinds:
            known: dict[str, str] = getattr(self, kind)
            if known.setdefault(old, new) != new:
                raise BadOption(f"{where}: '{old}' gets two names, '{known[old]}' and '{new}'")

    def missing(self, nodes: Iterable[str], tensors: Iterable[str]) -> str:
        """What is wrong with the first old name that nothing has, nor its new one; else empty."""
        have = {"nodes": set(nodes), "tensors": set(tensors)}
        for old, new in {**self.nodes, **self.tensors}.items():
            kinds = [k for k in have if old in getattr(self, k)]
            if not any(old in have[k] or new in have[k] for k in kinds):
                known = [n for k in kinds for n in have[k]]
                what = "node or tensor" if len(kinds) == 2 else kinds[0][:-1]
                hint = did_you_mean(old, known)
                return f"there is no {what} '{old}'" + (f"; {hint}" if hint else "")
        return ""


_BOTH = ("nodes", "tensors")


def exact(pairs: Iterable[str], path: str, what: str) -> Renames:
    """The renames of the options ``map`` and ``file``; ``what`` says which kinds those without a kind are."""
    kinds = _BOTH if what == "both" else (what,)
    found = Renames()
    for pair in pairs:
        old, arrow, new = pair.partition(_ARROW)
        if not arrow:
            raise BadOption(f"rename:map: '{pair}' is no rename; write old->new, and + between several")
        found.add(old.strip(), new.strip(), kinds, "rename:map")
    if path:
        for old, new, own in _read(Path(path)):
            found.add(old, new, [k for k in own if k in kinds], f"rename:file={path}")
    return found


def _read(path: Path) -> list[tuple[str, str, tuple[str, ...]]]:
    where = f"rename:file={path}"
    readers = {".toml": _toml, ".json": _json, ".csv": _csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise BadOption(f"{where}: the name must end in .toml, .json or .csv")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BadOption(f"{where}: cannot be read: {error.strerror or error}; check the path") from error
    except UnicodeDecodeError as error:
        raise BadOption(f"{where}: is not UTF-8 text") from error
    try:
        return reader(text)
    except (ValueError, csv.Error, RecursionError) as error:
        raise BadOption(f"{where}: {error}") from error


def _toml(text: str) -> list[tuple[str, str, tuple[str, ...]]]:
    return _tables(tomllib.loads(text))


def _json(text: str) -> list[tuple[str, str, tuple[str, ...]]]:
    return _tables(json.loads(text))


def _tables(tree: Any) -> list[tuple[str, str, tuple[str, ...]]]:
    """``old = "new"``, at the top or in tables ``nodes`` and ``tensors``."""
    if not isinstance(tree, Mapping):
        raise ValueError("must hold old names with their new ones")
    found: list[tuple[str, str, tuple[str, ...]]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping) and key in _BOTH:
            wrong = next((o for o, n in value.items() if not isinstance(n, str)), None)
            if wrong is not None:
                raise ValueError(f"the new name of '{wrong}' is no text")
            found += [(old, new, (key,)) for old, new in value.items()]
        elif isinstance(value, str):
            found.append((key, value, _BOTH))
        else:
            raise ValueError(f"'{key}' is neither a new name nor one of the tables nodes and tensors")
    return found


def _csv(text: str) -> list[tuple[str, str, tuple[str, ...]]]:
    """``old,new`` by line, perhaps with ``nodes`` or ``tensors`` behind; a header ``old,new`` is no name."""
    found: list[tuple[str, str, tuple[str, ...]]] = []
    for number, row in enumerate(csv.reader(text.splitlines(), strict=True), 1):
        if not row or (number == 1 and [c.strip().lower() for c in row[:2]] == ["old", "new"]):
            continue
        if len(row) not in (2, 3) or (len(row) == 3 and row[2].strip() not in _BOTH):
            raise ValueError(f"line {number} is not old,new (and perhaps nodes or tensors)")
        found.append((row[0], row[1], (row[2].strip(),) if len(row) == 3 else _BOTH))
    return found


def looked_up(names: dict[str, str], name: str) -> str:
    return names.get(name, name)


def check_expression(pattern: str, to: str) -> None:
    """BadOption for an expression that cannot be used, and for a replacement that does not fit it."""
    try:
        to.encode()
        expression = re.compile(pattern)
    except (re.error, RecursionError, OverflowError, UnicodeEncodeError) as error:
        raise BadOption(f"rename:pattern={pattern!a},to={to!a} cannot be used: {error}") from None
    try:
        expression.sub(to, "")
    except (re.error, IndexError) as error:
        raise BadOption(f"rename:to={to} does not fit pattern {pattern}: {error}") from None


class Ends:
    """The inputs and outputs of the main graph, under their names before."""

    def __init__(self, graph: Graph) -> None:
        self._inputs = [(t, t.name) for t in graph.inputs]
        self._outputs = [(t, t.name) for t in graph.outputs]

    def tell(self, tally: Tally) -> None:
        """Where an end has the name now that another had, names alone do not say which is which."""
        ends = self._inputs + self._outputs
        had = {name for _, name in ends}
        swapped = [f"'{name}' is '{t.name}'" for t, name in ends if t.name != name and t.name in had]
        if not swapped:
            return
        inputs = {t.name: name for t, name in self._inputs}
        outputs = {t.name: name for t, name in self._outputs}
        tally.bridge(
            Bridge(
                says=", ".join(swapped),
                feeds=lambda new: [{inputs.get(n, n): v for n, v in new.items()}],
                outputs=lambda rows: {now: rows[0][was] for now, was in outputs.items()},
            )
        )
