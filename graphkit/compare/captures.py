"""The engine's side of a diff: a capture, there or made now, and what it can say by itself."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphkit.compare.plan import points
from graphkit.compare.rows import rows_differ, same_rows
from graphkit.engine.kernel import Kernel
from graphkit.errors import BadCapture, BadInput
from graphkit.model.disk import shown
from graphkit.model.file import ModelFile
from graphkit.model.model import Model
from graphkit.report.diffs import DiffReport, Drift, LayerDiff
from graphkit.run.capture_file import Capture
from graphkit.run.captured import CapturedRun
from graphkit.run.reference import ort_name

if TYPE_CHECKING:
    from graphkit.compare.diff import _Options

__all__ = ["EngineSide", "opened"]

Told = Callable[[Mapping[str, Any]], None]
_ITERATION = re.compile(r" ?iteration \d+$")


@dataclass(frozen=True)
class EngineSide:
    """Captured runs of one engine."""

    path: Path
    captures: tuple[Capture, ...]
    options: _Options
    rows: Capture | None = None
    notes: tuple[str, ...] = ()
    told: Mapping[str, Any] = field(default_factory=dict)

    @property
    def capture(self) -> Capture:
        """The first of them, which speaks for the engine."""
        return self.captures[0]

    @property
    def kernels(self) -> Sequence[Kernel]:
        return self.capture.layers.kernels if self.capture.layers is not None else ()

    @property
    def tf32(self) -> bool:
        """Whether TF32 was allowed in the build: TensorRT's default, unless the build's options say no."""
        layers = self.capture.layers
        options = layers.meta.get("options") if layers is not None else None
        said = options.get("tf32") if isinstance(options, Mapping) else None
        return True if said is None else bool(said)

    @property
    def runs(self) -> list[CapturedRun]:
        return [run for capture in self.captures for run in capture.runs]

    @property
    def distinct(self) -> list[CapturedRun]:
        """The runs with inputs of their own: of repeated ones the first."""
        found: dict[tuple[int, str], CapturedRun] = {}
        for place, capture in enumerate(self.captures):
            for run in capture.runs:
                found.setdefault((place, _ITERATION.sub("", run.label)), run)
        return list(found.values())

    @property
    def versions(self) -> dict[str, str]:
        """What computed the two sides."""
        trt, device = self.capture.meta.get("trt"), self.capture.meta.get("device")
        found = {"reference": ort_name()}
        if isinstance(trt, Mapping):
            found[str(trt.get("module", "tensorrt"))] = str(trt.get("version", ""))
        if isinstance(device, Mapping):
            found["device"] = (
                f"{device.get('name', '')} (compute capability {device.get('compute_capability', '')})"
            )
        return found

    def drift(self) -> Drift:
        """What the capture says about fusion drift; the check itself needs the target's builder."""
        kept = self.capture.meta.get("drift")
        if isinstance(kept, Mapping):
            return Drift(True, int(kept.get("kernels", 0)), tuple(map(str, kept.get("different", ()))))
        return Drift(reason="only where the engine itself is diffed: a plain one is built beside it")

    def completed(self, report: DiffReport) -> DiffReport:
        """The report with what only the engine's side knows: repeats, equal rows, marks."""
        notes, advice = [*report.notes, *self.notes], list(report.advice)
        if not self.capture.marked:
            notes.append("the engine was built without marks: only its inputs and outputs could be read")
            advice.append(
                "graphkit build marks kernel boundaries, or graphkit diff --rebuild does it for this diff"
            )
        bad = [layer for layer in (self._unsteady(), self._uneven()) if layer is not None]
        if bad:
            report = replace(report, verdict="mismatch", first_bad=report.first_bad or bad[0])
            report = replace(report, layers=(*report.layers, *bad))
        if self._repeats():
            count = max(len(g) for g in self._repeats())
            said = "differed in some" if any(b.cause == "nondeterminism" for b in bad) else "agreed in every"
            notes.append(f"{count} runs on the same inputs {said} bit")
        if self.rows is not None and not any(b.cause == "batch rows differ" for b in bad):
            notes.append("with one row repeated along the batch, every row came out alike")
        return replace(report, notes=tuple(notes), advice=tuple(advice))

    def _repeats(self) -> list[list[CapturedRun]]:
        groups: dict[tuple[int, str], list[CapturedRun]] = {}
        for place, capture in enumerate(self.captures):
            for run in capture.runs:
                groups.setdefault((place, _ITERATION.sub("", run.label)), []).append(run)
        return [group for group in groups.values() if len(group) > 1]

    def _unsteady(self) -> LayerDiff | None:
        """The first kernel whose output is not the same, bit for bit, in runs on the same inputs."""
        for first, *others in self._repeats():
            for place, tensor in enumerate((*first.tensors, *first.outputs.values())):
                for other in others:
                    twin = (*other.tensors, *other.outputs.values())[place : place + 1]
                    if not twin or twin[0].name != tensor.name:
                        break
                    if twin[0].key == tensor.key:
                        continue
                    if not np.array_equal(_bits(tensor.read()), _bits(twin[0].read())):
                        return self._layer(
                            tensor.name, "nondeterminism", f"'{first.label}' and '{other.label}' differ"
                        )
        return None

    def _uneven(self) -> LayerDiff | None:
        """The first kernel that gives equal rows of a batch unequal values."""
        for run in self.rows.runs if self.rows is not None else ():
            found = rows_differ(run)
            if found is not None:
                name, row, apart = found
                return self._layer(
                    name, "batch rows differ", f"row {row} is off by {apart:.2g} of the range of row 0"
                )
        return None

    def _layer(self, tensor: str, cause: str, why: str) -> LayerDiff:
        kernel = next((k for k in self.kernels if any(t.name == tensor for t in k.outputs)), None)
        return LayerDiff(
            kernel=kernel.name if kernel is not None else tensor,
            type=kernel.type if kernel is not None else "",
            onnx_nodes=kernel.onnx_nodes if kernel is not None else (),
            tensor=tensor,
            ok=False,
            cause=cause,
            cause_evidence=why,
        )


def opened(
    model: Path | None, path: Path, kind: str, options: _Options, told: Told | None = None
) -> EngineSide:
    """Load the capture, or capture the engine (``model`` is then needed).

    ``told`` gets the inputs of a run before the engine does.
    """
    if kind == "capture":
        capture = Capture.load(path)
        if model is not None:
            _checked(model, path, capture, options)
        return EngineSide(path, (capture,), options, told=_told(options))
    if model is None:
        raise BadInput(f"{shown(path)}: is an engine; name the model it was built from with --model")
    return _captured(model, path, options, told)


def _checked(model: Path, path: Path, capture: Capture, options: _Options) -> None:
    """The capture must be of an engine of this model."""
    recorded = capture.meta.get("onnx")
    sha256 = str(recorded.get("sha256", "")) if isinstance(recorded, Mapping) else ""
    if not sha256 or options.other_model:
        return
    source = ModelFile.load(model)
    mine = hashlib.sha256(source.data if source.text is None else source.text).hexdigest()
    if mine != sha256:
        Model.from_file(source)  # a model that is cut short is another file too
        raise BadCapture(
            f"{shown(path)}: was captured from an engine of another ONNX file (SHA-256 {sha256[:12]}…, and "
            f"{shown(model)} is {mine[:12]}…); give that one, or go on with --other-model"
        )


def _captured(model: Path, path: Path, options: _Options, told: Told | None) -> EngineSide:
    side = _made(model, path, options, told)
    if side.capture.marked or not options.rebuild:
        return side
    from graphkit.compare.drift import proven, twin

    again = _made(model, twin(model, path, options.trt), options, told)
    note = proven(path, again.kernels, side.kernels)
    return replace(again, path=path, notes=(note,))


def _made(model: Path, path: Path, options: _Options, told: Told | None) -> EngineSide:
    from graphkit.run.capture import capture

    common: dict[str, Any] = {
        "trt": options.trt,
        "seed": options.seed,
        "memory": options.memory,
        "iterations": options.determinism or 1,
        "other_model": options.other_model,
        "progress": options.progress,
        "told": told,
    }
    asked = points(options.shapes)
    if options.inputs:
        found = [capture(model, path, inputs=given, **common) for given in options.inputs]
    elif asked:
        found = [capture(model, path, shapes=shape, sets=options.iterations, **common) for shape in asked]
    else:
        found = [capture(model, path, sets=options.iterations, **common)]
    rows = None
    if options.same_rows:
        with same_rows(found[0].runs[0]) as given:
            rows = capture(model, path, inputs=given, **common | {"iterations": 1})
    return EngineSide(path, tuple(found), options, rows, told=_told(options))


def _told(options: _Options) -> dict[str, Any]:
    """The options that decided the result, for the report."""
    return {
        "inputs": [Path(i).name for i in options.inputs],
        "seed": options.seed,
        "iterations": options.iterations,
        "shapes": [dict(p) for p in points(options.shapes)],
        "reference_precision": options.precision,
        "atol": options.bounds.atol,
        "rtol": options.bounds.rtol,
    }


def _bits(array: Any) -> Any:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
