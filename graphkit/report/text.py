"""A rewrite's report for a person: one line a pass, the refusals under it, and whether the numbers held."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from graphkit.report.records import PassReport, Refusal, RewriteReport, TensorDifference, Verification

__all__ = ["render"]

_REFUSALS = 5
_TYPES = 6
_SHAPES = 2
_LONG = 80


def render(report: RewriteReport, *, verbose: bool = False) -> str:
    """The report as text, without colours; ``verbose`` lists every refusal and every type of node.

    Why nothing was written is left to the error that says so: such a report ends with its passes.
    """
    lines = [*_table(report.passes), *_details(report.passes, verbose)]
    if not report.written and report.output is not None:
        return "\n".join(lines)
    if lines:
        lines.append("")
    other = report.written and _is_text(report.input) != _is_text(report.output or "")
    if other and report.verification.status == "unchanged":
        lines.append("nothing changed: the output is the input, in another format")
    else:
        lines.append(_verification(report.verification))
    if report.written:
        unproven = ", unproven" if report.verification.status == "not-run" else ""
        lines.append(f"wrote {report.output}{unproven}")
    return "\n".join(lines)


def _is_text(path: str) -> bool:
    """Whether a model of that name is written as text."""
    return path.lower().endswith((".onnxtxt", ".onnxtext"))


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
        changes = _changes(report.nodes_before, report.nodes_after, verbose)
        if not (changes or report.refusals or report.notes):
            continue
        yield ""
        yield f"{report.spec}: {changes}" if changes else f"{report.spec}:"
        yield from (f"  {line}" for line in _refusals(report.refusals, verbose))
        yield from (f"  note: {note}" for note in report.notes)


def _refusals(refusals: Sequence[Refusal], verbose: bool) -> Iterator[str]:
    """One line for each operator and reason, such as ``refused 57 Mul: opset 17 has no Swish``."""
    if verbose:
        yield from (f"refused {refusal}" for refusal in refusals)
        return
    groups: dict[tuple[str, str], list[Refusal]] = {}
    for refusal in refusals:
        groups.setdefault((refusal.op, refusal.reason), []).append(refusal)
    for (op, reason), group in list(groups.items())[:_REFUSALS]:
        yield f"refused {group[0]}" if len(group) == 1 else f"refused {len(group)} {op or 'places'}: {reason}"
    left = sum(len(g) for g in list(groups.values())[_REFUSALS:])
    if left:
        yield f"and {_count(left, 'more refusal')}; -v or the JSON report lists them all"


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _changes(before: Mapping[str, int], after: Mapping[str, int], verbose: bool) -> str:
    """``-57 Swish, +57 Mul, +57 Sigmoid``."""
    change = Counter(after)
    change.subtract(before)
    found = sorted(((n, op) for op, n in change.items() if n), key=lambda c: (c[0] > 0, -abs(c[0]), c[1]))
    shown = len(found) if verbose else _TYPES
    text = ", ".join(f"{n:+d} {op}" for n, op in found[:shown])
    left = len(found) - shown
    return text + (f" and {_count(left, 'more type')}" if left > 0 else "")


def _verification(v: Verification) -> str:
    """One line: what was run and how far apart the two models are, or why that is not known."""
    if v.status == "held":
        line = f"numbers held: {_count(v.compared, 'tensor')} compared in {_runs(v)}"
        line += f" by {v.runner}" if v.runner else ""
        return line + (f"; largest error {_error(v.worst)}" if v.worst is not None else "") + _because(v)
    if v.status == "differs":
        return f"numbers differ{f' after {v.culprit}' if v.culprit else ''}: {differences(v)}"
    if v.status == "not-run":
        return f"NOT VERIFIED: {v.reason}"
    if v.status == "not-asked":
        return "numbers not verified: --no-verify" + _because(v)
    return "nothing changed: the output is the input, byte for byte"


def _runs(v: Verification) -> str:
    """``2 runs (images 1x3x640x640; images 1x3x320x320)``: the shapes of the inputs, a few of them."""
    shapes = list(dict.fromkeys(", ".join(f"{n} {_shape(s)}" for n, s in run.items()) for run in v.runs))
    shown = [s if len(s) <= _LONG else f"{s[:_LONG]}…" for s in shapes[:_SHAPES] if s]
    more = ["…"] if len(shapes) > _SHAPES else []
    return _count(len(v.runs), "run") + (f" ({'; '.join([*shown, *more])})" if shown else "")


def _shape(dims: Sequence[int]) -> str:
    return "x".join(map(str, dims)) or "scalar"


def _because(v: Verification) -> str:
    return f" ({v.reason})" if v.reason else ""


def _error(found: TensorDifference) -> str:
    return f"{found.relative:.1e} of its range in '{found.tensor}'" if found.relative else "0"


def differences(v: Verification) -> str:
    """Where two models part: the first tensor in which they differ, and the one where they do most."""
    first, worst = v.first or v.worst, v.worst
    if first is None:
        return v.reason
    text = f"first differs at {_where(first)}"
    if worst is not None and worst.tensor != first.tensor:
        text += f", worst at {_where(worst)}"
    return text


def _where(found: TensorDifference) -> str:
    off = found.reason or f"off by {found.relative:.2g} of its range, tolerance {found.tolerance:.1g}"
    return f"'{found.tensor}' ({off})"
