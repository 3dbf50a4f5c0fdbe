"""ONNX against ONNX: both run in ONNX Runtime on the same inputs, every tensor of B beside its twin in A."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from graphkit.compare import counterparts, signature
from graphkit.compare.counterparts import Side
from graphkit.compare.judge import Bounds
from graphkit.compare.spool import Spool
from graphkit.compare.trial import informative
from graphkit.compare.twins import Run, Twins
from graphkit.errors import BadInput
from graphkit.model.model import Model
from graphkit.report.diffs import Coverage, DiffReport, Drift, RunSummary
from graphkit.run.feeds import feeds as made_feeds
from graphkit.run.reference import CannotRun, ort_name
from graphkit.run.shapes import MAX_ELEMENTS, required_inputs

__all__ = ["diff_models"]

Feed = Mapping[str, Any]
Progress = Callable[[str, int, int], None]
TRIES = 12  # sets of inputs that are offered to A for each one that is wanted


@dataclass(frozen=True)
class _Options:
    """What decides how two models are compared."""

    bounds: Bounds
    memory: int
    metrics: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    progress: Progress = lambda stage, done, total: None


def diff_models(
    a: str | Path,
    b: str | Path,
    *,
    feeds: Iterable[Feed] | None = None,
    seed: int = 0,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    iterations: int = 1,
    atol: Mapping[str, float] | float | None = None,
    rtol: Mapping[str, float] | float | None = None,
    reference_precision: str | None = None,
    memory: int = 512 << 20,
    metrics: Mapping[str, Callable[..., Any]] | None = None,
    progress: Progress | None = None,
) -> DiffReport:
    """Compare two ONNX models tensor by tensor, and name the first node of B that computes something else.

    ``feeds`` are inputs under A's names; without any, ``iterations`` are made from ``seed`` in ``shapes``.
    A runs as it is, or with its half precision made float32 (``reference_precision`` "float32"). ``memory``
    bounds the bytes of tensors in flight, weights not counted: A's values wait in a temporary file.
    ``atol`` and ``rtol`` (one number, or numbers by tensor, "" for the others) replace those by dtype.

    Raises BadInput when a model cannot be read, or when they do not take the same inputs, and CannotRun
    when ONNX Runtime runs one of them on no inputs.
    """
    start = time.monotonic()
    options = _Options(Bounds(atol, rtol), memory, metrics or {}, progress or (lambda *_: None))
    options.progress("reading", 0, 0)
    left, right = _side(a, reference_precision), _side(b, None)
    twins = _twins(left, right, options, f"{b}")
    given = feeds is not None
    offered = iter(feeds) if feeds is not None else _made(left, right, twins.inputs, seed, shapes)
    runs = list(_runs(twins, offered, None if given else iterations, options))
    report = _report(twins, runs, str(a), str(b))
    advice = () if report.ok or given else (_ADVICE,)
    decided = {"atol": atol, "rtol": rtol, "seed": None if given else seed, "memory": memory}
    return replace(
        report, advice=advice, options=decided, seconds={**_seconds(runs), "total": time.monotonic() - start}
    )


_ADVICE = "the inputs were random numbers; give real ones with --inputs to see how much it matters"


def _side(path: str | Path, precision: str | None) -> Side:
    loaded = Model.load(path)
    model = loaded.to_proto()
    if precision == "float32":
        from graphkit.run.precision import upcast

        model, _ = upcast(model, loaded.file.folder)
    return Side(model, loaded.file.folder)


def _twins(a: Side, b: Side, options: _Options, name: str) -> Twins:
    inputs = counterparts.input_names(a, b)
    missing = [i.name for i in required_inputs(b.model) if i.name not in inputs]
    if missing:
        have = ", ".join(i.name for i in required_inputs(a.model)) or "none"
        raise BadInput(
            f"{name}: its input '{missing[0]}' is no input of the other model, which has {have}; "
            "compare two models of one signature"
        )
    types = [{i.name: i.type for i in side.model.graph.input} for side in (a, b)]
    for new, old in inputs.items():
        different = signature.other_dims(types[0][old], types[1][new])
        if different:
            raise BadInput(
                f"{name}: its input '{new}' {different} in '{old}' of the other model; "
                "compare two models of one signature"
            )
    outputs = counterparts.output_names(a, b)
    found = counterparts.match(a, b, inputs, outputs)
    return Twins(a, b, inputs, outputs, found, options.bounds, options.memory, options.metrics)


def _made(
    a: Side, b: Side, inputs: Mapping[str, str], seed: int, shapes: Mapping[str, tuple[int, ...]] | None
) -> Iterator[Feed]:
    """Seeded inputs that fit both models' shapes."""
    both = signature.common_inputs(a.model, b.model, {old: new for new, old in inputs.items()})
    known = {i.name for i in both.graph.input}
    unknown = [name for name in shapes or {} if name not in known]
    if unknown:
        raise BadInput(
            f"--shapes {unknown[0]}: the model has no such input; it has {', '.join(sorted(known))}"
        )
    yield from islice(made_feeds(both, seed=seed, shapes=shapes), TRIES)


def _runs(twins: Twins, offered: Iterator[Feed], wanted: int | None, options: _Options) -> Iterator[Run]:
    """One run for each set of inputs; of those that are made, the ones that A runs on and that say something.

    ``wanted`` is None for inputs that were given: they all have to run.
    """
    reason, dull, count = f"none could be made of at most {MAX_ELEMENTS} elements each", None, 0
    for number, feed in enumerate(offered):
        if wanted is not None and count >= wanted:
            return
        options.progress("running A", count, wanted or 0)
        with Spool(options.memory // 4) as spool:
            try:
                twins.run_a(feed, spool)
            except CannotRun as error:
                if wanted is None:
                    raise CannotRun(f"A does not run on inputs {number + 1}: {error}") from error
                reason = str(error)
                continue
            if wanted is not None and not informative(twins.outputs_of(spool)):
                dull = dull or feed
                continue
            options.progress("running B", count, wanted or 0)
            count += 1
            yield twins.compare(feed, spool, f"{count}")
    if not count and dull is not None:
        with Spool(options.memory // 4) as spool:
            twins.run_a(dull, spool)
            yield replace(
                twins.compare(dull, spool, "1"), note="A gives only 0, NaN or nothing on every input tried"
            )
    elif not count:
        raise CannotRun(f"A runs on no inputs that were tried: {reason}; give some with --inputs")


def _report(twins: Twins, runs: list[Run], a: str, b: str) -> DiffReport:
    """All runs as one report; its layers are those of the first run that is a mismatch, else of the first."""
    told = next((run for run in runs if not run.ok), runs[0])
    evidence = Counter(layer.evidence for layer in told.layers)
    notes = [", ".join(f"{n} by {how}" for how, n in evidence.most_common())]
    notes = [f"tensors paired: {notes[0]}"] if notes[0] else []
    summaries = tuple(
        RunSummary(
            run.label,
            run.shapes,
            "match" if run.ok else "mismatch",
            run.first_bad.kernel if run.first_bad is not None else "",
            run.note,
        )
        for run in runs
    )
    return DiffReport(
        a,
        b,
        "onnx-onnx",
        "match" if all(run.ok for run in runs) else "mismatch",
        told.first_bad,
        told.layers,
        told.unmapped,
        told.outputs,
        Drift(),
        Coverage(len(told.layers) + len(told.unmapped), len(told.layers)),
        (*notes, *dict.fromkeys(run.note for run in runs if run.note)),
        runs=summaries,
        versions={"runtime": ort_name(), "onnx": onnx.__version__, "numpy": np.__version__},
    )


def _seconds(runs: Iterable[Run]) -> dict[str, float]:
    total: Counter[str] = Counter()
    for run in runs:
        total.update(run.seconds)
    return dict(total)
