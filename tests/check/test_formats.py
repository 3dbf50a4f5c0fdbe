"""Reports for other tools: SARIF 2.1.0, JUnit XML, GitHub's annotations and JSON keep to their formats."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from graphkit.report import check_formats, check_text
from graphkit.report.checks import Finding, Fixed, ModelCheck, Report
from graphkit.report.json import dumps
from tests.report.diff_reports import NASTY, complaints, is_plain
from tests.report.test_junit import OPTIONAL, REQUIRED

ODD = f"{NASTY}\udc80,:%\n::error::x"  # a name that a file, or a node of anybody's model, may have
PARSER = Finding("parser", "error", "is not supported", "a", "Swish", fix="silu", targets=("sm89",), raw="no")
FINDINGS = (
    PARSER,
    replace(PARSER, node="b"),
    replace(PARSER, node=ODD, message=ODD, stack=("f", ODD), raw=ODD, repro="r.onnx"),
    Finding("unused", "warning", "nobody reads it", tensor=ODD),
    Finding("mixed-precision", "note", "half of it", accepted=True),
    replace(PARSER, node="known", accepted=True),
)
FULL = Report(
    (
        ModelCheck(
            f"a folder/{ODD}.onnx", {"sm89": "fails-parse", "sm120": "ok"}, FINDINGS, 1.5,
            Fixed(("silu",), {"sm89": "fails-parse"}, reason=ODD),
        ),
        ModelCheck("C:b.onnx", {"sm89": "needs-gpu", "sm120": "crashed"}, FINDINGS[3:5]),
        ModelCheck("/c.onnx", {}, ()),
    ),
    ("sm89", "sm120"),
    "TensorRT-RTX 1.4.0.76",
    versions={"graphkit": "0.2", "onnx": "1.20"},
)  # fmt: skip
EMPTY = Report(())
REPORTS = pytest.mark.parametrize("report", [FULL, replace(FULL, fail_on="warning"), EMPTY])


@REPORTS
def test_json_is_what_its_schema_says(report: Report) -> None:
    assert complaints(json.loads(dumps(report)), "check-1") == []


@REPORTS
def test_sarif_has_what_the_standard_demands(report: Report) -> None:
    tree = json.loads(check_formats.sarif(report, {"unused": "Nothing reads it."}))
    assert tree["version"] == "2.1.0" and tree["$schema"].endswith("sarif-2.1.0.json")
    (run,) = tree["runs"]
    driver = run["tool"]["driver"]
    names = [rule["id"] for rule in driver["rules"]]
    assert driver["name"] == "graphkit" and len(names) == len(set(names))
    assert all(rule.get("shortDescription", {"text": "x"})["text"] for rule in driver["rules"])
    assert len(run["results"]) == len(report.findings)
    for result, finding in zip(run["results"], report.findings, strict=True):
        _check_result(result, names)
        assert ("suppressions" in result) == finding.accepted
        assert result["partialFingerprints"] == {"graphkit/v1": finding.fingerprint}


def _check_result(result: dict[str, Any], rules: list[str]) -> None:
    assert result["ruleId"] == rules[result["ruleIndex"]]
    assert result["level"] in ("none", "note", "warning", "error") and result["message"]["text"]
    assert all(s["kind"] in ("inSource", "external") for s in result.get("suppressions", ()))
    (location,) = result["locations"]
    place = location["physicalLocation"]
    # RFC 3986: a reference, whose first segment has no colon when it is relative
    assert re.fullmatch(r"(?:[A-Za-z0-9._~/-]|%[0-9A-F]{2})+", place["artifactLocation"]["uri"])
    assert place["region"]["startLine"] >= 1
    assert all(x["fullyQualifiedName"].endswith(x["name"]) for x in location.get("logicalLocations", ()))


@REPORTS
def test_junit_is_what_its_readers_expect(report: Report) -> None:
    text = check_formats.junit(report)
    assert re.search("[^\t\n\r\x20-\ud7ff\ue000-\ufffd]", text) is None
    root = ET.fromstring(text)
    assert root.tag == "testsuites" and len(root) == len(report.models)
    for element in root.iter():
        required = REQUIRED[element.tag]
        assert required <= set(element.attrib) <= required | OPTIONAL.get(element.tag, set())
        assert all(element.get(name) != "" for name in required)
    for number, suite in enumerate(root):
        assert suite.get("id") == str(number)
        order = re.sub(r"(testcase )+", "testcase ", " ".join(child.tag for child in suite) + " ")
        assert re.fullmatch("properties (testcase )?system-out system-err ", order)
        for name, path in (("tests", ""), ("failures", "/failure"), ("skipped", "/skipped")):
            assert int(suite.get(name, "")) == len(suite.findall(f"testcase{path}"))


def test_junit_fails_where_the_check_does() -> None:
    root = ET.fromstring(check_formats.junit(FULL))
    failed = [c.get("name", "") for c in root.iter("testcase") if c.find("failure") is not None]
    assert failed[0] == "builds for sm89" and len(failed) == 4  # and three open errors
    assert root[1].get("failures") == "0"  # nothing open there is an error
    skipped = [c.get("name", "") for c in root[0].iter("testcase") if c.find("skipped") is not None]
    assert "parser: Swish 'known'" in skipped  # accepted: told, and no failure


def test_github_has_one_line_for_each_kind_and_none_can_be_forged() -> None:
    lines = check_formats.github(FULL).splitlines()
    assert [line.split(" ")[0] for line in lines] == ["::error", "::error", "::warning", "::warning"]
    assert all(is_plain(line) for line in lines)
    for line in lines:
        properties = line.split(" ", 1)[1].split("::")[0]
        assert re.fullmatch(r"file=[^,:]+,title=graphkit [a-z-]+", properties)
    assert lines[0].endswith("::Swish 'a' (and 1 more): is not supported [sm89]; mend: --pass silu")
    assert check_formats.github(EMPTY) == ""


@pytest.mark.parametrize("verbose", [False, True])
def test_text_is_for_a_terminal(verbose: bool) -> None:
    text = check_text.render(FULL, verbose=verbose)
    assert is_plain(text)
    assert text.splitlines()[-1] == (
        "NOT OK: 3 models, 3 errors, 2 warnings (3 accepted), by TensorRT-RTX 1.4.0.76"
    )
    assert ("TensorRT: no" in text) == verbose and ("(accepted)" in text) == verbose
    assert check_text.render(EMPTY).splitlines()[-1] == "ok: 0 models, no findings, by rules alone"
