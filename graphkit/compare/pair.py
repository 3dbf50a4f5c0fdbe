"""A model and its rewritten form: opened with the same tensors exposed, run on the same feeds."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from graphkit.compare import metrics
from graphkit.run.reference import CannotRun, Runnable, open_model

Feed = dict[str, Any]
Parts = Sequence[bytes | memoryview]
RUNS = 3  # input assignments that are compared
TRIES = 40  # feeds that are offered to the original to find them
SECONDS = 20.0  # after which no further feed is offered, once one has run


@dataclass
class Side:
    """One of the two models: its bytes, its outline, and where its external data lies (None: it has none).

    ``only`` is the runtime it is held to, once one has been chosen.
    """

    parts: Parts
    outline: ModelProto
    folder: Path | None
    only: str | None = None

    def open(self, outputs: Iterable[str] = (), only: str | None = None) -> Runnable:
        """Load it with more outputs; raises CannotRun."""
        own = {o.name for o in self.outline.graph.output}
        extra = [n for n in dict.fromkeys(outputs) if n not in own]
        return open_model(self.parts, self.folder, extra, only=only or self.only)

    def exposable(self, outputs: Sequence[str]) -> set[str]:
        """Those tensors that can be made outputs, found by halving when not all can."""
        if not outputs:
            return set()
        try:
            self.open(outputs)
            return set(outputs)
        except CannotRun:
            if len(outputs) == 1:
                return set()
        half = len(outputs) // 2
        return self.exposable(outputs[:half]) | self.exposable(outputs[half:])


@dataclass
class Trial:
    """The feeds that the original ran on, and what it gave for them."""

    feeds: list[Feed] = field(default_factory=list)
    values: list[dict[str, Any]] = field(default_factory=list)
    reason: str = ""


def try_feeds(model: Runnable, offered: Iterable[Feed], *, given: bool) -> Trial:
    """Run the original on the first feeds it accepts; those that give only NaN or 0 are a last resort.

    ``given``: the feeds are the user's, so all are run and one that fails ends the search.
    """
    trial, dull, start = Trial(), Trial(), time.monotonic()
    for number, feed in enumerate(offered):
        late = time.monotonic() - start > SECONDS and (trial.feeds or dull.feeds)
        if not given and (number >= TRIES or len(trial.feeds) >= RUNS or late):
            break
        try:
            values = model.run(feed)
        except CannotRun as error:
            trial.reason = trial.reason or str(error)
            if given:
                return Trial(reason=f"feed {number + 1} does not run: {error}")
            continue
        kept = trial if given or informative(values) else dull
        if len(kept.feeds) < RUNS or given:
            kept.feeds.append(feed)
            kept.values.append(values)
    if trial.feeds:
        return trial
    return Trial(dull.feeds, dull.values, trial.reason or "no input of a size worth trying fits it")


def informative(values: Mapping[str, Any]) -> bool:
    """Whether some output has a finite number other than 0 in it (or none is a float)."""
    arrays = [a for name, value in values.items() for _, a in metrics.parts(value, name)]
    floats = [a for a in arrays if metrics.tolerance(a.dtype) is not metrics.EXACT]
    return not floats or any(_says_something(a) for a in floats)


def _says_something(array: NDArray[Any]) -> bool:
    wide = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
    return bool(np.any(np.isfinite(wide) & (wide != 0)))


def renamed_feed(feed: Mapping[str, Any], names: Mapping[str, str], wanted: set[str]) -> Feed:
    """The feed under the rewritten model's input names, without inputs that it now has a default for."""
    return {names.get(k, k): v for k, v in feed.items() if names.get(k, k) in wanted}
