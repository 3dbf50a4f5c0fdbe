"""A diff's report for a person at a terminal: the verdict, what is to blame, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graphkit.report import words
from graphkit.report.diffs import DiffReport, LayerDiff, most_introduced
from graphkit.report.words import clean, number

__all__ = ["render"]

_WIDTH = 110
_NARROWEST = 8  # columns that a shortened cell keeps
_UNMAPPED = 5
_OUTPUTS = 8
_Rows = Sequence[Sequence[str]]


def render(report: DiffReport, *, verbose: bool = False, top: int = 10, width: int = _WIDTH) -> str:
    """The report as plain text; tables fit in ``width`` columns, and ``top`` is how many layers they list.

    ``verbose`` lists every layer, output and unpaired tensor. The same report gives the same text.
    """
    lines = [words.headline(report)]
    if report.first_bad is not None:
        lines += ["", f"first bad {_unit(report)}", *_first(report.first_bad)]
    lines += _section(_layers(report, None if verbose else top, width))
    lines += _section(_outputs(report, verbose, width))
    lines += _section(_runs(report))
    lines += _section(_facts(report))
    lines += _section(_unmapped(report, verbose))
    lines += _section([f"note: {clean(n)}" for n in report.notes])
    lines += _section([f"next: {clean(n)}" for n in report.advice])
    return "\n".join(line.rstrip() for line in lines)


def _unit(report: DiffReport) -> str:
    return "node" if report.kind == "onnx-onnx" else "kernel"


def _section(lines: Sequence[str] | Iterator[str]) -> list[str]:
    found = list(lines)
    return ["", *found] if found else []


def _first(layer: LayerDiff) -> Iterator[str]:
    """One fact a line about the first bad kernel."""
    facts = {
        "kernel": f"{clean(layer.kernel)} ({layer.type})" if layer.type else clean(layer.kernel),
        "ONNX nodes": words.listed(layer.onnx_nodes, 6),
        "tensor": words.tensor_in_words(layer),
        "paired with": words.pairing_in_words(layer),
        "region": words.listed(layer.region, 6) if len(layer.region) > 1 else "",
        "error": words.error_in_words(layer),
        "cause": clean(layer.cause),
        "evidence": clean(layer.cause_evidence),
    }
    if layer.onnx_nodes == (layer.kernel,):
        facts["ONNX nodes"] = ""
    yield from (f"  {name:<12}{text}" for name, text in facts.items() if text)


def _layers(report: DiffReport, top: int | None, width: int) -> Iterator[str]:
    """The layers that introduce most; when nothing is measured apart, those that are furthest off."""
    ranked = most_introduced(report.layers)
    found = [x for x in ranked if x.introduced is not None and (x.introduced.different or not x.ok)][:top]
    title = "most introduced error"
    if not found and ranked:
        yield f"none of {words.count(len(ranked), 'layer')} introduces any error"
        return
    if not found:
        title = "largest error"
        found = sorted((x for x in report.layers if _is_off(x)), key=_accumulated)[:top]
    if not found:
        return
    total = len(report.layers)
    yield f"{title} ({len(found)} of {words.count(total, 'layer')})"
    head = (_unit(report), "ONNX nodes", "introduced", "of range", "tolerances", "accumulated", "cause")
    yield from _table([head, *(_row(x) for x in found)], width, shrink=(0, 1, 6))


def _is_off(layer: LayerDiff) -> bool:
    return layer.accumulated is not None and (layer.accumulated.different > 0 or not layer.ok)


def _accumulated(layer: LayerDiff) -> tuple[bool, float]:
    found = layer.accumulated.to_range if layer.accumulated is not None else 0.0
    return layer.ok, -found if found == found else float("-inf")


def _row(layer: LayerDiff) -> tuple[str, ...]:
    own, whole = layer.introduced, layer.accumulated
    return (
        clean(layer.kernel) + ("" if layer.ok else " !"),
        "" if layer.onnx_nodes == (layer.kernel,) else words.listed(layer.onnx_nodes),
        number(None if own is None else own.rms_rel),
        number(None if own is None else own.to_range),
        number(layer.share),
        number(None if whole is None else whole.rms_rel),
        clean(layer.cause),
    )


def _outputs(report: DiffReport, verbose: bool, width: int) -> Iterator[str]:
    found = sorted(report.outputs, key=lambda o: o.ok)[: None if verbose else _OUTPUTS]
    if not found:
        return
    head = ("output", "", "max abs", "of range", "rms", "cosine", "tolerance", "remark")
    rows = []
    for output in found:
        m = output.metrics
        numbers = (None,) * 4 if m is None else (m.max_abs, m.to_range, m.rms_rel, None)
        cosine = "-" if m is None else f"{m.cosine:.6f}"
        rows.append((
            clean(output.name), "ok" if output.ok else "BAD", *(number(n) for n in numbers[:3]), cosine,
            number(output.tolerance), clean(output.reason),
        ))  # fmt: skip
    yield from _table([head, *rows], width, shrink=(0, 7))
    left = len(report.outputs) - len(found)
    if left:
        yield f"and {words.count(left, 'more output')}; -v lists them all"


def _runs(report: DiffReport) -> Iterator[str]:
    """One line a set of inputs, when there are several."""
    if len(report.runs) < 2:
        return
    for run in report.runs:
        shapes = ", ".join(f"{clean(n)} {words.shape(s)}" for n, s in run.shapes.items())
        bad = f", first bad {clean(run.first_bad)}" if run.first_bad else ""
        why = f" ({clean(run.reason)})" if run.reason else ""
        yield f"run {clean(run.label)}: {run.verdict}{bad}{why}{f'; {shapes}' if shapes else ''}"


def _facts(report: DiffReport) -> Iterator[str]:
    if report.coverage.captured:
        yield f"coverage: {words.coverage_in_words(report.coverage)}"
    if report.drift.checked or report.drift.reason:
        yield f"fusion drift: {words.drift_in_words(report.drift)}"
    if report.seconds:
        total = report.seconds.get("total", sum(report.seconds.values()))
        parts = ", ".join(f"{clean(k)} {v:.1f}" for k, v in report.seconds.items() if k != "total")
        yield f"took {total:.1f} s" + (f" ({parts})" if parts else "")


def _unmapped(report: DiffReport, verbose: bool) -> Iterator[str]:
    """Tensors with no counterpart: a few, or all of them."""
    shown = report.unmapped if verbose else report.unmapped[:_UNMAPPED]
    if not shown:
        return
    yield f"{words.count(len(report.unmapped), 'tensor')} with no counterpart (not compared, and no error)"
    for tensor in shown:
        where = f" of {clean(tensor.kernel)}" if tensor.kernel else ""
        why = f": {clean(tensor.reason)}" if tensor.reason else ""
        yield f"  '{clean(tensor.tensor)}' {tensor.dtype} {words.shape(tensor.dims)}{where}{why}"
    left = len(report.unmapped) - len(shown)
    if left:
        yield f"  and {left} more; -v or a report lists them all"


def _table(rows: _Rows, width: int, shrink: Sequence[int]) -> Iterator[str]:
    """Columns side by side, the first row their names; those in ``shrink`` give way until all fits.

    Empty columns are left out. Columns in ``shrink`` are text, to the left; the others to the right.
    """
    keep = [n for n in range(len(rows[0])) if any(row[n] not in ("", "-") for row in rows[1:])]
    widths = {n: max(len(row[n]) for row in rows) for n in keep}
    over = sum(widths.values()) + 2 * len(keep) - width
    while over > 0:
        widest = max((n for n in keep if n in shrink), key=lambda n: widths[n], default=None)
        if widest is None or widths[widest] <= _NARROWEST:
            break
        widths[widest] -= 1
        over -= 1
    for row in rows:
        cells = [_cell(row[n], widths[n], n in shrink) for n in keep]
        yield "  " + "  ".join(cells).rstrip()


def _cell(text: str, width: int, left: bool) -> str:
    """Text in so many columns; what is too long loses its middle, since both ends of a name tell."""
    if len(text) > width:
        head = (width - 1) // 2
        text = f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"
    return text.ljust(width) if left else text.rjust(width)
