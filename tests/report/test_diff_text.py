"""The terminal's text: who is to blame comes first, names cannot play tricks, lines fit."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from graphkit.report.diff_text import render
from tests.report.diff_reports import BAD, GOOD, MATCH, MISMATCH, SMALL, is_plain


def test_the_verdict_and_the_first_bad_kernel_come_first() -> None:
    lines = render(MISMATCH).splitlines()
    assert lines[0].startswith("MISMATCH: ") and "the first bad kernel is __myl_b" in lines[0]
    assert lines[2] == "first bad kernel"
    facts = {line[2:14].strip(): line[14:] for line in lines[3:11]}
    assert facts["kernel"].strip() == "__myl_b (fusion)"
    assert facts["ONNX nodes"].strip().startswith("conv1, a<b>")
    assert facts["tensor"].strip() == "'t1' float32 1x2, call 2"
    assert "confidence 1.00: metadata" in facts["paired with"]
    assert "20 times its tolerance" in facts["error"] and "factor of 1.01" in facts["error"]
    assert facts["cause"].strip() == "scaled by 1.01"


def test_everything_else_is_there() -> None:
    text = render(MISMATCH)
    for said in (
        "most introduced error (2 of 3 layers)", "coverage: 3 of 11 tensors paired (27%), 2 copies left out",
        "fusion drift: 1 of 12 kernels differ from a plain build's: __myl_q",
        "run 1: mismatch, first bad __myl_b",
        "8 tensors with no counterpart", "and 3 more", "note: a note", "next: do this next",
        "took 2.5 s (build 1.0)", "BAD", "error 0.02 of the range",
    ):  # fmt: skip
        assert said in text, said


def test_a_match_says_so_and_no_more() -> None:
    exact = replace(GOOD, introduced=replace(SMALL, different=0))
    text = render(replace(MATCH, layers=(exact,)))
    assert text.startswith("MATCH: b.onnx computes what a.onnx does")
    assert "bad" not in text.lower() and "none of 1 layer introduces any error" in text


def test_names_play_no_tricks_on_the_terminal() -> None:
    text = render(MISMATCH, verbose=True)
    assert is_plain(text) and "\\x1b[31m" in text


def test_verbose_lists_everything_and_top_little() -> None:
    many = replace(MISMATCH, layers=tuple(replace(BAD, kernel=f"k{n}") for n in range(30)))
    assert len(re.findall(r"^  k\d+ !", render(many, top=3), re.M)) == 3
    assert len(re.findall(r"^  k\d+ !", render(many, verbose=True), re.M)) == 30
    assert "u7" in render(many, verbose=True) and "u7" not in render(many)


@pytest.mark.parametrize("width", [80, 110, 200])
def test_tables_fit(width: int) -> None:
    long = replace(BAD, kernel="kernel_" + "x" * 300 + "_end", onnx_nodes=("n" * 300,), cause="c" * 90)
    text = render(replace(MISMATCH, layers=(GOOD, long), first_bad=None), width=width)
    table = text.split("most introduced")[1].split("\n\n")[0].splitlines()[1:]
    assert len(table) == 3
    assert all(len(line) <= width for line in table)
    assert any("kern" in line and "…" in line for line in table)


def test_it_is_the_same_every_time() -> None:
    assert render(MISMATCH) == render(MISMATCH)


def test_without_introduced_errors_the_largest_accumulated_are_listed() -> None:
    bare = replace(MISMATCH, layers=tuple(replace(x, introduced=None) for x in MISMATCH.layers))
    assert "largest error (3 of 3 layers)" in render(bare)
