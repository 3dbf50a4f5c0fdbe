"""A rewrite's report for a person: one line a pass, the refusals under it, and whether the numbers held."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from graphkit.report.records import PassReport, RewriteReport, TensorDifference, Verification

__all__ = ["render"]

_REFUSALS = 5
_TYPES = 6


def render(report: RewriteReport, *, verbose: bool = False) -> str:
    """The report as text, without colours; ``verbose`` lists every refusal."""
    lines = [*_table(report.passes), *_details(report.passes, verbose)]
    if lines:
        lines.append("")
    lines.append(_verification(report.verification))
    if report.written:
        lines.append(f"wrote {report.output}")
    elif report.output is not None:
        lines.append("nothing was written")
    return "\n".join(lines)


def _table(passes: tuple[PassReport, ...]) -> list[str]:
    if not passes:
        return []
    head = ("pass", "rewrites", "refusals", "nodes", "seconds")
    rows = [head, *(_row(p) for p in passes)]
    widths = [max(len(r[i]) for r in rows) for i in range(len(head))]
    left = (0, 3)
    return [
        "  ".join(_pad(c, w, i in left) for i, (c, w) in enumerate(zip(r, widths, strict=True))).rstrip()
        for r in rows
    ]


def _pad(cell: str, width: int, left: bool) -> str:
    return cell.ljust(width) if left else cell.rjust(width)


def _row(report: PassReport) -> tuple[str, ...]:
    before, after = sum(report.nodes_before.values()), sum(report.nodes_after.values())
    nodes = f"{before} -> {after}" if before != after else f"{before}"
    return report.spec, str(report.rewrites), str(len(report.refusals)), nodes, f"{report.seconds:.2f}"


def _details(passes: tuple[PassReport, ...], verbose: bool) -> Iterator[str]:
    for report in passes:
        changes = _changes(report.nodes_before, report.nodes_after)
        shown = report.refusals if verbose else report.refusals[:_REFUSALS]
        if not (changes or shown or report.notes):
            continue
        yield ""
        yield f"{report.spec}: {changes}" if changes else f"{report.spec}:"
        yield from (f"  refused {refusal}" for refusal in shown)
        left = len(report.refusals) - len(shown)
        if left:
            yield f"  and {left} more refusals; -v or the JSON report lists them all"
        yield from (f"  note: {note}" for note in report.notes)


def _changes(before: Mapping[str, int], after: Mapping[str, int]) -> str:
    """``-57 Swish, +57 Mul, +57 Sigmoid``."""
    change = Counter(after)
    change.subtract(before)
    found = sorted(((n, op) for op, n in change.items() if n), key=lambda c: (c[0] > 0, -abs(c[0]), c[1]))
    text = ", ".join(f"{n:+d} {op}" for n, op in found[:_TYPES])
    return text + (f" and {len(found) - _TYPES} more types" if len(found) > _TYPES else "")


def _verification(v: Verification) -> str:
    """One line: what was run and how far apart the two models are, or why that is not known."""
    if v.status == "held":
        runs = f"{len(v.runs)} run{'s' if len(v.runs) != 1 else ''}"
        line = f"numbers held: {v.compared} tensors compared in {runs}"
        line += f" by {v.runner}" if v.runner else ""
        return line + (f"; largest error {_error(v.worst)}" if v.worst is not None else "") + _because(v)
    if v.status == "differs":
        return f"numbers differ{f' after {v.culprit}' if v.culprit else ''}" + (
            f": {difference(v.first)}" if v.first is not None else _because(v)
        )
    if v.status == "not-run":
        return f"numbers not verified: {v.reason}"
    if v.status == "not-asked":
        return "numbers not verified: --no-verify" + (f" ({v.reason})" if v.reason else "")
    return "nothing changed: the output is the input, byte for byte"


def _because(v: Verification) -> str:
    return f" ({v.reason})" if v.reason else ""


def _error(found: TensorDifference) -> str:
    return f"{found.relative:.1e} of its range in '{found.tensor}'" if found.relative else "0"


def difference(found: TensorDifference) -> str:
    """How one tensor differs, in a few words."""
    if found.reason:
        return f"tensor '{found.tensor}' {found.reason}"
    off = f"is off by {found.relative:.2g} of its range (tolerance {found.tolerance:.1g})"
    return f"tensor '{found.tensor}' {off}"
