"""The JSON of a diff is what its shipped schema says, down to every field."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from graphkit.report import json as report_json
from graphkit.report.diffs import Coverage, DiffReport, most_introduced
from tests.report.diff_reports import BAD, BIG, GOOD, MATCH, MISMATCH, complaints


@pytest.mark.parametrize("report", [MATCH, MISMATCH])
def test_the_json_is_what_the_schema_says(report: DiffReport) -> None:
    tree = json.loads(report_json.dumps(report))
    assert complaints(tree, "diff-1") == []
    assert tree["schema"] == "graphkit.diff/1"


def test_the_schema_sees_what_is_wrong() -> None:
    tree = json.loads(report_json.dumps(MISMATCH))
    tree["layers"][0]["confidence"] = 2
    tree["layers"][1]["form"] = "guessed"
    tree["outputs"][0]["metrics"]["nan"] = [1]
    del tree["drift"]["checked"]
    tree["more"] = 1
    assert len(complaints(tree, "diff-1")) >= 5


def test_first_bad_is_one_of_the_layers_and_infinities_are_words() -> None:
    tree = json.loads(report_json.dumps(MISMATCH))
    assert tree["first_bad"] in tree["layers"]
    assert tree["first_bad"]["introduced"]["max_rel"] == "inf"
    assert tree["outputs"][0]["metrics"]["nan"] == [0, 3]


def test_most_introduced_puts_the_accused_first() -> None:
    worse = replace(GOOD, kernel="w", share=0.9)
    odd = replace(GOOD, kernel="n", share=math.nan)
    unmeasured = replace(GOOD, introduced=None)
    unbounded = replace(GOOD, kernel="u", share=None, introduced=BIG)
    found = most_introduced([GOOD, odd, unmeasured, worse, BAD, unbounded])
    assert [x.kernel for x in found] == ["__myl_b", "n", "w", "u", "__myl_a"]
    assert len(most_introduced([GOOD, worse], 1)) == 1


def test_coverage_asks_for_what_computes() -> None:
    assert Coverage(13, 11, 2).share == 1.0
    assert Coverage(0, 0, 0).share == 1.0
