"""A diff's report as JUnit XML: a test case for each output and for each kernel, as CI systems show them.

The format is the Apache Ant one (the schema at github.com/windyroad/JUnit-Schema), which Jenkins' own
accepts as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

from graphkit.report import words
from graphkit.report.diffs import DiffReport, LayerDiff, OutputDiff, Unmapped

__all__ = ["render"]

# What XML 1.0 has no way to write, escaped or not: https://www.w3.org/TR/xml/#charsets
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MOST = 20  # lines of a failure's body


def render(report: DiffReport, *, when: datetime | None = None) -> str:
    """The report as JUnit XML; ``when`` (UTC) is what its time stamps say: now, if it is not given.

    A kernel with several tensors or calls is one test case: it fails when any of them is accused. Tensors
    with no counterpart are skipped test cases. Characters that XML lacks are left out.
    """
    stamp = (when or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S")
    root = ET.Element("testsuites")
    outputs = [_output(o) for o in report.outputs]
    kernels = [_kernel(name, layers) for name, layers in _by_kernel(report.layers).items()]
    skipped = [_skipped(t) for t in report.unmapped]
    seconds = report.seconds.get("total", sum(report.seconds.values()))
    for number, (name, cases) in enumerate((("outputs", outputs), ("kernels", kernels + skipped))):
        root.append(_suite(report, name, number, cases, stamp, seconds if number == 0 else 0.0))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _by_kernel(layers: Iterable[LayerDiff]) -> dict[str, list[LayerDiff]]:
    found: dict[str, list[LayerDiff]] = {}
    for layer in layers:
        found.setdefault(layer.kernel, []).append(layer)
    return found


def _suite(
    report: DiffReport, name: str, number: int, cases: list[ET.Element], stamp: str, seconds: float
) -> ET.Element:
    failures = sum(1 for case in cases if case.find("failure") is not None)
    suite = ET.Element(
        "testsuite",
        name=name,
        package="graphkit.diff",
        id=str(number),
        timestamp=stamp,
        hostname="localhost",  # the name of a machine is nobody's business
        tests=str(len(cases)),
        failures=str(failures),
        errors="0",
        skipped=str(sum(1 for case in cases if case.find("skipped") is not None)),
        time=f"{seconds:.3f}",
    )
    properties = ET.SubElement(suite, "properties")
    facts = {"a": report.a, "b": report.b, "kind": report.kind, "verdict": report.verdict}
    for key, value in {**facts, **{f"version {k}": v for k, v in report.versions.items()}}.items():
        ET.SubElement(properties, "property", name=_text(key) or "?", value=_text(value))
    suite.extend(cases)
    said = [words.headline(report), *report.notes, *report.advice] if number == 0 else []
    ET.SubElement(suite, "system-out").text = _text("\n".join(said))
    ET.SubElement(suite, "system-err").text = ""
    return suite


def _case(name: str, group: str) -> ET.Element:
    return ET.Element("testcase", name=_text(name) or "?", classname=f"graphkit.{group}", time="0")


def _output(output: OutputDiff) -> ET.Element:
    case = _case(output.name, "output")
    if not output.ok:
        _fail(case, "OutputMismatch", words.output_in_words(output), [])
    return case


def _kernel(name: str, layers: list[LayerDiff]) -> ET.Element:
    case = _case(name, "kernel")
    bad = [layer for layer in layers if not layer.ok]
    if bad:
        first = bad[0]
        cause = f": {first.cause}" if first.cause else ""
        _fail(case, "KernelMismatch", f"{words.error_in_words(first)}{cause}", [_told(x) for x in bad])
    return case


def _told(layer: LayerDiff) -> str:
    nodes = f"; ONNX nodes {words.listed(layer.onnx_nodes)}" if layer.onnx_nodes else ""
    why = f"; {layer.cause_evidence}" if layer.cause_evidence else ""
    paired = words.pairing_in_words(layer)
    return f"{words.tensor_in_words(layer)} = {paired}: {words.error_in_words(layer)}{nodes}{why}"


def _skipped(tensor: Unmapped) -> ET.Element:
    case = _case(f"{tensor.kernel or 'no kernel'}: {tensor.tensor}", "unpaired")
    ET.SubElement(case, "skipped", message=_text(tensor.reason or "no counterpart"))
    return case


def _fail(case: ET.Element, kind: str, message: str, body: list[str]) -> None:
    failure = ET.SubElement(case, "failure", type=kind, message=_text(message))
    more = [f"and {len(body) - _MOST} more"] if len(body) > _MOST else []
    failure.text = _text("\n".join([*body[:_MOST], *more]) or message)


def _text(value: str) -> str:
    return _NOT_XML.sub("", value)
