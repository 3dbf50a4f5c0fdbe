"""A diff's report as one HTML page that needs nothing else: no script, no font, no other file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from graphkit.report import words
from graphkit.report.diffs import DiffReport, LayerDiff, Metrics, most_introduced
from graphkit.report.words import number

__all__ = ["render"]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; display: block; overflow-x: auto }
td, th { border-bottom: 1px solid #ddd; padding: .2rem .7rem; text-align: left; vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
td { overflow-wrap: anywhere } tr.bad td { background: #fde8e8 }
.match { color: #17692d } .mismatch { color: #a11616 }
"""
_COLUMNS = (
    "max abs",
    "mean abs",
    "of range",
    "rms",
    "relative",
    "ULP",
    "cosine",
    "SNR dB",
    "gain",
    "NaN",
    "inf",
)
_Cells = Sequence[str]


def render(report: DiffReport) -> str:
    """The whole report as HTML; every name in it is escaped."""
    parts = [
        f'<h1 class="{report.verdict}">{_text(words.headline(report))}</h1>',
        *_first(report),
        *_ranked(report),
        *_outputs(report),
        *_runs(report),
        *_notes(report),
        *_layers(report),
        *_unmapped(report),
        *_facts("Took (seconds)", {k: f"{v:.2f}" for k, v in report.seconds.items()}),
        *_facts("Versions", report.versions),
        *_facts("Options", {k: str(v) for k, v in report.options.items()}),
    ]
    title = _text(f"{report.verdict}: {report.b} against {report.a}")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _text(value: str) -> str:
    return escape(words.clean(value))


def _first(report: DiffReport) -> Iterator[str]:
    layer = report.first_bad
    if layer is None:
        return
    facts = {
        "kernel": f"{layer.kernel} ({layer.type})" if layer.type else layer.kernel,
        "ONNX nodes": ", ".join(layer.onnx_nodes),
        "tensor": words.tensor_in_words(layer),
        "paired with": words.pairing_in_words(layer),
        "region": ", ".join(layer.region),
        "error": words.error_in_words(layer),
        "cause": layer.cause,
        "evidence": layer.cause_evidence,
    }
    yield from _facts("First bad node" if report.kind == "onnx-onnx" else "First bad kernel", facts)


def _ranked(report: DiffReport) -> Iterator[str]:
    found = most_introduced(report.layers, 20)
    if found:
        yield "<h2>Most introduced error</h2>"
        head = ("kernel", "ONNX nodes", "rms", "of range", "tolerances", "cause")
        yield _table(head, [(_ranked_row(x), x.ok) for x in found], numeric=(2, 3, 4))


def _ranked_row(layer: LayerDiff) -> _Cells:
    own = layer.introduced or Metrics()
    nodes = ", ".join(layer.onnx_nodes)
    return layer.kernel, nodes, number(own.rms_rel), number(own.to_range), number(layer.share), layer.cause


def _outputs(report: DiffReport) -> Iterator[str]:
    if report.outputs:
        yield "<h2>Outputs</h2>"
        head = ("output", "", *_COLUMNS, "tolerance", "remark")
        rows = [
            ((o.name, "ok" if o.ok else "BAD", *_numbers(o.metrics), number(o.tolerance), o.reason), o.ok)
            for o in report.outputs
        ]
        yield _table(head, rows, numeric=range(2, len(head) - 1))


def _runs(report: DiffReport) -> Iterator[str]:
    if report.runs:
        yield "<h2>Runs</h2>"
        rows = []
        for run in report.runs:
            shapes = ", ".join(f"{n} {words.shape(s)}" for n, s in run.shapes.items())
            cells = (run.label, shapes, run.verdict, run.first_bad, run.reason)
            rows.append((cells, run.verdict == "match"))
        yield _table(("run", "shapes", "verdict", "first bad", "remark"), rows)


def _notes(report: DiffReport) -> Iterator[str]:
    facts = {"coverage": words.coverage_in_words(report.coverage)} if report.coverage.captured else {}
    if report.drift.checked or report.drift.reason:
        facts["fusion drift"] = words.drift_in_words(report.drift)
    yield from _facts("Coverage", facts)
    for title, lines in (("Notes", report.notes), ("What to do next", report.advice)):
        if lines:
            yield f"<h2>{title}</h2>\n<ul>" + "".join(f"<li>{_text(line)}</li>" for line in lines) + "</ul>"


def _layers(report: DiffReport) -> Iterator[str]:
    if not report.layers:
        return
    yield f"<h2>All {words.count(len(report.layers), 'tensor')}, in order</h2>"
    head = ("kernel", "tensor", "paired with", "error", *_COLUMNS)
    rows = []
    for layer in report.layers:
        place = (layer.kernel, words.tensor_in_words(layer), words.pairing_in_words(layer))
        for kind, found in (("introduced", layer.introduced), ("accumulated", layer.accumulated)):
            if found is not None or kind == "accumulated":
                rows.append(((*place, kind, *_numbers(found)), layer.ok))
    yield _table(head, rows, numeric=range(4, len(head)))


def _numbers(m: Metrics | None) -> _Cells:
    if m is None:
        return ("-",) * len(_COLUMNS)
    numbers = (m.max_abs, m.mean_abs, m.to_range, m.rms_rel, m.max_rel, m.ulp)
    both = [f"{ours} / {theirs}" if ours or theirs else "0" for ours, theirs in (m.nan, m.inf)]
    return (*(number(n) for n in numbers), f"{m.cosine:.6f}", number(m.snr_db), f"{m.gain:.6g}", *both)


def _unmapped(report: DiffReport) -> Iterator[str]:
    if report.unmapped:
        yield "<h2>Tensors with no counterpart</h2>"
        rows = [
            ((t.tensor, t.kernel, f"{t.dtype} {words.shape(t.dims)}", t.reason), True)
            for t in report.unmapped
        ]
        yield _table(("tensor", "kernel", "what", "why"), rows)


def _facts(title: str, facts: Mapping[str, str]) -> Iterator[str]:
    rows = [((name, text), True) for name, text in facts.items() if text]
    if rows:
        yield f"<h2>{_text(title)}</h2>"
        yield _table((), rows)


def _table(head: _Cells, rows: Sequence[tuple[_Cells, bool]], numeric: Sequence[int] = ()) -> str:
    """An HTML table of (cells, whether the row is fine); columns in ``numeric`` stand to the right."""

    def line(cells: _Cells, tag: str, fine: bool = True) -> str:
        numbers = dict.fromkeys(numeric, ' class="n"')
        made = "".join(f"<{tag}{numbers.get(n, '')}>{_text(c)}</{tag}>" for n, c in enumerate(cells))
        return f"<tr>{made}</tr>" if fine else f'<tr class="bad">{made}</tr>'

    top = f"<thead>{line(head, 'th')}</thead>\n" if head else ""
    body = "\n".join(line(cells, "td", fine) for cells, fine in rows)
    return f"<table>\n{top}<tbody>\n{body}\n</tbody>\n</table>"
