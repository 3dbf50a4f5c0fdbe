"""Finding the inputs of a verification: ordinary ones first, then probes of what those did not show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from graphkit.compare import defaults, memory, signature
from graphkit.compare.trial import Coverage, Feed, Trial, extend, try_feeds
from graphkit.run.feeds import feeds as make_feeds
from graphkit.run.probes import probes
from graphkit.run.reference import CannotRun, Runnable
from graphkit.run.shapes import Shape

if TYPE_CHECKING:
    from graphkit.compare.equivalence import Comparison

PROBE_SECONDS = 0.3  # for probes, on the original alone
SEARCH_SECONDS = 1.0  # more, when a branch or an output was not seen


class Search:
    """The feeds of one comparison; ``coverage`` says what they have shown."""

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison
        self._both = signature.common_inputs(
            comparison.before.outline, comparison.after.outline, comparison.names
        )
        self.coverage = Coverage(comparison.before.outline)
        self._estimates: dict[tuple[tuple[str, Shape], ...], int] = {}
        self._exposed: list[str] = []
        self._refused = 0

    def run(self, model: Runnable, exposed: list[str]) -> tuple[Trial, Runnable]:
        """Feeds that the original runs on, none in ``Trial.feeds`` when there is no such; and what ran it."""
        given = self._comparison.given is not None
        self._exposed = exposed
        trial = try_feeds(model, self._offered(), given=given, room=self._room)
        if not trial.feeds and not given and model.name.startswith("onnxruntime"):
            trial, model = self._on_reference(trial, model, exposed)
        if not trial.feeds and self._refused:
            raise CannotRun(memory.refusal(self._refused, self._comparison.limit))
        for feed, values in zip(trial.feeds, trial.values, strict=True):
            self.coverage.see(feed, values)
        if trial.feeds and not given:
            self._probe(trial, model)
        return trial, model

    def _on_reference(self, trial: Trial, model: Runnable, exposed: list[str]) -> tuple[Trial, Runnable]:
        """A kernel may refuse at run time what onnx's own evaluator can do."""
        try:
            other = self._comparison.before.open(exposed, "reference")
        except CannotRun:
            return trial, model
        found = try_feeds(other, self._offered(), given=False, room=self._room)
        return (found, other) if found.feeds else (trial, model)

    def _probe(self, trial: Trial, model: Runnable) -> None:
        seed, first, coverage = self._comparison.seed, trial.feeds[0], self.coverage
        like = _shapes(first)
        changed = defaults.changed(self._comparison.before.defaults, seed)
        if changed:
            extend(trial, model, iter([{**first, **changed}]), coverage, self._room, seconds=60)
        found = probes(self._both, like, seed=seed)
        extend(trial, model, found, coverage, self._room, seconds=PROBE_SECONDS)
        if coverage.missing:
            found = probes(self._both, like, seed=seed, search=True)
            extend(trial, model, found, coverage, self._room, seconds=SEARCH_SECONDS, search=True)

    def _offered(self) -> Iterable[Feed]:
        given = self._comparison.given
        if given is None:
            return make_feeds(self._both, seed=self._comparison.seed)
        return (dict(feed) for feed in (given() if callable(given) else given))

    def _room(self, feed: Feed, held: int) -> bool:
        """Whether running this feed stays within the limit, the values of the others being held."""
        shapes = _shapes(feed)
        key = tuple(shapes.items())
        if key not in self._estimates:
            self._estimates[key] = memory.of_run(self._both, shapes, self._exposed)
        needed = self._comparison.weights + self._estimates[key]
        if needed > self._comparison.limit:
            self._refused = min(self._refused or needed, needed)
            return False
        return held == 0 or needed + 2 * held <= self._comparison.limit


def _shapes(feed: Mapping[str, Any]) -> dict[str, Shape]:
    return {k: tuple(v.shape) for k, v in feed.items() if hasattr(v, "shape")}
