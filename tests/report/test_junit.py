"""JUnit XML: one test case an output and a kernel, in the order and with the attributes of the Ant schema."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

import pytest

from graphkit.report.diffs import DiffReport, Unmapped
from graphkit.report.junit import render
from tests.report.diff_reports import BAD, GOOD, MATCH, MISMATCH

WHEN = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
# Required attributes, by element, of github.com/windyroad/JUnit-Schema (Apache Ant's format).
REQUIRED = {
    "testsuites": set(),
    "testsuite": {"name", "package", "id", "timestamp", "hostname", "tests", "failures", "errors", "time"},
    "properties": set(),
    "property": {"name", "value"},
    "testcase": {"name", "classname", "time"},
    "failure": {"type"},
    "skipped": set(),
    "system-out": set(),
    "system-err": set(),
}
OPTIONAL = {"testsuite": {"skipped"}, "failure": {"message"}, "skipped": {"message"}}


@pytest.mark.parametrize("report", [MATCH, MISMATCH, replace(MATCH, layers=(), outputs=())])
def test_it_is_valid(report: DiffReport) -> None:
    root = ET.fromstring(render(report, when=WHEN))
    assert root.tag == "testsuites"
    for element in root.iter():
        required = REQUIRED[element.tag]
        assert required <= set(element.attrib) <= required | OPTIONAL.get(element.tag, set())
        assert all(element.get(name) != "" for name in ("name", "classname") if name in required)
        for name in ("time", "tests", "failures", "errors", "skipped", "id"):
            assert re.fullmatch(r"\d+(\.\d+)?", element.get(name, "0"))
    for number, suite in enumerate(root):
        order = re.sub(r"(testcase )+", "testcase ", " ".join(child.tag for child in suite) + " ")
        assert re.fullmatch("properties (testcase )?system-out system-err ", order)
        assert suite.get("timestamp") == "2030-01-02T03:04:05" and suite.get("id") == str(number)
        assert int(suite.get("tests", "")) == len(suite.findall("testcase"))
        assert int(suite.get("failures", "")) == len(suite.findall("testcase/failure"))
        assert int(suite.get("skipped", "")) == len(suite.findall("testcase/skipped"))


def test_one_case_an_output_and_a_kernel() -> None:
    twice = replace(MISMATCH, layers=(GOOD, BAD, replace(BAD, call=3)))
    root = ET.fromstring(render(twice, when=WHEN))
    assert [c.get("name") for c in root.iterfind("testsuite[@name='outputs']/testcase")] == ["y", "z"]
    kernels = root.findall("testsuite[@name='kernels']/testcase[@classname='graphkit.kernel']")
    assert [c.get("name") for c in kernels] == ["__myl_a", "__myl_b"]
    assert kernels[0].find("failure") is None
    failure = kernels[1].find("failure")
    assert failure is not None and failure.text is not None
    assert "20 times its tolerance: scaled by 1.01" in failure.get("message", "")
    assert len(failure.text.splitlines()) == 2 and "call 3" in failure.text


def test_what_is_unpaired_is_skipped_and_no_failure() -> None:
    only = replace(MATCH, unmapped=(Unmapped("t", "k", (1,), "float32", "no metadata"),))
    root = ET.fromstring(render(only, when=WHEN))
    skipped = root.find(".//testcase[@name='k: t']/skipped")
    assert skipped is not None and skipped.get("message") == "no metadata"
    assert root.find(".//failure") is None


def test_control_characters_are_left_out() -> None:
    text = render(MISMATCH, when=WHEN)
    assert re.search("[^\t\n\r\x20-\ud7ff\ue000-\ufffd]", text) is None
    names = [c.get("name") for c in ET.fromstring(text).iter("testcase")]
    assert "a<b>&\"'[31m\u202e" in names
