"""A check's report for other tools: SARIF 2.1.0, JUnit XML, and annotations of GitHub Actions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as ET

from graphkit.report.checks import Finding, ModelCheck, Report, kinds
from graphkit.report.words import clean

__all__ = ["github", "junit", "sarif"]

# https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
_SARIF = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"error": "error", "warning": "warning", "note": "note"}
# What XML 1.0 has no way to write, escaped or not: https://www.w3.org/TR/xml/#charsets
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def sarif(report: Report, rules: Mapping[str, str] | None = None) -> str:
    """The report as SARIF 2.1.0: a result for each finding, those accepted with a suppression.

    ``rules`` says in a line what each rule finds; code scanning shows it.
    """
    names = list(dict.fromkeys(f.rule for f in report.findings))
    driver: dict[str, Any] = {
        "name": "graphkit",
        "version": report.versions.get("graphkit", "0"),
        "rules": [_rule(name, (rules or {}).get(name, "")) for name in names],
    }
    results = [_result(model, f, names.index(f.rule)) for model in report.models for f in model.findings]
    run = {"tool": {"driver": driver}, "results": results, "columnKind": "unicodeCodePoints"}
    tree = {"$schema": _SARIF, "version": "2.1.0", "runs": [run]}
    text = json.dumps(tree, indent=2, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "replace").decode()  # a file's name may be no Unicode


def _rule(name: str, said: str) -> dict[str, Any]:
    return {"id": name, **({"shortDescription": {"text": said}} if said else {})}


def _result(model: ModelCheck, finding: Finding, index: int) -> dict[str, Any]:
    uri = quote(PurePath(model.path).as_posix(), errors="replace")
    # A model has no lines, but GitHub's code scanning asks for one.
    physical = {"artifactLocation": {"uri": uri}, "region": {"startLine": 1}}
    location: dict[str, Any] = {"physicalLocation": physical}
    name = finding.node or finding.tensor
    if name:
        whole = "/".join([*finding.stack, name])
        kind = "member" if finding.node else "variable"
        location["logicalLocations"] = [{"name": name, "fullyQualifiedName": whole, "kind": kind}]
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": _LEVELS[finding.severity],
        "message": {"text": _sentence(finding)},
        "locations": [location],
        "partialFingerprints": {"graphkit/v1": finding.fingerprint},
    }
    if finding.accepted:
        result["suppressions"] = [{"kind": "external", "justification": "in the baseline"}]
    properties = {"fix": finding.fix, "targets": list(finding.targets), "repro": finding.repro}
    kept = {k: v for k, v in properties.items() if v}
    return result | ({"properties": kept} if kept else {})


def _sentence(finding: Finding, count: int = 1) -> str:
    """What is wrong, where (and in how many places), and what to do, on one line."""
    others = f" (and {count - 1} more)" if count > 1 else ""
    where = f"{finding.where}{others}: " if finding.where else ""
    advice = f"; mend: --pass {finding.fix}" if finding.fix else ""
    at = f" [{', '.join(finding.targets)}]" if finding.targets else ""
    return " ".join(f"{where}{finding.message}{at}{advice}".split())


def junit(report: Report) -> str:
    """The report as JUnit XML: a suite for each model, a test case for each target and each finding.

    The format is the Apache Ant one, as Jenkins and GitLab read it. Findings less grave than ``fail_on``, and
    accepted ones, are skipped test cases.
    """
    root = ET.Element("testsuites")
    for number, model in enumerate(report.models):
        root.append(_suite(report, model, number))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(report: Report, model: ModelCheck, number: int) -> ET.Element:
    cases = [*_verdicts(report, model), *_findings(report, model)]
    failures = sum(case.find("failure") is not None for case in cases)
    skipped = sum(case.find("skipped") is not None for case in cases)
    suite = ET.Element(
        "testsuite",
        name=_xml(model.path),
        package="graphkit.check",
        id=str(number),
        timestamp="1970-01-01T00:00:00",  # a report of one model is the same each time
        hostname="localhost",
        tests=str(len(cases)),
        failures=str(failures),
        errors="0",
        skipped=str(skipped),
        time=f"{model.seconds:.3f}",
    )
    ET.SubElement(suite, "properties")
    suite.extend(cases)
    ET.SubElement(suite, "system-out")
    ET.SubElement(suite, "system-err")
    return suite


def _case(model: ModelCheck, name: str) -> ET.Element:
    return ET.Element("testcase", name=_xml(name), classname=_xml(model.path), time="0.000")


def _verdicts(report: Report, model: ModelCheck) -> Iterator[ET.Element]:
    """Whether it builds for each target; why not is told by the findings."""
    for target, verdict in model.verdicts.items():
        case = _case(model, f"builds for {target}")
        if verdict in ("needs-gpu", "needs-profile"):
            ET.SubElement(case, "skipped")
        elif verdict != "ok" and model.fails(report.fail_on):
            ET.SubElement(case, "failure", type=verdict, message=verdict).text = verdict
        yield case


def _findings(report: Report, model: ModelCheck) -> Iterator[ET.Element]:
    for finding in model.findings:
        case = _case(model, f"{finding.rule}: {finding.where or finding.message}")
        if ModelCheck("", findings=(finding,)).fails(report.fail_on):
            told = _xml(_sentence(finding))
            ET.SubElement(case, "failure", type=finding.rule, message=told).text = told
        else:
            ET.SubElement(case, "skipped")
        yield case


def _xml(text: str) -> str:
    return _NOT_XML.sub("", text)


def github(report: Report) -> str:
    """Workflow commands: Actions shows them beside the file, and ten of a step at most.

    One line for each kind of finding that is not accepted.

    Source: https://docs.github.com/actions/reference/workflow-commands-for-github-actions
    """
    levels = {"error": "error", "warning": "warning", "note": "notice"}
    lines = []
    for model in report.models:
        for same in kinds([f for f in model.findings if not f.accepted]):
            file = _property(PurePath(model.path).as_posix())
            title = _property(f"graphkit {same[0].rule}")
            told = _data(_sentence(same[0], len(same)))
            line = clean(f"::{levels[same[0].severity]} file={file},title={title}::{told}")
            lines.append(f"{line}\n")
    return "".join(lines)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
