"""Second looks at a difference: is it the rewrite's, or the original's own (chance, rounding, a tie)?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from graphkit.compare import chance, metrics, pairing
from graphkit.compare.localise import values
from graphkit.report.records import TensorDifference
from graphkit.run import outline
from graphkit.run.reference import CannotRun
from graphkit.run.uses import facts

if TYPE_CHECKING:
    from graphkit.compare.equivalence import Comparison

Failed = list[tuple[int, TensorDifference]]
NUDGE = 1e-6  # relative change of the inputs, some roundings of float32
# one unit in the last place, by dtype of a tensor on the way and of an input
COARSE = {TensorProto.BFLOAT16: 2.0**-7, TensorProto.FLOAT16: 2.0**-10}
_FLOATS = {"float64": NUDGE, "float32": NUDGE, "float16": 2.0**-10, "bfloat16": 2.0**-7}
SWAPPED = 0.02  # the share of whole numbers that may change under a nudge before it says nothing


def settle(comparison: Comparison, failed: Failed) -> Failed:
    """The differences that remain after a second look; excused ones are noted on the comparison."""
    if not failed:
        return []
    for number in sorted({n for n, _ in failed}) if comparison.chance else ():
        suspects = {d.original for n, d in failed if n == number} & comparison.chance
        comparison.excused |= chance.unstable(comparison, suspects, number)
    failed = [(n, d) for n, d in failed if d.original not in comparison.excused]
    if any(_hopeless(d) for _, d in failed):
        return failed
    left: Failed = []
    for number in sorted({n for n, _ in failed}):
        mine = [d for n, d in failed if n == number and not _tie(comparison, n, d)]
        left += [(number, d) for d in _beyond_rounding(comparison, number, mine)]
        if left:  # one that stays is enough
            break
    return left


def _hopeless(difference: TensorDifference) -> bool:
    """Further off than any excuse below can reach."""
    return difference.tolerance > 0 and not difference.relative <= metrics.MOST_NOISE * difference.tolerance


def _beyond_rounding(
    comparison: Comparison, number: int, differences: list[TensorDifference]
) -> list[TensorDifference]:
    """Those by which the original itself does not move when its inputs change by a rounding."""
    if not differences:
        return []
    try:
        pairs = [(d.original, d.tensor) for d in differences]
        before, after = values(comparison, pairs, number)
        moved = [_moved(comparison, number, [a for a, _ in pairs], seed) for seed in range(2)]
    except CannotRun:
        return differences
    left = []
    for difference in differences:
        original, rewritten = before.get(difference.original), after.get(difference.tensor)
        others = [m.get(difference.original) for m in moved]
        if not _explained(comparison, difference, original, rewritten, others):
            left.append(difference)
    return left


def _moved(comparison: Comparison, number: int, names: list[str], seed: int) -> Mapping[str, Any]:
    step = _step(comparison, names)
    feed = {k: _nudged(v, seed, step) for k, v in comparison.trial.feeds[number].items()}
    return comparison.before.open(names).run(feed)


def _explained(
    comparison: Comparison, difference: TensorDifference, original: Any, rewritten: Any, moved: list[Any]
) -> bool:
    arrays = [original, rewritten, *moved]
    if not all(isinstance(v, np.ndarray) for v in arrays) or len({v.shape for v in arrays}) != 1:
        return False
    if metrics.tolerance(original.dtype) is metrics.EXACT:
        noise = max(float(np.mean(original != m)) for m in moved)
        return float(np.mean(original != rewritten)) <= min(2 * noise, SWAPPED)
    noise = max(metrics.self_noise(original, m) for m in moved)
    if not 0 < noise < np.inf:
        return False
    pair = (difference.original, difference.tensor)
    found = comparison.differences(pair, original, rewritten, noise)[0]
    if found.ok:
        comparison.worst = metrics.worse(comparison.worst, found)
        comparison.moved[found.tensor] = max(noise, comparison.moved.get(found.tensor, 0.0))
    return found.ok


def _step(comparison: Comparison, names: list[str]) -> float:
    """A rounding of the coarsest float that the tensors pass through on their way."""
    model = comparison.before.outline
    shapes = {k: v.shape for k, v in comparison.trial.feeds[0].items() if hasattr(v, "shape")}
    found = facts(model, shapes, {})
    for code, step in COARSE.items():
        narrow = {n for n in found.types if found.elem_type(n) == code}
        if narrow and pairing.depending(model, narrow).intersection(names):
            return step
    return NUDGE


def _nudged(value: Any, seed: int, step: float) -> Any:
    if not isinstance(value, np.ndarray) or value.dtype.name not in _FLOATS:
        return value
    step = max(step, _FLOATS[value.dtype.name])
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], value.shape)
    return (value.astype(np.float64) * (1 + step * signs)).astype(value.dtype)


def _tie(comparison: Comparison, number: int, difference: TensorDifference) -> bool:
    """Whether an ArgMax, ArgMin or TopK chose another of equally large values."""
    source = _chooser(comparison, difference.original)
    other = _chooser(comparison, difference.tensor, after=True)
    if source is None or other is None or source.op_type != other.op_type:
        return False
    pairs = [(source.input[0], other.input[0]), (difference.original, difference.tensor)]
    try:
        before, after = values(comparison, pairs, number)
        scores, chosen = before[source.input[0]], before[difference.original]
        others, taken = after[other.input[0]], after[difference.tensor]
    except (CannotRun, KeyError):
        return False
    if np.array_equal(scores, others):  # nothing but the choice itself was changed
        return False
    if not metrics.compare(scores, others, tensor=other.input[0]).ok:
        return False
    return _equal_scores(source, scores, chosen, taken)


def _chooser(comparison: Comparison, name: str, *, after: bool = False) -> Any:
    """The node that chose these indices, looked for through casts and identities."""
    model = comparison.after.outline if after else comparison.before.outline
    producers = {n: node for node in model.graph.node for n in node.output}
    for _ in range(8):
        node = producers.get(name)
        if node is None:
            return None
        if node.op_type in ("ArgMax", "ArgMin") or (node.op_type == "TopK" and name == node.output[-1]):
            return node
        if node.op_type not in ("Cast", "Identity"):
            return None
        name = node.input[0]
    return None


def _equal_scores(node: Any, scores: NDArray[Any], chosen: NDArray[Any], taken: NDArray[Any]) -> bool:
    axis = int(outline.attribute(node, "axis", -1 if node.op_type == "TopK" else 0))
    if chosen.ndim < scores.ndim:
        chosen, taken = np.expand_dims(chosen, axis), np.expand_dims(taken, axis)
    indices = [np.asarray(i).astype(np.int64) for i in (chosen, taken)]
    try:
        a, b = (np.take_along_axis(scores, i, axis).astype(np.float64) for i in indices)
    except (IndexError, ValueError):
        return False
    bound = metrics.tolerance(scores.dtype).error * float(np.abs(scores.astype(np.float64)).max(initial=0.0))
    return bool(np.all(np.abs(a - b) <= bound))
