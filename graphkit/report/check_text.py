"""A check's report for a person: a table of verdicts, and under it what was found, a line for each kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graphkit.report.checks import Finding, ModelCheck, Report
from graphkit.report.checks import kinds as group
from graphkit.report.words import clean, count

__all__ = ["render"]

_KINDS = 12  # of findings a model, without verbose
_RAW = 300


def render(report: Report, *, verbose: bool = False) -> str:
    """The report as text, without colours; ``verbose`` lists every finding, with TensorRT's own words."""
    lines = list(_table(report))
    for model in report.models:
        told = list(_model(model, verbose))
        if told:
            lines += ["", model.path, *told]
    return "\n".join(clean(line) for line in [*lines, "", _summary(report)])


def _table(report: Report) -> Iterator[str]:
    targets = report.targets
    rows = [["model", *targets, "errors", "warnings"]]
    for model in report.models:
        open_ = [f for f in model.findings if not f.accepted]
        counts = [str(sum(f.severity == s for f in open_)) for s in ("error", "warning")]
        rows.append([clean(model.path), *(model.verdicts.get(t, "-") for t in targets), *counts])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _model(model: ModelCheck, verbose: bool) -> Iterator[str]:
    shown = [f for f in model.findings if verbose or not f.accepted]
    kinds = [[f] for f in shown] if verbose else group(shown)
    for same in kinds if verbose else kinds[:_KINDS]:
        yield from _finding(same, model, verbose)
    if not verbose and len(kinds) > _KINDS:
        yield f"  {len(kinds) - _KINDS} more kinds of finding; --verbose lists them"
    if model.fixed is not None:
        passes = " ".join(f"--pass {p}" for p in model.fixed.passes)
        done = f"wrote {model.fixed.written}" if model.fixed.written else f"not written: {model.fixed.reason}"
        yield f"  fix: {passes + ': ' if passes else ''}{done}"


def _finding(same: Sequence[Finding], model: ModelCheck, verbose: bool) -> Iterator[str]:
    first = same[0]
    others = f" (and {len(same) - 1} more)" if len(same) > 1 else ""
    where = f"{first.where}{others}: " if first.where else ""
    only = len(first.targets) < len(model.verdicts) and first.targets
    at = f" [{', '.join(first.targets)}]" if only else ""
    accepted = " (accepted)" if first.accepted else ""
    yield f"  {first.severity} {first.rule}{at}: {where}{first.message}{accepted}"
    if first.fix:
        yield f"    mend: --pass {first.fix}"
    if first.repro:
        yield f"    repro: {first.repro}"
    if verbose and first.raw:
        yield f"    TensorRT: {' '.join(first.raw.split())[:_RAW]}"


def _summary(report: Report) -> str:
    counts = report.counts()
    found = ", ".join(count(counts[s], s) for s in ("error", "warning", "note") if counts[s])
    accepted = sum(f.accepted for f in report.findings)
    more = f" ({accepted} accepted)" if accepted else ""
    judge = f", by {report.runtime}" if report.runtime else ", by rules alone"
    models = count(len(report.models), "model")
    return f"{'ok' if report.ok else 'NOT OK'}: {models}, {found or 'no findings'}{more}{judge}"
