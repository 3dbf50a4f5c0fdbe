"""Diff of whatever A and B are: models, engines, captures of engines; one report for all."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphkit.compare.engines import Reference, RunResult, analyse, refer
from graphkit.compare.flat import Flat, Flattener
from graphkit.compare.judge import Bounds
from graphkit.errors import BadInput, BadOption
from graphkit.report.diffs import Coverage, DiffReport, Drift, LayerDiff, OutputDiff, RunSummary
from graphkit.run.captured import CapturedRun

if TYPE_CHECKING:
    from graphkit.compare.drift import Watch

__all__ = ["diff", "kind_of"]

Progress = Callable[[str, int, int], None]
_ONNX = (".onnx", ".onnxtxt", ".onnxtext", ".pb")


def diff(
    a: Path | str,
    b: Path | str,
    *,
    trt: str = "auto",
    atol: Mapping[str, float] | float | None = None,
    rtol: Mapping[str, float] | float | None = None,
    inputs: Sequence[Path | str] | Path | str = (),
    seed: int = 0,
    shapes: Sequence[str] | Mapping[str, tuple[int, ...]] = (),
    iterations: int = 1,
    determinism: int | None = None,
    same_rows: bool = False,
    rebuild: bool = False,
    reference_precision: str = "float32",
    memory: int = 512 << 20,
    metrics: Mapping[str, Callable[..., Any]] | None = None,
    model: Path | str | None = None,
    other_model: bool = False,
    drift: bool = True,
    progress: Progress | None = None,
) -> DiffReport:
    """Compare B with A and name the first place where they part.

    A is an ONNX model and B an engine of it, a capture of one, or another model; or both are engines or
    captures of one model, which ``model`` names (captures can do without). An engine is captured first, which
    needs a GPU; everything else runs anywhere. ``inputs`` are files (see graphkit.run.inputs), else
    ``iterations`` sets are made from ``seed``; ``shapes`` as ``NAME=1x3x64x64``, or ``NAME=min/opt/max`` to
    run all three. ``determinism``: run so many times, every bit has to agree. ``same_rows``: also run with
    one row repeated along the batch, every row has to come out alike. ``rebuild``: an engine without marks is
    built again with them. ``memory`` bounds the bytes of tensors in flight, weights not counted. ``atol`` and
    ``rtol`` (one number, or by tensor, "" for the others) replace the automatic tolerances.

    Raises BadInput, BadEngine, BadCapture, NoRuntime or CannotRun when they cannot be compared.
    """
    job = _Job(
        _Options(
            trt,
            Bounds(atol, rtol),
            (inputs,) if isinstance(inputs, (str, Path)) else tuple(inputs),
            seed,
            shapes,
            iterations,
            determinism,
            same_rows,
            rebuild,
            reference_precision,
            memory,
            metrics or {},
            model,
            other_model,
            drift,
            progress or _nothing,
        )
    )
    return job.run(Path(a), Path(b))


def _nothing(stage: str, done: int, total: int) -> None:
    """No progress to tell."""


def kind_of(path: Path) -> str:
    """ "onnx", "capture" or "engine", by the file's first bytes, and its name where these say nothing.

    Raises BadInput when there is no such file, or it is plainly none of these.
    """
    from graphkit.model.disk import open_regular, reason, shown
    from graphkit.run.capture_file import is_capture
    from graphkit.run.engine_header import is_engine, other_kind

    name = shown(path)
    try:
        fd = open_regular(path)
        with os.fdopen(fd, "rb") as file:
            start = file.read(_START)
    except FileNotFoundError as error:
        raise BadInput(f"{name}: there is no such file; {_NAME_ONE}") from error
    except OSError as error:
        raise BadInput(f"{name}: cannot be read: {reason(error)}; {_NAME_ONE}") from error
    if is_capture(path):
        return "capture"
    if is_engine(start):
        return "engine"
    if path.suffix.lower() in _ONNX or (start and _parses(path)):
        return "onnx"
    what = other_kind(start) if start else "is empty"
    if "Git LFS" in what:
        raise BadInput(f"{name}: {what}")
    if what.startswith(("is text", "is empty")):
        raise BadInput(f"{name}: {what.partition(',')[0]}, and no model, engine or capture; {_NAME_ONE}")
    return "engine"


_START = 4096
_NAME_ONE = "name a model, an engine or a capture"


def _parses(path: Path) -> bool:
    from graphkit.model.model import Model

    try:
        return bool(Model.load(path).main.outputs)
    except BadInput:
        return False


@dataclass(frozen=True)
class _Options:
    trt: str
    bounds: Bounds
    inputs: tuple[Path | str, ...]
    seed: int
    shapes: Sequence[str] | Mapping[str, tuple[int, ...]]
    iterations: int
    determinism: int | None
    same_rows: bool
    rebuild: bool
    precision: str
    memory: int
    metrics: Mapping[str, Callable[..., Any]]
    model: Path | str | None
    other_model: bool
    drift: bool
    progress: Progress


@dataclass
class _Job:
    """One diff, and what it took."""

    options: _Options
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, a: Path, b: Path) -> DiffReport:
        """Choose by what A and B are."""
        kinds = kind_of(a), kind_of(b)
        self._check(kinds)
        if kinds == ("onnx", "onnx"):
            return self._models(a, b)
        if kinds[1] == "onnx" and kinds[0] != "onnx":
            kind = {"engine": "an engine", "capture": "a capture"}[kinds[0]]
            raise BadInput(f"{b} is a model and {a} is {kind}; give the model first")
        if kinds[0] == "onnx":
            return self._engine(a, b, kinds[1])
        return self._engines(a, b, kinds)

    def _check(self, kinds: tuple[str, str]) -> None:
        """BadOption for what was asked and cannot be done with files of these kinds."""
        o = self.options
        asked = {
            "--inputs": bool(o.inputs),
            "--shapes": bool(o.shapes),
            "--iterations": o.iterations > 1,
            "--determinism": o.determinism is not None,
            "--same-rows": o.same_rows,
            "--rebuild": o.rebuild,
        }
        given = [name for name, is_given in asked.items() if is_given]
        if "capture" in kinds and given:
            raise BadOption(
                f"{', '.join(given)}: a capture has run already; ask graphkit capture, or diff the engine"
            )
        of_engines = [name for name in given if name in ("--determinism", "--same-rows", "--rebuild")]
        if "engine" not in kinds and of_engines:
            raise BadOption(f"{', '.join(of_engines)}: needs an engine, and both are models; leave it out")
        if o.model is not None and "onnx" in kinds:
            raise BadOption("--model: is for two engines or captures; here A is the model; leave it out")
        if o.inputs and o.shapes:
            raise BadOption(
                "--inputs and --shapes contradict each other: given inputs have shapes; leave one out"
            )

    def _models(self, a: Path, b: Path) -> DiffReport:
        from graphkit.compare.models import diff_models
        from graphkit.compare.plan import model_feeds

        o = self.options
        feeds, shapes = model_feeds(a, o.inputs, o.seed, o.shapes, o.iterations)
        return diff_models(
            a,
            b,
            feeds=feeds,
            seed=o.seed,
            shapes=shapes,
            iterations=o.iterations,
            atol=o.bounds.atol,
            rtol=o.bounds.rtol,
            reference_precision=None if o.precision == "model" else o.precision,
            memory=o.memory,
            metrics=o.metrics,
            progress=o.progress,
        )

    def _engine(self, a: Path, b: Path, kind: str) -> DiffReport:
        from graphkit.compare.drift import watch

        watched = watch(b, a, self.options) if kind == "engine" else None
        with watched or nullcontext():
            return self._compared(a, b, kind, watched)

    def _compared(self, a: Path, b: Path, kind: str, watched: Watch | None) -> DiffReport:
        from graphkit.compare.captures import opened

        start = time.monotonic()
        ahead = _Ahead(a, self.options)
        source = opened(a, b, kind, self.options, ahead.begin if kind == "engine" else None)
        self.seconds["capture" if kind == "engine" else "open"] = time.monotonic() - start
        capture = source.capture
        results: list[tuple[str, RunResult]] = []
        kernels = capture.layers.kernels if capture.layers is not None else ()
        runs = source.distinct
        for place, run in enumerate(runs):
            self.options.progress("comparing", place, len(runs))
            began = time.monotonic()
            flat, reference = ahead.of(run)
            results.append(
                (
                    run.label,
                    analyse(
                        flat,
                        run,
                        kernels,
                        tf32=source.tf32,
                        limits=self.options.bounds,
                        custom=self.options.metrics,
                        memory=self.options.memory,
                        reference=reference,
                    ),
                )
            )
            self.seconds["compare"] = self.seconds.get("compare", 0.0) + time.monotonic() - began
        report = merged(str(a), str(b), f"onnx-{kind}", results, [r.shapes for r in runs])
        began = time.monotonic()
        drift = watched.result(kernels) if watched is not None else source.drift()
        self.seconds["drift"] = time.monotonic() - began
        self.seconds["total"] = time.monotonic() - start
        report = replace(
            report, drift=drift, versions=source.versions, seconds=dict(self.seconds), options=source.told
        )
        return source.completed(report)

    def _engines(self, a: Path, b: Path, kinds: tuple[str, str]) -> DiffReport:
        from graphkit.compare.twocaptures import diff_engines

        return diff_engines(a, b, kinds, self.options)


class _Ahead:
    """The reference of the first run, computed while the engine is loaded and its kernels are compiled."""

    def __init__(self, model: Path, options: _Options) -> None:
        self._model, self._options = model, options
        self._pool = ThreadPoolExecutor(1)
        self._flattener: Flattener | None = None
        self._first: tuple[Mapping[str, Any], Future[tuple[Flat, Reference]]] | None = None

    def begin(self, feed: Mapping[str, Any]) -> None:
        """Told of inputs that will be run: starts with the first."""
        if self._first is None:
            self._first = (feed, self._pool.submit(self._made, feed))

    def _made(self, feed: Mapping[str, Any]) -> tuple[Flat, Reference]:
        flat = self._flat(feed)
        return flat, refer(flat, self._options.memory // 4)

    def _flat(self, feed: Mapping[str, Any]) -> Flat:
        if self._flattener is None:
            precision, memory = self._options.precision, self._options.memory // 2
            self._flattener = Flattener(self._model, precision=precision, memory=memory)
        return self._flattener.flat(feed)

    def of(self, run: CapturedRun) -> tuple[Flat, Reference | None]:
        """The model for a run, and its reference when that is there."""
        feed = {name: array.read() for name, array in run.inputs.items()}
        if self._first is None:
            return self._flat(feed), None
        given, ready = self._first
        flat, reference = ready.result()
        self._first = None
        self._pool.shutdown()
        same = given.keys() == feed.keys() and all(np.array_equal(given[n], feed[n]) for n in feed)
        return (flat, reference) if same else (self._flat(feed), None)


def merged(
    a: str,
    b: str,
    kind: str,
    results: Sequence[tuple[str, RunResult]],
    shapes: Sequence[Mapping[str, tuple[int, ...]]],
) -> DiffReport:
    """One report of several runs: each kernel and output as in the run where it was worst."""
    layers = _worst_layers(result.layers for _, result in results)
    outputs: dict[str, OutputDiff] = {}
    for _, result in results:
        for output in result.outputs:
            known = outputs.get(output.name)
            if known is None or _badness(output) > _badness(known):
                outputs[output.name] = output
    bad = next((layer for layer in layers if not layer.ok), None)
    fine = bad is None and all(o.ok for o in outputs.values())
    coverage = min((r.coverage for _, r in results), key=lambda c: c.share, default=Coverage())
    return DiffReport(
        a,
        b,
        kind,  # type: ignore[arg-type]
        "match" if fine else "mismatch",
        bad,
        tuple(layers),
        next((r.unmapped for _, r in results if r.coverage == coverage), ()),
        tuple(outputs.values()),
        Drift(),
        coverage,
        runs=tuple(
            RunSummary(
                label,
                dict(dims),
                "match" if r.first_bad is None and all(o.ok for o in r.outputs) else "mismatch",
                r.first_bad.kernel if r.first_bad is not None else "",
            )
            for (label, r), dims in zip(results, shapes, strict=True)
        ),
    )


def _worst_layers(runs: Iterable[Sequence[LayerDiff]]) -> list[LayerDiff]:
    found: dict[tuple[str, str, int], LayerDiff] = {}
    for layers in runs:
        for layer in layers:
            key = (layer.kernel, layer.tensor, layer.call)
            known = found.get(key)
            if known is None or (layer.share or 0.0) > (known.share or 0.0):
                found[key] = layer
    return list(found.values())


def _badness(output: OutputDiff) -> tuple[bool, float]:
    return not output.ok, output.metrics.to_range if output.metrics is not None else 0.0
