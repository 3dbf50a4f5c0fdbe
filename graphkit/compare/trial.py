"""The inputs of a verification: those the original runs on, and what they have shown of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from graphkit.compare import metrics, pairing
from graphkit.run.reference import CannotRun, Runnable

Feed = dict[str, Any]
Room = Callable[[Feed, int], bool]  # whether this feed can be run, that many bytes being held
RUNS = 3  # input assignments that are compared
TRIES = 40  # feeds that are offered to the original to find them
SECONDS = 20.0  # after which no further feed is offered, once one has run
MOST = 12  # feeds in all, probes among them
LISTED = 3  # branches or outputs named in a note


@dataclass
class Trial:
    """The feeds that the original ran on, and what it gave for them."""

    feeds: list[Feed] = field(default_factory=list)
    values: list[dict[str, Any]] = field(default_factory=list)
    reason: str = ""

    def keep(self, feed: Feed, values: dict[str, Any]) -> None:
        """One feed more."""
        self.feeds.append(feed)
        self.values.append(values)

    @property
    def held(self) -> int:
        """Bytes of all values."""
        return sum(held(v) for values in self.values for v in values.values())


def held(value: Any) -> int:
    """Bytes of a tensor, or of all in a sequence or dictionary."""
    return sum(a.nbytes for _, a in metrics.parts(value, ""))


class Coverage:
    """What no feed has shown yet: branches of the main graph's Ifs, and outputs that say something.

    Ifs within a branch, a loop or a function are not watched.
    """

    def __init__(self, model: ModelProto) -> None:
        self.conditions: dict[str, str] = {}
        made = {name for node in model.graph.node for name in node.output}
        moving = pairing.depending(model, {i.name for i in model.graph.input})
        for node in model.graph.node:
            if node.op_type == "If" and node.input[0] in moving:
                self.conditions.setdefault(node.input[0], node.name or node.output[0])
        self.exposed = [n for n in self.conditions if n in made]
        self._taken: set[tuple[str, bool]] = set()
        self._outputs = [o.name for o in model.graph.output]
        self._dull: set[str] = set()
        self._telling: set[str] = set()

    def see(self, feed: Mapping[str, Any], values: Mapping[str, Any]) -> int:
        """Note what one run showed; how much of it was new."""
        before = len(self._taken) + len(self._telling)
        for name in self.conditions:
            value = values.get(name, feed.get(name))
            if isinstance(value, np.ndarray | np.generic) and value.size == 1:
                self._taken.add((name, bool(np.asarray(value).ravel()[0])))
        for name in (n for n in self._outputs if n in values):
            (self._telling if informative({name: values[name]}) else self._dull).add(name)
        return len(self._taken) + len(self._telling) - before

    @property
    def missing(self) -> list[str]:
        """Each thing not seen, in words."""
        branches = [
            f"the {which}-branch of '{label}'"
            for name, label in self.conditions.items()
            for which, taken in (("then", True), ("else", False))
            if (name, taken) not in self._taken
        ]
        dull = [f"'{n}'" for n in self._outputs if n in self._dull - self._telling]
        said = [f"{_listed(branches)} was never run"] if branches else []
        return said + ([f"{_listed(dull)} was 0, NaN or empty on every input tried"] if dull else [])


def _listed(words: list[str]) -> str:
    more = len(words) - LISTED
    return ", ".join(words[:LISTED]) + (f" (and {more} more)" if more > 0 else "")


def try_feeds(model: Runnable, offered: Iterable[Feed], *, given: bool, room: Room) -> Trial:
    """Run the original on the first feeds it accepts; those that give only NaN or 0 are a last resort.

    ``given``: the feeds are the user's, so all are run and one that fails ends the search. A feed for
    which there is no ``room`` is left out.
    """
    trial, dull, start = Trial(), Trial(), time.monotonic()
    for number, feed in enumerate(offered):
        late = time.monotonic() - start > SECONDS and (trial.feeds or dull.feeds)
        if not given and (number >= TRIES or len(trial.feeds) >= RUNS or late):
            break
        if not room(feed, trial.held + dull.held):
            continue
        try:
            values = model.run(feed)
        except CannotRun as error:
            trial.reason = trial.reason or str(error)
            if given:
                return Trial(reason=f"feed {number + 1} does not run: {error}")
            continue
        kept = trial if given or informative(values) else dull
        if len(kept.feeds) < RUNS or given:
            kept.keep(feed, values)
    if trial.feeds:
        return trial
    return Trial(dull.feeds, dull.values, trial.reason or "no input of a size worth trying fits it")


def extend(
    trial: Trial,
    model: Runnable,
    offered: Iterator[Feed],
    coverage: Coverage,
    room: Room,
    *,
    seconds: float,
    search: bool = False,
) -> None:
    """Add feeds that the original takes as well, while there is time; ``search``: those that show more.

    One on which the original itself overflows tells nothing and is left out.
    """
    start, took = time.monotonic(), 0.0
    for feed in offered:
        now = time.monotonic()
        if now + took - start > seconds or len(trial.feeds) >= MOST or (search and not coverage.missing):
            return
        if not room(feed, trial.held):
            continue
        try:
            values = model.run(feed)
        except CannotRun:
            continue
        took = max(took, time.monotonic() - now)
        if _overflows(values, trial.values):
            continue
        if coverage.see(feed, values) or not search:
            trial.keep(feed, values)


def _overflows(values: Mapping[str, Any], others: list[dict[str, Any]]) -> bool:
    """Whether some tensor has NaN or infinity that was finite on every feed before."""
    broken = [n for n, v in values.items() if not _finite(v)]
    return any(all(_finite(o[n]) for o in others) for n in broken if all(n in o for o in others))


def _finite(value: Any) -> bool:
    return all(
        bool(np.all(np.isfinite(a.astype(np.float64) if a.dtype.kind != "c" else a)))
        for _, a in metrics.parts(value, "")
        if metrics.tolerance(a.dtype) is not metrics.EXACT
    )


def informative(values: Mapping[str, Any]) -> bool:
    """Whether some output has a finite number other than 0 in it (or none is a float)."""
    arrays = [a for name, value in values.items() for _, a in metrics.parts(value, name)]
    floats = [a for a in arrays if metrics.tolerance(a.dtype) is not metrics.EXACT]
    return not floats or any(_says_something(a) for a in floats)


def _says_something(array: NDArray[Any]) -> bool:
    wide = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
    return bool(np.any(np.isfinite(wide) & (wide != 0)))
