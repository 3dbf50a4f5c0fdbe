"""The first tensor, in the rewritten model's node order, that is not what it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from graphkit.compare import memory, pairing, signature
from graphkit.compare.pair import renamed_feed
from graphkit.report.records import TensorDifference
from graphkit.run.reference import CannotRun

if TYPE_CHECKING:
    from graphkit.compare.equivalence import Comparison

Values = dict[str, Any]


def first(comparison: Comparison, number: int) -> TensorDifference | None:
    """Compare all tensors that both models have, on the feed numbered so; None when all of them agree."""
    before, after = comparison.before.outline, comparison.after.outline
    wanted = [p for p in pairing.pairs(before, after) if p[0] not in comparison.unsure]
    touched = {b: a for a, b in comparison.touched}
    wanted = [(touched.get(b, a), b) for a, b in wanted]
    both = signature.common_inputs(before, after, comparison.names)
    feed = comparison.trial.feeds[number]
    shapes = {k: tuple(v.shape) for k, v in feed.items() if hasattr(v, "shape")}
    sizes = memory.tensor_sizes(both, shapes)
    for chunk in pairing.chunks(wanted, sizes, max(comparison.limit // 8, 1 << 20)):
        try:
            found = _first_of(comparison, chunk, number)
        except CannotRun:  # what can be said without this chunk is said
            continue
        if found is not None:
            return found
    return None


def _first_of(
    comparison: Comparison, chunk: Sequence[tuple[str, str]], number: int
) -> TensorDifference | None:
    before, after = values(comparison, chunk, number)
    for a, b in chunk:
        if a not in before or b not in after:
            continue
        for difference in comparison.differences((a, b), before[a], after[b]):
            if not difference.ok:
                return difference
    return None


def values(comparison: Comparison, pairs: Sequence[tuple[str, str]], number: int) -> tuple[Values, Values]:
    """Both models' values of these tensors on one feed; those that cannot be exposed are left out."""
    feed = comparison.trial.feeds[number]
    before = _run(comparison, [a for a, _ in pairs], feed, after=False)
    wanted = comparison.fed
    return before, _run(
        comparison, [b for _, b in pairs], renamed_feed(feed, comparison.names, wanted), after=True
    )


def _run(comparison: Comparison, names: list[str], feed: Values, *, after: bool) -> Values:
    side = comparison.after if after else comparison.before
    try:
        return side.open(names).run(feed)
    except CannotRun:
        fine = side.exposable(names)
        return side.open(fine).run(feed)
