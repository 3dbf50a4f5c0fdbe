"""Numbers, shapes and layers of a diff in words: the same in the terminal, in JUnit and in HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphkit.report.diffs import Coverage, DiffReport, Drift, LayerDiff, Metrics, OutputDiff

__all__ = [
    "clean",
    "count",
    "coverage_in_words",
    "drift_in_words",
    "error_in_words",
    "headline",
    "listed",
    "number",
    "output_in_words",
    "pairing_in_words",
    "shape",
    "tensor_in_words",
]


def clean(text: str) -> str:
    """Text on one line, without what a terminal would act on: names come from anybody's model."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def number(value: float | None) -> str:
    """Two digits, short: ``0``, ``0.35``, ``1.2e-04``, ``inf``; ``-`` for None."""
    if value is None:
        return "-"
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    return f"{value:.2g}" if 0.01 <= abs(value) < 100 else f"{value:.1e}"


def count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def shape(dims: Sequence[int]) -> str:
    return "x".join(map(str, dims)) or "scalar"


def listed(names: Sequence[str], most: int = 4) -> str:
    """The first few names, cleaned, and how many more there are."""
    shown = ", ".join(clean(name) for name in names[:most])
    more = len(names) - most
    return f"{shown} and {more} more" if more > 0 else shown


def headline(report: DiffReport) -> str:
    """The verdict in one line."""
    a, b = clean(report.a), clean(report.b)
    if report.verdict == "match":
        return f"MATCH: {b} computes what {a} does"
    wrong = [clean(o.name) for o in report.outputs if not o.ok]
    said = []
    if report.first_bad is not None:
        said.append(f"the first bad {_unit(report)} is {clean(report.first_bad.kernel)}")
    if wrong:
        said.append(f"{count(len(wrong), 'output')} of {len(report.outputs)} over tolerance: {listed(wrong)}")
    return f"MISMATCH: {b} against {a}{': ' if said else ''}{'; '.join(said)}"


def _unit(report: DiffReport) -> str:
    return "node" if report.kind == "onnx-onnx" else "kernel"


def tensor_in_words(layer: LayerDiff) -> str:
    """``'__mye1' float32 1x16x64x64, call 3``."""
    call = f", call {layer.call}" if layer.call else ""
    return f"'{clean(layer.tensor)}' {layer.dtype} {shape(layer.dims)}{call}"


def pairing_in_words(layer: LayerDiff) -> str:
    """What it is paired with, in which form, and how surely."""
    if not layer.paired:
        return "nothing"
    form = "" if layer.form == "same" else f", {layer.form}"
    why = f": {clean(layer.evidence)}" if layer.evidence else ""
    return f"{listed(layer.paired)} (confidence {layer.confidence:.2f}{form}{why})"


def error_in_words(layer: LayerDiff) -> str:
    """``introduces 1.2e-02 of the range, rms 0.99%, 33 times its tolerance``; else what has accumulated."""
    found, verb = layer.introduced, "introduces"
    if found is None:
        found, verb = layer.accumulated, "is off by"
    if found is None:
        return "not measured"
    over = f", {number(layer.share)} times its tolerance" if layer.share is not None else ""
    return f"{verb} {metrics_in_words(found)}{over}"


def metrics_in_words(found: Metrics) -> str:
    """The largest error over the range, the rms error, a gain worth saying, NaN and infinities."""
    said = [f"{number(found.to_range)} of the range", f"rms {number(found.rms_rel)}"]
    if math.isfinite(found.gain) and abs(found.gain - 1) > max(found.rms_rel / 2, 1e-6):
        said.append(f"best fit by a factor of {found.gain:.4g}")
    for name, (ours, theirs) in (("NaN", found.nan), ("inf", found.inf)):
        if ours or theirs:
            said.append(f"{theirs} {name} for {ours}")
    return ", ".join(said)


def output_in_words(output: OutputDiff) -> str:
    """One line on an output: its error, its bound, and the reason if there is one."""
    said = [] if output.metrics is None else [metrics_in_words(output.metrics)]
    if output.reason:
        said.append(clean(output.reason))
    elif output.tolerance is not None:
        said.append(f"tolerance {number(output.tolerance)}")
    return "; ".join(said) or "not compared"


def coverage_in_words(coverage: Coverage) -> str:
    """``65 of 70 tensors paired (93%), 4 copies left out``."""
    asked = coverage.captured - coverage.copies
    text = f"{coverage.paired} of {count(asked, 'tensor')} paired ({coverage.share:.0%})"
    return text + (
        f", {count(coverage.copies, 'copy').replace('copys', 'copies')} left out" if coverage.copies else ""
    )


def drift_in_words(drift: Drift) -> str:
    """``0 of 128 kernels differ from a plain build's``, or why that is not known."""
    if not drift.checked:
        return f"not checked: {clean(drift.reason)}" if drift.reason else "not checked"
    text = f"{len(drift.different)} of {count(drift.kernels, 'kernel')} differ from a plain build's"
    return text + (f": {listed(drift.different)}" if drift.different else "")
