"""Two engines of one model, by what each captured: kernel beside kernel, with no reference."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graphkit.compare.bounds import Noise, judge
from graphkit.compare.captures import EngineSide, opened
from graphkit.compare.engines import RunResult
from graphkit.compare.measures import measure
from graphkit.compare.samples import Sample, distance
from graphkit.engine.boundary import Boundary, EngineGraph
from graphkit.errors import BadInput
from graphkit.report.diffs import Coverage, DiffReport, LayerDiff, OutputDiff, Unmapped
from graphkit.run.captured import CapturedRun, CapturedTensor

if TYPE_CHECKING:
    from graphkit.compare.diff import _Options

__all__ = ["diff_engines"]

_LENGTH = 1 << 14  # products summed: errors of a whole network have accumulated in what is compared
_CLOSE = 0.05


def diff_engines(a: Path, b: Path, kinds: tuple[str, str], options: _Options) -> DiffReport:
    """Compare two engines, or captures of them, on the same inputs; BadInput when these differ.

    Tensors are paired by their kernels' ONNX nodes and dims, and by value where several kernels share these.
    Errors are what has accumulated: without a reference nobody says which of the two introduced it.
    """
    start = time.monotonic()
    model = Path(options.model) if options.model is not None else None
    left, right = (opened(model, p, k, options) for p, k in zip((a, b), kinds, strict=True))
    pairs = list(_runs(left, right))
    results = [(run.label, _compare(left, base, right, run, options)) for base, run in pairs]
    from graphkit.compare.diff import merged

    report = merged(str(a), str(b), "engine-engine", results, [run.shapes for _, run in pairs])
    versions = {f"a: {k}": v for k, v in left.versions.items() if k != "reference"}
    versions |= {f"b: {k}": v for k, v in right.versions.items() if k != "reference"}
    note = (
        "errors have accumulated since the inputs; diff each engine with the model to see what a kernel adds"
    )
    report = replace(
        report,
        versions=versions,
        seconds={"total": time.monotonic() - start},
        notes=(note,),
        options=right.told,
    )
    return right.completed(report)


def _runs(left: EngineSide, right: EngineSide) -> list[tuple[CapturedRun, CapturedRun]]:
    """The runs of both on the same inputs."""
    found, mine = [], left.distinct
    for place, run in enumerate(right.distinct):
        if place >= len(mine) or not _same_inputs(mine[place], run):
            raise BadInput(
                f"{left.path} and {right.path}: run '{run.label}' had other inputs; capture both from the "
                "same ones (--inputs, or the same --seed and --shapes)"
            )
        found.append((mine[place], run))
    return found


def _same_inputs(a: CapturedRun, b: CapturedRun) -> bool:
    return a.inputs.keys() == b.inputs.keys() and all(
        np.array_equal(array.read(), b.inputs[name].read(), equal_nan=array.dtype.startswith("float"))
        for name, array in a.inputs.items()
    )


class _Side:
    """One capture's boundaries, by what their kernels are made of."""

    def __init__(self, side: EngineSide, run: CapturedRun) -> None:
        tensors = [t for t in run.tensors if t.name not in run.inputs and t.name not in run.outputs]
        self.sources = {(t.name, t.call): t for t in tensors}
        self.engine = EngineGraph(side.kernels, tensors)
        self.groups: dict[object, list[Boundary]] = defaultdict(list)
        for boundary in self.engine.boundaries:
            self.groups[self._key(boundary)].append(boundary)

    def _key(self, boundary: Boundary) -> object:
        kernel = None if boundary.kernel is None else self.engine.kernels[boundary.kernel]
        nodes = frozenset(kernel.onnx_nodes) if kernel is not None else frozenset()
        return nodes, tuple(d for d in boundary.dims if d != 1), boundary.copy

    def tensor(self, boundary: Boundary) -> CapturedTensor:
        return self.sources[boundary.name, boundary.call]


def _compare(
    left: EngineSide, base: CapturedRun, right: EngineSide, run: CapturedRun, options: _Options
) -> RunResult:
    a, b = _Side(left, base), _Side(right, run)
    layers: list[LayerDiff] = []
    unmapped: list[Unmapped] = []
    for key, mine in b.groups.items():
        for boundary, twin in _twins(a, a.groups.get(key, []), b, mine):
            kernel = None if boundary.kernel is None else b.engine.kernels[boundary.kernel]
            if twin is None:
                why = (
                    "moves values only"
                    if boundary.copy
                    else "no kernel of the other engine has these nodes and dims"
                )
                name = kernel.name if kernel is not None else ""
                unmapped.append(Unmapped(boundary.name, name, boundary.dims, boundary.dtype, why))
                continue
            row = _row(a.tensor(twin), b.tensor(boundary), right.tf32 or left.tf32, options)
            layers.append(
                replace(
                    row,
                    kernel=kernel.name if kernel is not None else "",
                    type=kernel.type if kernel is not None else "",
                    onnx_nodes=kernel.onnx_nodes if kernel is not None else (),
                    call=boundary.call,
                )
            )
    order = {
        (x.name, x.call): (1 << 30 if x.kernel is None else x.kernel, x.order) for x in b.engine.boundaries
    }
    layers.sort(key=lambda layer: order[layer.tensor, layer.call])
    outputs = [_output(name, base, run, left.tf32 or right.tf32, options) for name in run.outputs]
    work = [x for x in b.engine.boundaries if not x.copy]
    paired = {(layer.tensor, layer.call) for layer in layers}
    coverage = Coverage(
        len(b.engine.boundaries),
        sum((x.name, x.call) in paired for x in work),
        len(b.engine.boundaries) - len(work),
    )
    return RunResult(tuple(layers), tuple(unmapped), tuple(outputs), coverage)


def _twins(
    a: _Side, theirs: Sequence[Boundary], b: _Side, mine: Sequence[Boundary]
) -> list[tuple[Boundary, Boundary | None]]:
    """For each boundary of B its twin in A: the one there is, or of several the one with its values."""
    if len(theirs) == len(mine) == 1:
        return [(mine[0], theirs[0])]
    left, found = list(theirs), []
    for boundary in mine:
        value = Sample(b.tensor(boundary).read()).values
        apart = [(distance(value, Sample(a.tensor(t).read()).values), n) for n, t in enumerate(left)]
        near, place = min(apart, default=(np.inf, -1))
        found.append((boundary, left.pop(place) if near <= _CLOSE else None))
    return found


def _row(x: CapturedTensor, y: CapturedTensor, tf32: bool, options: _Options) -> LayerDiff:
    actual = y.read()
    metrics = measure(x.read().reshape(actual.shape), actual, dtype=y.dtype, custom=options.metrics)
    dtype = x.dtype if x.dtype != "float32" else y.dtype
    bound = judge(dtype, Noise(), length=_LENGTH, tf32=tf32, quantised=False, size=metrics.size)
    user = options.bounds.of(y.name)
    share = bound.share(metrics) / 10  # a whole network's rounding, not one kernel's
    if user is not None:
        allowed = user[0] + user[1] * max(map(abs, metrics.range_ref))
        share = metrics.max_abs / allowed if allowed else (np.inf if metrics.max_abs else 0.0)
    ok = share <= 1 and not metrics.misplaced
    return LayerDiff(
        "", tensor=y.name, dtype=y.dtype, dims=y.dims, paired=(x.name,), accumulated=metrics,
        evidence="the same ONNX nodes and dims", confidence=0.9, tolerance=10 * bound.rms,
        share=float(share), ok=ok, cause="" if ok else "the engines differ from here on",
    )  # fmt: skip


def _output(name: str, base: CapturedRun, run: CapturedRun, tf32: bool, options: _Options) -> OutputDiff:
    x, y = base.outputs.get(name), run.outputs[name]
    if x is None or x.dims != y.dims:
        return OutputDiff(name, None, None, False, "the other engine has no output of this name and shape")
    as_tensors = [CapturedTensor(t.name, t.dtype, t.dims, t.key, t.source) for t in (x, y)]
    row = _row(as_tensors[0], as_tensors[1], tf32, options)
    return OutputDiff(name, row.accumulated, row.tolerance, row.ok, row.cause)
