"""Whether a quantised tensor that is a step off may be: only where the floats that are rounded differ."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import ModelProto

from graphkit.compare.localise import values
from graphkit.report.records import TensorDifference
from graphkit.run.reference import CannotRun

if TYPE_CHECKING:
    from graphkit.compare.equivalence import Comparison

_ROUNDS = ("QuantizeLinear", "DynamicQuantizeLinear", "Cast")


def withheld(comparison: Comparison, number: int, found: TensorDifference) -> TensorDifference:
    """The record, failed when it lives by the leeway and what both models round is bit for bit the same."""
    if not found.ok or not found.max_abs or found.tolerance or not found.reason:
        return found
    if not _same_floats(comparison, number, found):
        return found
    return replace(found, ok=False, reason=f"{found.reason}, and what is rounded is the same")


def _same_floats(comparison: Comparison, number: int, found: TensorDifference) -> bool:
    before = _rounded(comparison.before.outline, found.original)
    after = _rounded(comparison.after.outline, found.tensor)
    if before is None or not after:
        return False
    pairs = [(a, b) for op, b in after for other, a in before if op == other]
    try:
        old, new = values(comparison, pairs, number)
    except CannotRun:
        return False
    feed = comparison.trial.feeds[number]
    old = {**feed, **old}
    new = {**{comparison.names.get(k, k): v for k, v in feed.items()}, **new}
    same = {b for a, b in pairs if _equal(old.get(a), new.get(b))}
    return all(b in same for _, b in after)


def _equal(a: Any, b: Any) -> bool:
    return isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and np.array_equal(a, b)


def _rounded(model: ModelProto, name: str) -> set[tuple[str, str]] | None:
    """(operator, tensor that it rounds) of all roundings behind a tensor; None when some is unknown."""
    producers = {o: n for n in model.graph.node for o in n.output}
    found: set[tuple[str, str]] = set()
    queue, seen = [name], {name}
    while queue:
        node = producers.get(queue.pop())
        if node is None:
            continue
        if node.op_type.startswith("QLinear"):
            return None
        if node.op_type in _ROUNDS:
            found.add((node.op_type, node.input[0]))
            continue
        fresh = [i for i in node.input if i and i not in seen]
        seen.update(fresh)
        queue.extend(fresh)
    return found
