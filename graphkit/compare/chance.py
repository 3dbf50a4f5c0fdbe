"""Tensors that chance decides: those that differ between two runs of the original on one input."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from graphkit.compare import metrics, pairing
from graphkit.run import outline
from graphkit.run.reference import CannotRun

if TYPE_CHECKING:
    from graphkit.compare.equivalence import Comparison

AGAIN = 3  # runs that must agree


def unstable(comparison: Comparison, names: Iterable[str], number: int = 0) -> set[str]:
    """Those tensors that differ between runs of the original on the same input.

    A seed left out is taken from the node's place in the graph, which any rewrite changes: downstream of
    such a node, runs of one session count, each of which draws anew. Elsewhere two fresh sessions must
    agree. A tensor that cannot be read is taken as unstable where chance reaches it.
    """
    wanted = sorted(names)
    fine = comparison.before.exposable(wanted)
    fresh = _differ(comparison, fine, number, fresh=True)
    loose = comparison.loose & set(wanted)
    drawn = _differ(comparison, fine & loose, number, fresh=False) if loose else set()
    return fresh | drawn | (loose - fine)


def _differ(comparison: Comparison, names: set[str], number: int, *, fresh: bool) -> set[str]:
    feed = comparison.trial.feeds[number]
    own = {o.name for o in comparison.before.outline.graph.output}
    try:
        model = comparison.before.open(names)
        first = model.run(feed)
        different: set[str] = set()
        for _ in range(1 if fresh else AGAIN - 1):
            again = (comparison.before.open(names) if fresh else model).run(feed)
            different |= {n for n in first if metrics.self_noise(first[n], again[n]) > 0}
    except CannotRun:
        return names & own
    return different & names


def mark(comparison: Comparison) -> None:
    """Note which tensors chance may reach, and of those that are compared, which it does reach."""
    model = comparison.before.outline
    random = pairing.random_nodes(model)
    if not random:
        return
    comparison.loose = pairing.downstream(model, [n for n in random if outline.attribute(n, "seed") is None])
    comparison.chance = pairing.downstream(model, random)
    compared = {o.name for o in model.graph.output} | {a for a, _ in comparison.touched}
    comparison.excused = unstable(comparison, comparison.chance & compared)
